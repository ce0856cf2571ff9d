"""The contract of the house over a table of methods: add a row to join."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tnjax as tn
from tests.decompositions.examples import KEY, SHAPE, complex_tensor, dense, gap, tensor
from tnjax.decompositions import solve


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
  Method('tr_svd', lambda x, r, **o: tn.tr_svd(x, r)),
  Method('tr_als', lambda x, r, **o: tn.tr_als(x, r, **o)),
  Method('cp_als', lambda x, r, **o: tn.cp_als(x, r, KEY, **o), exact_at=0),
  Method('shuffled', lambda x, r, **o: tn.shuffled(x, tn.tt_svd, key=KEY, ranks=r)),
]
ITERATIVE = {'hooi', 'tr_als', 'cp_als'}
methods = pytest.mark.parametrize('method', METHODS, ids=repr)


# What does not concern compilation runs on the host, over many shapes and ranks; the compiled
# engine always meets rank 2 of one shape, so that each of its programs is compiled once.
SHAPES = (SHAPE, (5, 2, 3, 4), (7, 8))


def fixed_sweeps(method):
  return {'max_iters': 4, 'tol': 0.0} if method.name in ITERATIVE else {}


def on_host(method, x, rank, **options):
  """The method without a compiler; the permutation of `shuffled` apart."""
  if method.name == 'shuffled':
    inner = functools.partial(on_host, METHODS[0])
    with jax.enable_x64(True):
      d = tn.shuffled(x, lambda x, rank: inner(np.asarray(x), rank), key=KEY, rank=rank)
    return d
  if method.name == 'cp_als':
    ranks = tn.ranks.cp_ranks(x.shape, rank)
  elif method.name in ('hosvd', 'hooi'):
    ranks = tn.ranks.tucker_ranks(x.shape, rank)
  elif method.name == 'tt_svd':
    ranks = tn.ranks.tt_ranks(x.shape, rank)
  else:
    ranks = tn.ranks.tr_ranks(x.shape, rank)
  return solve(method.name, x, ranks, key=KEY, **options)


@functools.cache
def traced(method):
  return jax.jit(lambda x: method.run(x, 2))


@functools.cache
def gradient_of_the_sum(method):
  """Gradient, and the decomposition itself, after a fixed number of sweeps."""

  def loss(x):
    d = method.run(x, 2, **fixed_sweeps(method))
    return d.tensor.full().sum(), d

  return jax.jit(jax.grad(loss, has_aux=True))


@methods
def test_error_is_true(method):
  x = tensor()
  d = method.run(x, 2)
  assert d.tensor.shape == x.shape
  assert d.tensor.dtype == d.relative_error.dtype == x.dtype
  assert abs(d.relative_error - gap(x, d)) < 0.01 * gap(x, d) + 1e-6


@methods
def test_error_is_true_on_the_host(method):
  for shape in SHAPES[: 1 if method.name == 'shuffled' else 3]:
    x = tensor(shape, 'float64')
    for rank in (1, 2, 3):
      d = on_host(method, x, rank)
      assert d.tensor.shape == x.shape
      assert d.tensor.dtype == d.relative_error.dtype == x.dtype
      assert abs(d.relative_error - gap(x, d)) < 0.01 * gap(x, d) + 2e-15


@methods
def test_exact_at_full_rank(method):
  if not method.exact_at:
    pytest.skip('CP promises no finite exact rank for ALS; see test_cp_recovers_a_planted_rank')
  assert gap(tensor(), method.run(tensor(), method.exact_at)) < 50 * np.finfo('float32').eps
  for x in (tensor(dtype='float64'), complex_tensor(SHAPE, 'complex128', 0)):
    assert gap(x, on_host(method, x, method.exact_at)) < 50 * np.finfo('float64').eps


@methods
def test_error_is_monotone_in_rank(method):
  for shape in SHAPES[: 1 if method.name == 'shuffled' else 3]:
    x = tensor(shape, 'float64')
    errors = [float(on_host(method, x, r).relative_error) for r in (1, 2, 3, 4)]
    assert all(b <= a + 1e-3 for a, b in zip(errors, errors[1:])), errors


@methods
def test_jit_equals_eager_to_the_bit(method):
  x = tensor()
  eager = method.run(x, 2)
  jax.tree.map(np.testing.assert_array_equal, eager, traced(method)(x))


@methods
def test_vmap_equals_loop(method):
  batch = tensor((3, *SHAPE))
  run = lambda x: method.run(x, 2, **fixed_sweeps(method))  # noqa: E731
  together = jax.device_get(jax.jit(jax.vmap(run))(batch))
  for i, x in enumerate(batch):
    alone = dense(gradient_of_the_sum(method)(x)[1].tensor)
    full = dense(jax.tree.map(lambda a, i=i: a[i], together.tensor))
    assert np.linalg.norm(full - alone) < 1e-3 * np.linalg.norm(x)


@methods
def test_gradient_equals_finite_difference(method):
  with jax.enable_x64(True):
    x, step = (tensor((3, 4, 3), 'float64', seed) for seed in (0, 1))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(x):
      d = method.run(x, 2, **fixed_sweeps(method))
      return jnp.sum(jnp.sin(d.tensor.full())), d

    ((above, _), _), ((below, _), _) = loss(x + 1e-6 * step), loss(x - 1e-6 * step)
    (_, d), gradient = loss(x)
    slope = float(above - below)
    np.testing.assert_allclose(2e-6 * np.vdot(gradient, step), slope, rtol=1e-4)
    assert d.relative_error.dtype == x.dtype
    assert abs(d.relative_error - gap(x, d)) < 1e-12


@methods
def test_complex_gradient_equals_finite_difference(method):
  with jax.enable_x64(True):
    x, step, w = (complex_tensor((3, 4, 3), 'complex128', 2 * i) for i in range(3))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(x):
      d = method.run(x, 2, **fixed_sweeps(method))
      return jnp.real(jnp.sum(w * d.tensor.full())), d

    ((above, _), _), ((below, _), _) = loss(x + 1e-6 * step), loss(x - 1e-6 * step)
    (_, d), gradient = loss(x)
    slope = float(above - below) / 2e-6
    np.testing.assert_allclose(np.sum(np.asarray(gradient) * step).real, slope, rtol=1e-4)
    assert d.tensor.dtype == x.dtype
    assert abs(d.relative_error - gap(x, d)) < 1e-12


@methods
def test_gradient_is_finite_at_zero_and_deficient_input(method):
  for x in (np.zeros(SHAPE, 'float32'), np.ones(SHAPE, 'float32')):
    assert np.isfinite(gradient_of_the_sum(method)(x)[0]).all()


@methods
def test_reverse_mode_through_a_tolerance_says_what_to_do(method):
  if method.name not in ITERATIVE:
    pytest.skip('a direct method has no tolerance')
  x = tensor()
  with pytest.raises(ValueError, match=r'pass tol=0\.'):
    jax.make_jaxpr(jax.grad(lambda x: method.run(x, 2).tensor.full().sum()))(x)
  full, tangent = jax.jit(lambda x: jax.jvp(lambda x: method.run(x, 2).tensor.full(), (x,), (x,)))(
    x
  )
  np.testing.assert_allclose(tangent, full, atol=0.1)


@methods
def test_scale_does_not_matter(method):
  x = tensor() / np.abs(tensor()).max()
  unit = method.run(x, 2).relative_error
  for scale in (1e-30, 1e30, 9e37, 3.4e38):
    scaled = x * np.float32(scale)
    d = method.run(scaled, 2)
    np.testing.assert_allclose(d.relative_error, unit, rtol=1e-3)
    wide = jax.tree.map(lambda a: np.asarray(a, 'float64' if a.dtype.kind == 'f' else a.dtype), d)
    np.testing.assert_allclose(gap(scaled.astype('float64'), wide), unit, rtol=1e-3)


@methods
def test_what_the_backend_takes_for_zero_is_refused(method):
  x = (tensor() * 1e-40).astype('float32')
  assert x.any()
  with pytest.raises(ValueError, match='power of two'):
    method.run(x, 2)


@methods
@pytest.mark.parametrize('scale', [1e-25, 1e25])
def test_gradients_do_not_depend_on_the_scale(method, scale):
  x, gradient = tensor(), gradient_of_the_sum(method)
  scaled, unit = (gradient(y)[0] for y in (x * np.float32(scale), x))
  np.testing.assert_allclose(scaled, unit, rtol=0.05, atol=0.05)


@pytest.mark.parametrize('method', [m for m in METHODS if m.name in ('hooi', 'tr_als')], ids=repr)
def test_complex_input_in_single_precision(method):
  x = complex_tensor(SHAPE, 'complex64', 0)
  d = method.run(x, 2)
  assert d.tensor.dtype == x.dtype
  assert abs(d.relative_error - gap(x, d)) < 1e-3


@methods
def test_bfloat16_is_computed_in_float32(method):
  x = tensor(dtype='bfloat16')
  d = method.run(x, 2)
  assert d.tensor.dtype == jnp.bfloat16
  reference = method.run(x.astype('float32'), 2)
  assert abs(float(d.relative_error) - float(reference.relative_error)) < 0.02


@methods
def test_zero_and_rank_deficient_input(method):
  zeros, ones = np.zeros(SHAPE, 'float32'), np.ones(SHAPE, 'float32')
  runs = [lambda x: method.run(x, 2)]
  if method.name != 'shuffled':
    runs += [lambda x, r=r: on_host(method, x.astype('float64'), r) for r in (2, 3)]
  for run in runs:
    zero = run(zeros)
    assert zero.relative_error == 0
    assert (dense(zero.tensor) == 0).all()
    one = run(ones)
    assert one.relative_error < 1e-4
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(one.tensor))


@methods
def test_not_a_number(method):
  x = np.ones(SHAPE, 'float32')
  x[0, 0, 0] = np.nan
  with pytest.raises(ValueError, match='NaN'):
    method.run(x, 2)
  assert not np.isfinite(traced(method)(x).relative_error)


@methods
def test_bad_input_says_what_to_pass(method):
  with pytest.raises(ValueError, match='float32'):
    method.run(np.ones((3, 4), 'int32'), 1)
  with pytest.raises(ValueError, match='at least 1 mode'):
    method.run(np.ones((), 'float32'), 1)
  with pytest.raises(ValueError, match=r'\(3, 0\).*empty'):
    method.run(np.ones((3, 0), 'float32'), 1)
  for rank in (0, -2, 1.5):
    with pytest.raises(ValueError, match='ranks?='):
      method.run(np.ones(SHAPE, 'float32'), rank)


@methods
def test_same_key_same_bits(method):
  x = tensor()
  first, again = method.run(x, 2), method.run(x, 2)
  jax.tree.map(np.testing.assert_array_equal, first, again)


@pytest.mark.parametrize('method', METHODS[:-1], ids=repr)
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=7), rank=st.integers(1, 5))
@settings(max_examples=25)
def test_any_shape_and_rank(method, shape, rank):
  x = tensor(tuple(shape), 'float64')
  d = on_host(method, x, rank)
  assert d.tensor.shape == x.shape
  assert float(d.relative_error) <= 1 + 1e-5
  assert abs(float(d.relative_error) - gap(x, d)) < 1e-3


@methods
@pytest.mark.parametrize(('shape', 'rank'), [((3,), 2), ((2, 1, 3, 2, 2), 3)])
def test_any_order_compiled(method, shape, rank):
  x = tensor(shape)
  d = method.run(x, rank, **fixed_sweeps(method))
  assert d.tensor.shape == x.shape
  assert float(d.relative_error) <= 1 + 1e-5
  assert abs(float(d.relative_error) - gap(x, d)) < 1e-3


def test_wrong_number_of_ranks():
  x = np.ones(SHAPE, 'float32')
  for run in (
    lambda: tn.tt_svd(x, (2, 2, 2)),
    lambda: tn.tr_svd(x, (2, 2)),
    lambda: tn.hosvd(x, (2,)),
  ):
    with pytest.raises(ValueError, match='entries; this shape needs'):
      run()


def test_svd_methods_stay_within_the_theory():
  def check(x, rank, tt_svd, hosvd, hooi):
    tails = []
    for k in range(1, x.ndim):
      s = np.linalg.svd(x.reshape(int(np.prod(x.shape[:k])), -1), compute_uv=False)
      tails.append(np.sum(s[rank:] ** 2))
    bound = np.sqrt(sum(tails)) / np.linalg.norm(x.ravel())
    assert tt_svd(x, rank).relative_error <= bound
    assert hooi(x, rank).relative_error <= hosvd(x, rank).relative_error + 1e-6

  check(tensor(), 2, *(m.run for m in METHODS[:3]))
  for shape in ((4, 5, 6, 3), (5, 8, 5), (2, 5, 4, 5, 2)):
    x = tensor(shape, 'float64')
    check(x, 3, *(functools.partial(on_host, m) for m in METHODS[:3]))


@pytest.mark.parametrize('method', [m for m in METHODS if m.name in ITERATIVE], ids=repr)
def test_hooi_and_als_never_get_worse(method):
  x = tensor((5, 6, 7), 'float64')
  rank = 6 if method.name == 'cp_als' else 3
  for d in (gradient_of_the_sum(method)(tensor())[1], on_host(method, x, rank, tol=0.0)):
    errors = np.asarray(d.errors)
    assert len(errors) == d.num_iters
    assert (np.diff(errors) < 1e-5).all()
    np.testing.assert_allclose(errors[-1], d.relative_error, atol=1e-4)


def test_ring_ranks_beyond_the_first_mode_are_kept():
  cores = [tensor((3, n, 3), 'float64', seed=n) for n in (4, 5, 6, 7)]
  x = np.einsum('aib,bjc,ckd,dla->ijkl', *cores, optimize=True)
  d = solve('tr_als', x, tn.ranks.tr_ranks(x.shape, 3), max_iters=300, tol=0.0)
  assert d.tensor.ranks == (3, 3, 3, 3)
  assert d.relative_error < 0.05
  shapes = jax.eval_shape(lambda x: tn.tr_als(x, 3, max_iters=300, tol=0.0), x)
  assert shapes.tensor.ranks == (3, 3, 3, 3)


def test_shuffled_splits_its_key_with_the_method():
  x = tensor()
  d = tn.shuffled(x, tn.cp_als, key=KEY, rank=3, shape=(12, 10))
  assert d.tensor.tensor.shape == (12, 10)
  index = np.asarray(d.tensor.index)
  np.testing.assert_array_equal(dense(d.tensor).ravel(), dense(d.tensor.tensor).ravel()[index])
  with pytest.raises(ValueError, match='60 entries|has 120'):
    tn.shuffled(x, tn.tt_svd, key=KEY, ranks=2, shape=(6, 10))


def test_a_change_that_falls_a_hundredfold_at_once_is_the_last():
  """Noise beside an exact part: no five sweeps are waited for; columns nearly alike: they are."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    parts = [np.linalg.qr(rng.normal(size=(24, 4)))[0] for _ in range(3)]
    x = np.einsum('abc,ia,jb,kc->ijk', rng.normal(size=(4, 4, 4)), *parts)
    x = jnp.asarray(x + 0.01 * rng.normal(size=x.shape))
    d, full = tn.hooi(x, 4), tn.hooi(x, 4, max_iters=30, tol=0.0)
    assert d.converged
    assert d.num_iters <= 4
    np.testing.assert_allclose(d.relative_error, full.relative_error, rtol=1e-10)
    # Columns nearly alike: the changes shrink slowly, from a start where they are small already.
    near = [a[:, :1] + 0.1 * a[:, 1:3] for a in parts]
    x = np.einsum('ir,jr,kr->ijk', *near) + 0.001 * rng.normal(size=x.shape)
    d, full = (
      tn.cp_als(jnp.asarray(x), 2, KEY, max_iters=n, tol=t) for n, t in ((900, 1e-8), (900, 0.0))
    )
    np.testing.assert_allclose(1 - d.relative_error, 1 - full.relative_error, rtol=1e-6)


def test_a_saddle_is_left():
  """Nearly symmetric: sweeps come close to a fit of 0.774, and only then move away from it."""
  rows = '1.1056 -.052 .2788 .0998 -.071 .0089 -.1304 -.1816 -.1914 -.071 .0998 .0089 -.052'
  rows += ' 1.1056 .2788 -.1816 -.1304 -.1914 .2054 .3856 .1869 .3856 .2054 .1869 -.288 -.2879'
  x = np.array([*map(float, rows.split()), 0.0288]).reshape(3, 3, 3)
  with jax.enable_x64(True):
    assert tn.hooi(jnp.asarray(x), 1).relative_error < 0.7529


def test_stopping_rules():
  x = tensor()
  d = tn.hooi(x, 2, max_iters=50, tol=1e-4)
  assert d.converged
  assert d.num_iters < 50
  assert np.isnan(d.errors[int(d.num_iters) :]).all()
  assert not tn.cp_als(x, 2, KEY, max_iters=2, tol=1e-9).converged
  for bad in ({'max_iters': 0}, {'tol': -1.0}, {'tol': jnp.ones(())}):
    with pytest.raises(ValueError, match='max_iters|tol'):
      tn.hooi(x, 3, **bad)
