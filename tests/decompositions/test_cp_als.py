"""CP-ALS: planted, collinear and given factors; canonical form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tests.decompositions.examples import KEY, tensor
from tnjax.decompositions import solve


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_cp_recovers_a_planted_rank(dtype):
  factors = [tensor((n, 4), dtype, n) for n in (6, 7, 8)]
  x = np.einsum('ir,jr,kr->ijk', *factors)
  run = (
    tn.cp_als
    if dtype == 'float32'
    else lambda x, rank, key, **o: solve('cp_als', x, (rank,), key=key, **o)
  )
  d = run(x, 4, KEY, max_iters=2000, tol=0.0, restarts=3)
  assert d.relative_error < 1e4 * np.finfo(dtype).eps


def test_cp_finds_collinear_terms_under_noise():
  """Plain sweeps end 10 to 20 % above the noise after as many sweeps."""
  for seed, cosine in enumerate((0.9, 0.9, 0.99)):
    rng = np.random.default_rng(seed)
    mix = np.linalg.cholesky(np.full((5, 5), cosine) + (1 - cosine) * np.eye(5)).T
    factors = [np.linalg.qr(rng.normal(size=(20, 5)))[0] @ mix for _ in range(3)]
    x, noise = np.einsum('ir,jr,kr->ijk', *factors), rng.normal(size=(20, 20, 20))
    noise *= 0.01 * np.linalg.norm(x) / np.linalg.norm(noise)
    for init in ('random', 'hosvd'):
      d = solve('cp_als', x + noise, (5,), key=KEY, init=init)
      assert d.relative_error < 0.01


def test_cp_goes_on_from_a_given_start_and_keeps_fixed_modes():
  x = tensor()
  start = tn.cp_als(x, 2, KEY, max_iters=3, tol=0.0)
  assert tn.cp_als(x, 2, KEY, 3, 0.0, start.tensor).relative_error < start.relative_error
  kept = tn.cp_als(x, 2, KEY, 3, 0.0, start.tensor, fixed=(0, -1))
  assert kept.relative_error < start.relative_error
  for m in (0, 2):
    cosines = np.abs(np.asarray(kept.tensor.factors[m]).T @ np.asarray(start.tensor.factors[m]))
    np.testing.assert_allclose(np.sort(cosines, axis=None)[-2:], 1, rtol=1e-5)


def test_bad_starts_of_cp_say_what_is_needed():
  x = tensor()
  start = jax.tree.map(jnp.asarray, tn.cp_als(x, 2, KEY, max_iters=3, tol=0.0).tensor)
  for options, words in (
    ({'fixed': (0,)}, r'fixed=\(0,\) needs their factors'),
    ({'init': start, 'fixed': (0, 1, 2)}, 'not all of them'),
    ({'init': start, 'fixed': (1, 1)}, 'distinct modes'),
    ({'init': start, 'fixed': (3,)}, 'distinct modes'),
    ({'init': start, 'restarts': 2}, 'restarts=2'),
    ({'init': 'svd'}, "init='svd'"),
  ):
    with pytest.raises(ValueError, match=words):
      tn.cp_als(x, 2, KEY, **options)
  with pytest.raises(ValueError, match=r'init has shape \(4, 5, 6\) and rank 2.*and 3'):
    tn.cp_als(x, 3, KEY, init=start)


def test_cp_is_canonical_and_restarts_help():
  def check(x, run, keys):
    one, best = run(x, KEY, init='hosvd'), run(x, KEY, restarts=5)
    for d in (one, best):
      weights = np.asarray(d.tensor.weights)
      assert (np.diff(weights) <= 0).all()
      for f in map(np.asarray, d.tensor.factors):
        np.testing.assert_allclose(np.linalg.norm(f, axis=0), 1, rtol=1e-5)
      for f in map(np.asarray, d.tensor.factors[:-1]):
        assert (np.take_along_axis(f, np.abs(f).argmax(0)[None], 0) > 0).all()
    singles = [run(x, k).relative_error for k in keys]
    np.testing.assert_allclose(best.relative_error, min(singles), rtol=1e-3)

  keys = jax.random.split(KEY, 5)
  check(tensor(), lambda x, k, **o: tn.cp_als(x, 2, k, **o), keys)
  x = tensor((5, 6, 7), 'float64')
  check(x, lambda x, k, **o: solve('cp_als', x, (5,), key=k, **o), keys)


def test_an_hosvd_start_of_cp_at_any_scale():
  x = tensor()
  unit = tn.cp_als(x, 2, KEY, init='hosvd').relative_error
  for scale in (1e-30, 1e30):
    found = tn.cp_als(x * np.float32(scale), 2, KEY, init='hosvd').relative_error
    np.testing.assert_allclose(found, unit, rtol=1e-3)
