"""Factor match score, and random tensors of given ranks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax import formats

SHAPE, RANK = (3, 4, 5), 4


def cp(seed, dtype='float32', shape=SHAPE, rank=RANK):
  x = formats.random(tn.CP, jax.random.key(seed), shape, rank, dtype)
  return tn.CP(jnp.linspace(0.5, 2, rank, dtype=x.weights.dtype), x.factors)


def by_hand(a, b, weights):
  """The definition, over all pairings."""

  def component(x, r):
    columns = [np.asarray(f, 'complex128')[:, r] for f in x.factors]
    size = abs(float(x.weights[r])) * np.prod([np.linalg.norm(c) for c in columns])
    return columns, size

  def score(r, s):
    (x, v), (y, w) = component(a, r), component(b, s)
    cos = [abs(np.vdot(p, q)) / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(x, y)]
    return np.prod(cos) * (1 - abs(v - w) / max(v, w) if weights else 1)

  pairings = itertools.permutations(range(a.ranks[0]))
  return max(np.mean([score(r, s) for r, s in enumerate(p)]) for p in pairings)


@pytest.mark.parametrize('weights', [True, False])
@pytest.mark.parametrize('dtype', ['float32', 'complex64', 'bfloat16'])
def test_score_is_the_best_pairing(weights, dtype):
  a, b = cp(0, dtype), cp(1, dtype)
  score = formats.factor_match_score(a, b, weights=weights)
  assert isinstance(score, float)
  np.testing.assert_allclose(score, by_hand(a, b, weights), rtol=1e-6)
  assert 0 < score < 0.95


@pytest.mark.parametrize('phase', [-1.0, 1j])
def test_score_ignores_order_sign_and_where_the_scale_is(phase):
  a = cp(0, 'complex64')
  order = jnp.array([2, 0, 3, 1])
  scales = jnp.array([2.0, 0.25, 1.0, 3.0])
  first, second, third = (f[:, order] for f in a.factors)
  b = tn.CP(-a.weights[order] / scales, (phase * first, second * scales[None], third / phase))
  np.testing.assert_allclose(formats.factor_match_score(a, b), 1, rtol=1e-6)
  assert formats.factor_match_score(a, cp(5, 'complex64')) < 0.9


def test_score_of_different_weights():
  a = cp(0)
  b = tn.CP(4 * a.weights, a.factors)
  np.testing.assert_allclose(formats.factor_match_score(a, b), by_hand(a, b, True), rtol=1e-6)
  np.testing.assert_allclose(formats.factor_match_score(a, b, weights=False), 1, rtol=1e-6)


def test_score_of_vanishing_components_and_of_nan():
  a = cp(0)
  without = tn.CP(a.weights.at[1].set(0), a.factors)
  also = tn.CP(a.weights, (a.factors[0].at[:, 1].set(0), *a.factors[1:]))
  for weights in (True, False):
    np.testing.assert_allclose(formats.factor_match_score(without, also, weights), 1, rtol=1e-6)
    np.testing.assert_allclose(formats.factor_match_score(a, also, weights), 0.75, rtol=1e-6)
  assert np.isnan(formats.factor_match_score(a, tn.CP(a.weights * jnp.nan, a.factors)))


def test_score_errors():
  a = cp(0)
  with pytest.raises(ValueError, match=r'b has rank 3; it needs the rank of a, 4'):
    formats.factor_match_score(a, cp(0, rank=3))
  with pytest.raises(ValueError, match=r'b has shape \(3, 4, 6\).*\(3, 4, 5\)'):
    formats.factor_match_score(a, cp(0, shape=(3, 4, 6)))
  with pytest.raises(ValueError, match='b is a TT; this needs one of: CP'):
    formats.factor_match_score(a, formats.to_tt(a))


RANDOM = {
  'TT': (tn.TT, (2, 9), (2, 9)),
  'TT of one rank': (tn.TT, 3, (3, 3)),
  'TR': (tn.TR, (2, 3, 4), (2, 3, 4)),
  'CP': (tn.CP, 7, (7,)),
  'Tucker': (tn.Tucker, (9, 2, 2), (9, 2, 2)),
  'partial Tucker': (tn.Tucker, (2, None, 3), (2, 4, 3)),
}


@pytest.mark.parametrize('name', RANDOM)
def test_random_has_the_given_ranks_and_unit_variance(name):
  kind, given, ranks = RANDOM[name]
  draw = jax.jit(lambda key: formats.random(kind, key, SHAPE, given))
  x = draw(jax.random.key(0))
  assert isinstance(x, kind)
  assert (x.shape, x.ranks, x.dtype) == (SHAPE, ranks, 'float32')
  keys = jax.random.split(jax.random.key(1), 2000)
  entries = jax.jit(jax.vmap(lambda key: draw(key).full()))(keys)
  np.testing.assert_allclose(np.mean(entries**2), 1, atol=0.1)
  assert abs(np.mean(entries)) < 0.02


@pytest.mark.parametrize('kind', [tn.CP, tn.Tucker, tn.TT, tn.TR])
@pytest.mark.parametrize('dtype', ['complex64', 'bfloat16'])
def test_random_in_other_dtypes(kind, dtype):
  x = formats.random(kind, jax.random.key(0), (40, 50), 1, dtype)
  assert all(a.dtype == dtype for a in x.arrays)
  size = np.abs(np.asarray(x.arrays[-1].astype('complex64')))
  np.testing.assert_allclose(np.mean(size**2), 1, atol=0.5)


def test_random_depends_on_the_key_alone():
  x, y, z = (formats.random(tn.TR, jax.random.key(k), SHAPE, 2) for k in (0, 0, 1))
  jax.tree.map(np.testing.assert_array_equal, x, y)
  assert all((a != b).all() for a, b in zip(x.cores, z.cores))


@pytest.mark.parametrize(
  ('kind', 'shape', 'ranks', 'text'),
  [
    (
      tn.TT,
      SHAPE,
      (2, 3, 4),
      r'\(2, 3, 4\) has 3 entries; this shape needs 2',
    ),
    (tn.TR, SHAPE, (2, 3), 'needs 3: one per mode'),
    (tn.Tucker, SHAPE, (2,), 'needs 3: one per mode'),
    (tn.CP, SHAPE, (2, 2), 'needs 1: the CP rank'),
    (tn.TT, SHAPE, 0, 'ranks=0 must all be at least 1'),
    (tn.Tucker, SHAPE, (2, -1, 2), 'must all be at least 1'),
    (tn.TT, (3, 0), 1, r'shape=\(3, 0\)'),
    (tn.TT, (), 1, r'shape=\(\)'),
    (tn.Shuffled, SHAPE, 1, 'kind=.*Shuffled.* must be one of CP, Tucker, TT, TR'),
  ],
)
def test_random_errors(kind, shape, ranks, text):
  with pytest.raises(ValueError, match=text):
    formats.random(kind, jax.random.key(0), shape, ranks)


def test_random_of_integers_is_refused():
  with pytest.raises(ValueError, match='dtype=int32'):
    formats.random(tn.TT, jax.random.key(0), SHAPE, 2, 'int32')
