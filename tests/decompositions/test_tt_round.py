"""Rounding of tensor trains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax.decompositions import solve

METHODS = ('auto', 'gram', 'qr')
methods = pytest.mark.parametrize('method', METHODS)


def train(shape, rank, seed=0, dtype='float32'):
  """Entries of unit variance."""
  rng = np.random.default_rng(seed)
  bonds = (1, *tn.ranks.tt_ranks(shape, rank), 1)
  cores = []
  for k, n in enumerate(shape):
    size = (bonds[k], n, bonds[k + 1])
    core = rng.normal(size=size)
    if np.dtype(dtype).kind == 'c':
      core = (core + 1j * rng.normal(size=size)) / 2**0.5
    cores.append((core / bonds[k] ** 0.5).astype(dtype))
  return tn.TT(tuple(cores))


def total(x, *terms):
  """x + c * y for all terms (c, y), by NumPy."""
  blocks = [x.cores] + [(np.asarray(c, y.dtype) * y.cores[0], *y.cores[1:]) for c, y in terms]
  cores = []
  for k, parts in enumerate(zip(*blocks)):
    if k in (0, len(x.cores) - 1):
      cores.append(np.concatenate(parts, axis=0 if k else 2))
      continue
    lefts, rights = (np.cumsum([0, *(p.shape[a] for p in parts)]) for a in (0, 2))
    core = np.zeros((lefts[-1], parts[0].shape[1], rights[-1]), x.dtype)
    for p, a, b in zip(parts, lefts, rights):
      core[a : a + p.shape[0], :, b : b + p.shape[2]] = p
    cores.append(core)
  return tn.TT(tuple(cores))


def gap(x, y):
  x, y = (jax.tree.map(np.asarray, tt).full() for tt in (x, y))
  return np.linalg.norm((x - y).ravel()) / np.linalg.norm(x.ravel())


@pytest.mark.parametrize(
  ('method', 'precision'),
  [*((method, 'float32') for method in METHODS), ('auto', 'float64')],
  indirect=['precision'],
)
def test_error_is_true_and_near_that_of_tt_svd(method, precision):
  dtype, eps = precision
  x = total(train((4, 5, 6, 5), 4, 0, dtype), (0.3, train((4, 5, 6, 5), 3, 1, dtype)))
  d = tn.tt_round(x, 3, method=method)
  assert d.tensor.ranks == (3, 3, 3)
  assert d.tensor.dtype == x.dtype
  np.testing.assert_allclose(d.relative_error, gap(x, d.tensor), rtol=0.01)
  reference = solve('tt_svd', x.full(), (3, 3, 3)).relative_error
  assert d.relative_error < 1.2 * reference
  for core in d.tensor.cores[1:]:
    q = np.asarray(core).reshape(core.shape[0], -1).T
    np.testing.assert_allclose(
      q.T @ q, np.eye(q.shape[1]), atol=1e5 * eps if method != 'qr' else 1e-5
    )


def test_a_sum_with_itself_rounds_without_loss(precision):
  dtype, eps = precision
  x = train((4, 5, 6, 5), 4, 0, dtype)
  double = total(x, (1, x))
  for d in (tn.tt_round(double, x.ranks), tn.tt_round(double, tol=1e3 * eps)):
    assert d.tensor.ranks == x.ranks
    assert gap(double, d.tensor) < 100 * eps
    assert d.relative_error < 100 * eps


def test_a_small_tail_is_not_lost_to_the_gram_matrix():
  x = total(train((4, 5, 6, 5), 2), (1e-5, train((4, 5, 6, 5), 2, 1)))
  d = tn.tt_round(x, 4)
  assert gap(x, d.tensor) < 3e-6
  d = tn.tt_round(x, 2)
  np.testing.assert_allclose(d.relative_error, gap(x, d.tensor), rtol=0.05)


@pytest.mark.parametrize('tol', [0.5, 0.1, 1e-3])
def test_tolerance(tol):
  terms = [(0.1**k, train((4, 5, 6, 5), 2, k)) for k in range(1, 6)]
  x = total(train((4, 5, 6, 5), 3), *terms)
  d = tn.tt_round(x, tol=tol)
  assert d.relative_error <= tol
  assert gap(x, d.tensor) <= tol * 1.0001
  assert d.tensor.num_params < x.num_params
  assert max(tn.tt_round(x, ranks=2, tol=tol).tensor.ranks) == 2


def test_many_modes_neither_over_nor_underflow():
  x = train((512,) * 8, 6)  # a norm of 512^4
  skewed = tn.TT(tuple(c * np.float32(1e9 if k < 4 else 1e-9) for k, c in enumerate(x.cores)))
  for tt in (x, skewed):
    d = tn.tt_round(tt, 4)
    assert 0 < d.relative_error < 1
    assert all(np.isfinite(core).all() for core in d.tensor.cores)


@methods
def test_zero_and_deficient_trains(method):
  x = train((3, 4, 5), 2)
  zero = tn.tt_round(tn.TT(tuple(0 * core for core in x.cores)), 1, method=method)
  assert zero.relative_error == 0
  assert (jax.tree.map(np.asarray, zero.tensor).full() == 0).all()
  hidden = tn.TT(
    (np.array([[[1.0, 0.0]]], 'f'), np.array([[[0.0]], [[1.0]]], 'f'))
  )  # zero, by orthogonality
  assert tn.tt_round(hidden, 1, method=method).relative_error == 0
  same = tn.TT(tuple(np.ones_like(core) for core in x.cores))  # rank 1 in rank 2
  assert tn.tt_round(same, 2, method=method).relative_error < 1e-5
  d = tn.tt_round(same, 1, method=method)
  assert gap(same, d.tensor) < 2e-3


def test_jit_vmap_and_complex():
  x = train((3, 4, 5), 4, dtype='complex64')
  d = tn.tt_round(x, 2)
  np.testing.assert_allclose(d.relative_error, gap(x, d.tensor), rtol=1e-3)
  traced = jax.jit(lambda x: tn.tt_round(x, 2))(x)
  jax.tree.map(np.testing.assert_array_equal, d, traced)
  batch = jax.tree.map(lambda a: np.stack([a, 2 * a]), x)
  errors = jax.jit(jax.vmap(lambda x: tn.tt_round(x, 2).relative_error))(batch)
  np.testing.assert_allclose(errors, d.relative_error, rtol=1e-4)


def test_gradient_equals_finite_difference():
  with jax.enable_x64(True):
    x, step = train((3, 4, 3), 3, 0, 'float64'), train((3, 4, 3), 3, 1, 'float64')

    @jax.jit
    @jax.value_and_grad
    def loss(x):
      return jnp.sum(jnp.sin(tn.tt_round(x, 2).tensor.full()))

    def moved(t):
      return loss(jax.tree.map(lambda a, b: a + t * b, x, step))[0]

    gradient = loss(x)[1]
    slope = sum(np.vdot(a, b) for a, b in zip(gradient.cores, step.cores))
    np.testing.assert_allclose(slope, (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-5)


def test_refusals():
  x = train((3, 4, 5), 2)
  with pytest.raises(ValueError, match='give a TT'):
    tn.tt_round(x.full(), 2)
  with pytest.raises(ValueError, match='one of auto, gram, qr'):
    tn.tt_round(x, 2, method='svd')
  with pytest.raises(ValueError, match='give ranks=, or tol='):
    tn.tt_round(x)
  with pytest.raises(ValueError, match='needs 2'):
    tn.tt_round(x, (2, 2, 2))
  with pytest.raises(ValueError, match='core 1 of x .* NaN'):
    tn.tt_round(tn.TT((x.cores[0], x.cores[1] * np.float32('nan'), x.cores[2])), 2)
  with pytest.raises(ValueError, match='traced'):
    jax.jit(lambda x: tn.tt_round(x, tol=0.1).relative_error)(x)
