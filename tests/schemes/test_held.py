import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

KEY = jax.random.key(1)
CASES = [
  ('svd', (20, 12), 8, 3),
  ('svd', (3, 3, 8, 12), 8, 3),
  ('cp', (3, 3, 8, 12), 7, 3),
  ('tk', (3, 3, 8, 12), (6, 7), (3, 4)),
  ('tt', (3, 3, 8, 12), (6, 8, 6), (3, 4, 3)),
  ('tr', (3, 3, 8, 12), (2, 3, 3, 3), (2, 2, 2, 2)),
  ('r_cp', (3, 3, 8, 8), 7, 3),
  ('r_tk', (3, 3, 8, 8), (3, 2, 3, 2), (2, 2, 2, 2)),
  ('r_tt', (3, 3, 8, 8), (4, 4, 4), (2, 3, 2)),
  ('tk', (20, 4, 12), (2, 5), (1, 3)),  # one spatial mode, larger than the ranks' product
]


def held_and_smaller(name, shape, high, low):
  make = getattr(tn.schemes, name)
  p, q = make(ranks=high).bind(shape), make(ranks=low).bind(shape)
  weight = jax.random.normal(jax.random.key(0), shape)
  return tn.schemes.Held(p, p.fit(weight, KEY).factors), q


@pytest.mark.parametrize('case', CASES, ids=lambda c: f'{c[0]}-{len(c[1])}')
def test_the_core_gives_what_the_whole_weight_does(case, monkeypatch):
  held, q = held_and_smaller(*case)
  dense = held.parametrization.dense(held.factors)
  wanted = q.fit(dense, KEY)
  with monkeypatch.context() as patched:
    patched.setattr(tn.schemes._held, 'rebuild', None)  # it is not to be called
    assert held.core[0].shape == held.core_shape
    found = tn.schemes.fit_all(q, [held], [KEY])[0]
  for fit in (found, wanted):
    error = np.linalg.norm(q.dense(fit.factors) - dense) / np.linalg.norm(dense)
    np.testing.assert_allclose(fit.relative_error, error, rtol=1e-3)
  np.testing.assert_allclose(found.relative_error, wanted.relative_error, rtol=1e-3)
  norms = [np.linalg.norm(a) for a in found.factors.values()]
  if case[0] in ('svd', 'cp', 'r_cp'):
    np.testing.assert_allclose(norms, norms[0], rtol=1e-4)  # balanced


def test_core_and_bases_are_the_weight():
  held, _ = held_and_smaller('tk', (3, 3, 8, 12), (3, 4), (2, 2))
  core, (_, _, s, t) = held.core
  np.testing.assert_allclose(np.einsum('hwab,sa,tb->hwst', core, s, t), held, atol=1e-5)
  np.testing.assert_allclose(s.T @ s, np.eye(3), atol=1e-12)


def test_higher_ranks_and_other_folds_take_the_whole_weight():
  held, _ = held_and_smaller('tk', (3, 3, 8, 8), (3, 4), (2, 2))
  for scheme in (tn.schemes.tk(ranks=(5, 5)), tn.schemes.tt(ranks=4), tn.schemes.r_tt(ranks=4)):
    q = scheme.bind((3, 3, 8, 8))
    found, wanted = tn.schemes.fit_all(q, [held], [None])[0], q.fit(held.dense)
    np.testing.assert_allclose(found.relative_error, wanted.relative_error, atol=1e-6)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', 'float32'])
@pytest.mark.parametrize('low', [(3, 4), (6, 7)])
def test_the_error_is_that_of_the_stored_factors(dtype, low):
  held, q = held_and_smaller('tk', (3, 3, 8, 12), (6, 7), low)
  held = tn.schemes.Held(
    held.parametrization, {n: a.astype(dtype) for n, a in held.factors.items()}
  )
  found = tn.schemes.fit_all(q, [held], [None])[0]

  def dense(factors):
    wide = [np.asarray(factors[n]).astype('float64') for n in ('core', 'factor_2', 'factor_3')]
    return np.einsum('hwab,sa,tb->hwst', *wide)

  weight = dense(held.factors)
  error = np.linalg.norm(dense(found.factors) - weight) / np.linalg.norm(weight)
  np.testing.assert_allclose(found.relative_error, error, rtol=0.01)


def test_a_large_core_takes_the_whole_weight(monkeypatch):
  held, q = held_and_smaller('tk', (3, 3, 8, 12), (6, 7), (3, 4))
  wanted = q.fit(held.dense)
  monkeypatch.setattr(tn.schemes._fit, 'HOST', 9 * 6 * 7 - 1)
  monkeypatch.setattr(tn.schemes._held, 'contract', None)  # no core is made
  found = tn.schemes.fit_all(q, [held], [None])[0]
  np.testing.assert_array_equal(found.relative_error, wanted.relative_error)


def test_a_rule_sees_the_present_ranks():
  rng = np.random.RandomState(0)
  weight = (rng.randn(40, 12) @ rng.randn(12, 60) + 0.1 * rng.randn(40, 60)).astype('float32')
  p = tn.schemes.svd(ranks=24).bind(weight.shape)
  held = tn.schemes.Held(p, p.fit(jnp.asarray(weight)).factors)
  half = tn.schemes.svd(ranks=tn.ranks.Evbmf(0.5)).resolve(held)
  assert half.ranks == (18,)  # half-way from 24, its present rank, to the 12 that stand out
  kept = tn.schemes.svd(ranks=tn.ranks.Tolerance(1e-5)).resolve(held)
  assert kept.ranks == (24,)


def test_layers_decompose_their_core(monkeypatch):
  dense = nnx.Conv(8, 8, (3, 3), rngs=nnx.Rngs(0))
  layer = tn.nn.Conv.from_dense(dense, tn.schemes.tk(ranks=6))
  wanted = tn.nn.Conv.from_dense(layer.to_dense(), tn.schemes.tk(ranks=3))
  for room in (tn.schemes._held, tn.nn._factorised):
    monkeypatch.setattr(room, 'rebuild', None)
  found = tn.nn.Conv.from_dense(layer, tn.schemes.tk(ranks=3))
  x = jax.random.normal(jax.random.key(0), (2, 6, 6, 8))
  np.testing.assert_allclose(found(x), wanted(x), atol=1e-4)


def test_a_damaged_or_missing_key_is_told():
  held, _ = held_and_smaller('cp', (3, 3, 8, 12), 7, 3)
  q = tn.schemes.cp(ranks=3, solver=tn.schemes.Solver('cp_als', restarts=2)).bind((3, 3, 8, 12))
  with pytest.raises(ValueError, match='key=None'):
    tn.schemes.fit_all(q, [held], [None])
  with pytest.raises(ValueError, match=r'weight has shape \(3, 3, 8, 12\); .* bound to \(8, 8\)'):
    tn.schemes.fit_all(tn.schemes.svd(ranks=2).bind((8, 8)), [held], [None])
