"""The contract of the house over a table of methods: add a row to join."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnjax as tn

KEY = jax.random.key(7)


@dataclasses.dataclass(frozen=True)
class Method:
  """A decomposition as f(x, rank), and which properties hold for it."""

  name: str
  run: Callable
  exact_at: int = 99  # rank at which any tensor is represented exactly; 0: no such promise
  complex: bool = True

  def __repr__(self):
    return self.name


METHODS = [
  Method('tt_svd', lambda x, r, **o: tn.tt_svd(x, r)),
  Method('hosvd', lambda x, r, **o: tn.hosvd(x, r)),
  Method('hooi', lambda x, r, **o: tn.hooi(x, r, **o)),
  Method('tr_svd', lambda x, r, **o: tn.tr_svd(x, (1, *(r,) * (x.ndim - 1)))),
  Method('tr_als', lambda x, r, **o: tn.tr_als(x, (1, *(r,) * (x.ndim - 1)), **o)),
  Method('cp_als', lambda x, r, **o: tn.cp_als(x, r, KEY, **o), exact_at=0),
  Method('shuffled', lambda x, r, **o: tn.shuffled(x, tn.tt_svd, key=KEY, ranks=r)),
]
ITERATIVE = {'hooi', 'tr_als', 'cp_als'}
methods = pytest.mark.parametrize('method', METHODS, ids=repr)


# Programs are shared: rank 2 of one shape serves most tests, and what is traced is traced once.
SHAPE = (4, 5, 6)


def gap(x, d):
  x = np.asarray(x)
  return np.linalg.norm((x - np.asarray(d.tensor.full())).ravel()) / np.linalg.norm(x.ravel())


def tensor(shape=SHAPE, dtype='float32', seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(jnp.dtype(dtype)))


def complex_tensor(shape, dtype, seed):
  real, imaginary = (np.asarray(tensor(shape, seed=seed + i, dtype='float64')) for i in (0, 1))
  return jnp.asarray((real + 1j * imaginary).astype(dtype))


def fixed_sweeps(method):
  return {'max_iters': 4, 'tol': 0.0} if method.name in ITERATIVE else {}


@functools.cache
def traced(method):
  return jax.jit(lambda x: method.run(x, 2))


@functools.cache
def gradient_of_the_sum(method):
  return jax.jit(jax.grad(lambda x: method.run(x, 2, **fixed_sweeps(method)).tensor.full().sum()))


@methods
def test_error_is_true(method, precision):
  dtype, eps = precision
  x = tensor(dtype=dtype)
  for rank in (1, 2, 3):
    d = method.run(x, rank)
    assert d.tensor.shape == x.shape
    assert d.tensor.dtype == x.dtype
    assert abs(d.relative_error - gap(x, d)) < 0.01 * gap(x, d) + 10 * eps
    assert d.relative_error.dtype == x.dtype


@methods
def test_exact_at_full_rank(method, precision):
  if not method.exact_at:
    pytest.skip('CP promises no finite exact rank for ALS; see test_cp_recovers_a_planted_rank')
  dtype, eps = precision
  x = tensor(dtype=dtype)
  assert gap(x, method.run(x, method.exact_at)) < 50 * eps


@methods
def test_error_is_monotone_in_rank(method):
  x = tensor()
  errors = [float(method.run(x, r).relative_error) for r in (1, 2, 3, 4)]
  assert all(b <= a + 1e-3 for a, b in zip(errors, errors[1:])), errors


@methods
def test_jit_equals_eager_to_the_bit(method):
  x = tensor()
  eager = method.run(x, 2)
  jax.tree.map(np.testing.assert_array_equal, eager, traced(method)(x))


@methods
def test_vmap_equals_loop(method):
  batch = np.asarray(tensor((3, *SHAPE)))
  run = lambda x: method.run(x, 2, **fixed_sweeps(method))  # noqa: E731
  together = jax.device_get(jax.vmap(run)(jnp.asarray(batch)))
  for i, x in enumerate(batch):
    alone = np.asarray(run(jnp.asarray(x)).tensor.full())
    full = np.asarray(jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), together.tensor).full())
    assert np.linalg.norm(full - alone) < 1e-3 * np.linalg.norm(x)


@methods
def test_gradient_equals_finite_difference(method):
  with jax.enable_x64(True):
    x, step = (np.asarray(tensor((3, 4, 3), 'float64', seed)) for seed in (0, 1))

    @jax.jit
    @jax.value_and_grad
    def loss(x):
      return jnp.sum(jnp.sin(method.run(x, 2, **fixed_sweeps(method)).tensor.full()))

    (above, _), (below, _) = loss(x + 1e-6 * step), loss(x - 1e-6 * step)
    gradient = np.asarray(loss(x)[1])
    np.testing.assert_allclose(2e-6 * np.vdot(gradient, step), float(above - below), rtol=1e-4)


@pytest.mark.parametrize(
  'run',
  [
    *(m.run for m in METHODS),
    lambda x, r, **o: tn.tr_svd(x, r),
    lambda x, r, **o: tn.tr_als(x, r, max_iters=4, tol=0.0),
  ],
)
def test_complex_gradient_equals_finite_difference(run):
  with jax.enable_x64(True):
    x, step, w = (np.asarray(complex_tensor((3, 4, 3), 'complex128', 2 * i)) for i in range(3))
    options = {}
    for m in METHODS:
      if run is m.run:
        options = fixed_sweeps(m)

    @jax.jit
    @jax.value_and_grad
    def loss(x):
      return jnp.real(jnp.sum(w * run(x, 2, **options).tensor.full()))

    (above, _), (below, _) = loss(x + 1e-6 * step), loss(x - 1e-6 * step)
    gradient = np.asarray(loss(x)[1])
    np.testing.assert_allclose(np.sum(gradient * step).real, float(above - below) / 2e-6, rtol=1e-4)


@methods
def test_gradient_is_finite_at_zero_and_deficient_input(method):
  for x in (jnp.zeros(SHAPE), jnp.ones(SHAPE)):
    assert np.isfinite(gradient_of_the_sum(method)(x)).all()


@methods
def test_reverse_mode_through_a_tolerance_says_what_to_do(method):
  if method.name not in ITERATIVE:
    pytest.skip('a direct method has no tolerance')
  x = tensor()
  with pytest.raises(ValueError, match=r'pass tol=0\.'):
    jax.grad(lambda x: method.run(x, 2).tensor.full().sum())(x)
  _, tangent = jax.jvp(lambda x: method.run(x, 2).tensor.full(), (x,), (x,))
  np.testing.assert_allclose(tangent, method.run(x, 2).tensor.full(), atol=0.1)


@methods
@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_scale_does_not_matter(method, scale):
  x = tensor()
  small, unit = method.run(x * scale, 2), method.run(x, 2)
  assert np.isfinite(small.tensor.full()).all()
  np.testing.assert_allclose(small.relative_error, unit.relative_error, rtol=1e-3)


@methods
@pytest.mark.parametrize('scale', [1e-25, 1e25])
def test_gradients_do_not_depend_on_the_scale(method, scale):
  if method.name in ('hooi', 'cp_als'):
    pytest.skip('their cotangents meet x itself, so in f32 they overflow near the square of 1e19')
  x, gradient = tensor(), gradient_of_the_sum(method)
  np.testing.assert_allclose(gradient(x * scale), gradient(x), rtol=0.05, atol=0.05)


def test_an_hosvd_start_of_cp_at_any_scale():
  x = tensor()
  unit = tn.cp_als(x, 2, KEY, init='hosvd').relative_error
  for scale in (1e-30, 1e30):
    found = tn.cp_als(x * scale, 2, KEY, init='hosvd').relative_error
    np.testing.assert_allclose(found, unit, rtol=1e-3)


@methods
def test_complex_input(method):
  x = complex_tensor(SHAPE, 'complex64', 0)
  d = method.run(x, 3)
  assert d.tensor.dtype == x.dtype
  assert abs(d.relative_error - gap(x, d)) < 1e-3
  if method.exact_at:
    assert gap(x, method.run(x, method.exact_at)) < 1e-5


@methods
def test_bfloat16_is_computed_in_float32(method):
  x = tensor(dtype='bfloat16')
  d = method.run(x, 3)
  assert d.tensor.dtype == jnp.bfloat16
  reference = method.run(x.astype('float32'), 3)
  assert abs(float(d.relative_error) - float(reference.relative_error)) < 0.02


@methods
def test_zero_and_rank_deficient_input(method):
  zero = method.run(jnp.zeros(SHAPE), 2)
  assert zero.relative_error == 0
  assert (np.asarray(zero.tensor.full()) == 0).all()
  ones = method.run(jnp.ones(SHAPE), 3)
  assert ones.relative_error < 1e-4
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(ones.tensor))


@methods
def test_not_a_number(method):
  x = jnp.ones(SHAPE).at[0, 0, 0].set(jnp.nan)
  with pytest.raises(ValueError, match='NaN'):
    method.run(x, 2)
  assert not np.isfinite(traced(method)(x).relative_error)


@methods
def test_bad_input_says_what_to_pass(method):
  with pytest.raises(ValueError, match='float32'):
    method.run(jnp.ones((3, 4), 'int32'), 1)
  with pytest.raises(ValueError, match='at least 1 mode'):
    method.run(jnp.ones(()), 1)
  with pytest.raises(ValueError, match=r'\(3, 0\).*empty'):
    method.run(jnp.ones((3, 0)), 1)
  for rank in (0, -2, 1.5):
    with pytest.raises(ValueError, match='ranks?='):
      method.run(jnp.ones((3, 4, 5)), rank)


@methods
def test_same_key_same_bits(method):
  x = tensor()
  first, again = method.run(x, 2), method.run(x, 2)
  jax.tree.map(np.testing.assert_array_equal, first, again)


@methods
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=7), rank=st.integers(1, 5))
def test_any_shape_and_rank(method, shape, rank):
  x = tensor(tuple(shape))
  d = method.run(x, rank)
  assert d.tensor.shape == x.shape
  assert float(d.relative_error) <= 1 + 1e-5
  assert abs(float(d.relative_error) - gap(x, d)) < 1e-3


def test_wrong_number_of_ranks():
  x = jnp.ones((3, 4, 5))
  for run in (
    lambda: tn.tt_svd(x, (2, 2, 2)),
    lambda: tn.tr_svd(x, (2, 2)),
    lambda: tn.hosvd(x, (2,)),
  ):
    with pytest.raises(ValueError, match='entries; this shape needs'):
      run()


def test_svd_methods_stay_within_the_theory():
  x = tensor((4, 5, 6, 3))
  tails = []
  for k in (1, 2, 3):
    s = np.linalg.svd(np.asarray(x).reshape(int(np.prod(x.shape[:k])), -1), compute_uv=False)
    tails.append(np.sum(s[3:] ** 2))
  bound = np.sqrt(sum(tails)) / np.linalg.norm(np.asarray(x).ravel())
  assert tn.tt_svd(x, 3).relative_error <= bound
  assert tn.hooi(x, 3).relative_error <= tn.hosvd(x, 3).relative_error + 1e-6


def test_hooi_and_als_never_get_worse():
  x = tensor((5, 6, 7))
  for d in (tn.hooi(x, 3, tol=0.0), tn.tr_als(x, 3, tol=0.0), tn.cp_als(x, 6, KEY, tol=0.0)):
    errors = np.asarray(d.errors)
    assert len(errors) == d.num_iters
    assert (np.diff(errors) < 1e-5).all()
    np.testing.assert_allclose(errors[-1], d.relative_error, atol=1e-4)


def test_partial_tucker_leaves_modes_alone():
  x = tensor((3, 3, 8, 8))
  for run in (tn.hosvd, tn.hooi):
    d = run(x, (2, 5), modes=(2, 3))
    assert d.tensor.factors[0] is None
    assert d.tensor.ranks == (3, 3, 2, 5)
    assert d.tensor.num_params == 9 * 10 + 16 + 40
  assert tn.hosvd(x, (), modes=()).relative_error < 1e-6
  with pytest.raises(ValueError, match='modes'):
    tn.hosvd(x, 2, modes=(1, 1))


def test_cp_recovers_a_planted_rank(precision):
  dtype, eps = precision
  factors = [np.asarray(tensor((n, 4), dtype, n)) for n in (6, 7, 8)]
  x = jnp.asarray(np.einsum('ir,jr,kr->ijk', *factors))
  d = tn.cp_als(x, 4, KEY, max_iters=2000, tol=0.0, restarts=3)
  assert d.relative_error < 1e4 * eps


def test_cp_is_canonical_and_restarts_help():
  x = tensor((5, 6, 7))
  one, best = tn.cp_als(x, 5, KEY, init='hosvd'), tn.cp_als(x, 5, KEY, restarts=5)
  for d in (one, best):
    weights = np.asarray(d.tensor.weights)
    assert (np.diff(weights) <= 0).all()
    for f in d.tensor.factors:
      np.testing.assert_allclose(np.linalg.norm(f, axis=0), 1, rtol=1e-5)
    for f in d.tensor.factors[:-1]:
      assert (np.take_along_axis(np.asarray(f), np.abs(f).argmax(0)[None], 0) > 0).all()
  singles = [tn.cp_als(x, 5, k).relative_error for k in jax.random.split(KEY, 5)]
  np.testing.assert_allclose(best.relative_error, min(singles), rtol=1e-3)


def test_ring_ranks_beyond_the_first_mode_are_kept():
  cores = [np.asarray(tensor((3, n, 3), seed=n)) for n in (4, 5, 6, 7)]
  x = jnp.asarray(np.einsum('aib,bjc,ckd,dla->ijkl', *cores, optimize=True))
  d = tn.tr_als(x, 3, max_iters=300, tol=0.0)
  assert d.tensor.ranks == (3, 3, 3, 3)
  assert d.relative_error < 0.05


def test_shuffled_splits_its_key_with_the_method():
  x = tensor()
  d = tn.shuffled(x, tn.cp_als, key=KEY, rank=3, shape=(12, 10))
  assert d.tensor.tensor.shape == (12, 10)
  index = np.asarray(d.tensor.index)
  np.testing.assert_array_equal(d.tensor.full().ravel(), d.tensor.tensor.full().ravel()[index])
  with pytest.raises(ValueError, match='60 entries|has 120'):
    tn.shuffled(x, tn.tt_svd, key=KEY, ranks=2, shape=(6, 10))


def test_stopping_rules():
  x = tensor((5, 6, 7))
  d = tn.hooi(x, 3, max_iters=50, tol=1e-4)
  assert d.converged
  assert d.num_iters < 50
  assert np.isnan(d.errors[int(d.num_iters) :]).all()
  assert not tn.cp_als(x, 8, KEY, max_iters=2, tol=1e-9).converged
  for bad in ({'max_iters': 0}, {'tol': -1.0}, {'tol': jnp.ones(())}):
    with pytest.raises(ValueError, match='max_iters|tol'):
      tn.hooi(x, 3, **bad)
