"""Rounding of tensor trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax import formats

METHODS = ('auto', 'gram', 'qr')
methods = pytest.mark.parametrize('method', METHODS)


def train(shape, rank, seed=0, dtype='float32'):
  return formats.random(tn.TT, jax.random.key(seed), shape, rank, dtype)


def gap(x, y):
  x, y = np.asarray(x), np.asarray(y)
  return np.linalg.norm((x - y).ravel()) / np.linalg.norm(x.ravel())


@methods
def test_error_is_true_and_near_that_of_tt_svd(method, precision):
  dtype, eps = precision
  x = train((4, 5, 6, 5), 4, 0, dtype) + 0.3 * train((4, 5, 6, 5), 3, 1, dtype)
  d = tn.tt_round(x, 3, method=method)
  assert d.tensor.ranks == (3, 3, 3)
  assert d.tensor.dtype == x.dtype
  np.testing.assert_allclose(d.relative_error, gap(x.full(), d.tensor.full()), rtol=0.01)
  reference = tn.tt_svd(x.full(), 3).relative_error
  assert d.relative_error < 1.2 * reference
  for core in d.tensor.cores[1:]:
    q = np.asarray(core).reshape(core.shape[0], -1).T
    np.testing.assert_allclose(
      q.T @ q, np.eye(q.shape[1]), atol=1e5 * eps if method != 'qr' else 1e-5
    )


def test_a_sum_with_itself_rounds_without_loss(precision):
  dtype, eps = precision
  x = train((4, 5, 6, 5), 4, 0, dtype)
  double = x + x
  for d in (tn.tt_round(double, x.ranks), tn.tt_round(double, tol=1e3 * eps)):
    assert d.tensor.ranks == x.ranks
    assert gap(double.full(), d.tensor.full()) < 100 * eps
    assert d.relative_error < 100 * eps


def test_a_small_tail_is_not_lost_to_the_gram_matrix():
  x = train((4, 5, 6, 5), 2) + 1e-5 * train((4, 5, 6, 5), 2, 1)
  d = tn.tt_round(x, 4)
  assert gap(x.full(), d.tensor.full()) < 3e-6
  d = tn.tt_round(x, 2)
  np.testing.assert_allclose(d.relative_error, gap(x.full(), d.tensor.full()), rtol=0.05)


@pytest.mark.parametrize('tol', [0.5, 0.1, 1e-3])
def test_tolerance(tol):
  x = train((4, 5, 6, 5), 3)
  for k in range(1, 6):
    x = x + 0.1**k * train((4, 5, 6, 5), 2, k)
  d = tn.tt_round(x, tol=tol)
  assert d.relative_error <= tol
  assert gap(x.full(), d.tensor.full()) <= tol * 1.0001
  assert d.tensor.num_params < x.num_params
  assert max(tn.tt_round(x, ranks=2, tol=tol).tensor.ranks) == 2


def test_many_modes_neither_over_nor_underflow():
  x = train((8,) * 24, 6)  # a norm of 8^12
  skewed = tn.TT(tuple(core * 1e3 ** (1 if k < 12 else -1) for k, core in enumerate(x.cores)))
  for tt in (x, skewed):
    d = tn.tt_round(tt, 4)
    assert 0 < d.relative_error < 1
    assert all(np.isfinite(core).all() for core in d.tensor.cores)


@methods
def test_zero_and_deficient_trains(method):
  x = train((3, 4, 5), 2)
  zero = tn.tt_round(0 * x, 1, method=method)
  assert zero.relative_error == 0
  assert (zero.tensor.full() == 0).all()
  hidden = tn.TT(
    (jnp.array([[[1.0, 0.0]]]), jnp.array([[[0.0]], [[1.0]]]))
  )  # zero, by orthogonality
  assert tn.tt_round(hidden, 1, method=method).relative_error == 0
  same = tn.TT(tuple(jnp.ones_like(core) for core in x.cores))  # rank 1 in rank 2
  assert tn.tt_round(same, 2, method=method).relative_error < 1e-5
  d = tn.tt_round(same, 1, method=method)
  assert gap(same.full(), d.tensor.full()) < 2e-3


def test_jit_vmap_and_complex():
  x = train((3, 4, 5), 4, dtype='complex64')
  d = tn.tt_round(x, 2)
  np.testing.assert_allclose(d.relative_error, gap(x.full(), d.tensor.full()), rtol=1e-3)
  traced = jax.jit(lambda x: tn.tt_round(x, 2))(x)
  jax.tree.map(np.testing.assert_array_equal, d, traced)
  batch = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), x)
  errors = jax.vmap(lambda x: tn.tt_round(x, 2).relative_error)(batch)
  np.testing.assert_allclose(errors, d.relative_error, rtol=1e-4)


def test_gradient_equals_finite_difference():
  with jax.enable_x64(True):
    x, step = train((3, 4, 3), 3, 0, 'float64'), train((3, 4, 3), 3, 1, 'float64')

    def loss(x):
      return jnp.sum(jnp.sin(tn.tt_round(x, 2).tensor.full()))

    def moved(t):
      return loss(jax.tree.map(lambda a, b: a + t * b, x, step))

    gradient = jax.grad(loss)(x)
    slope = sum(jnp.vdot(a, b) for a, b in zip(gradient.cores, step.cores))
    np.testing.assert_allclose(slope, (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-5)


def test_refusals():
  x = train((3, 4, 5), 2)
  with pytest.raises(ValueError, match='give a TT'):
    tn.tt_round(x.full(), 2)
  with pytest.raises(ValueError, match="'gram' or 'qr'"):
    tn.tt_round(x, 2, method='svd')
  with pytest.raises(ValueError, match='give ranks=, or tol='):
    tn.tt_round(x)
  with pytest.raises(ValueError, match='needs 2'):
    tn.tt_round(x, (2, 2, 2))
  with pytest.raises(ValueError, match='core 1 of x .* NaN'):
    tn.tt_round(tn.TT((x.cores[0], x.cores[1] * jnp.nan, x.cores[2])), 2)
  with pytest.raises(ValueError, match='traced'):
    jax.jit(lambda x: tn.tt_round(x, tol=0.1).relative_error)(x)
