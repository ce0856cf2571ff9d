"""Sensitivity of CP and its error-preserving correction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax.decompositions import cp_correct, solve
from tnjax.decompositions._cp_correct import cp_correct_kernel

KEY = jax.random.key(7)
sensitivity = jax.jit(tn.decompositions.sensitivity)  # one program a shape


def host(tree):
  """In NumPy and double precision, where nothing is compiled."""
  return jax.tree.map(lambda a: np.asarray(a).astype(np.result_type(np.asarray(a), 'd')), tree)


def correct_on_host(x, tensor, max_iters=1000, slack=1.001):
  return cp_correct_kernel(host(x), host(tensor), max_iters, slack)


def relative_gap(x, tensor):
  x, full = (np.asarray(a, 'complex128') for a in (x, dense(tensor)))
  return np.linalg.norm(x - full) / np.linalg.norm(x)


def normal(rng, shape, dtype='float32'):
  x = rng.normal(size=shape)
  if np.dtype(dtype).kind == 'c':
    x = (x + 1j * rng.normal(size=shape)) / np.sqrt(2)
  return x.astype(dtype)


def random_cp(seed, shape, rank, dtype='float32'):
  rng = np.random.default_rng(seed)
  factors = tuple(normal(rng, (n, rank), dtype) for n in shape)
  return tn.CP(normal(rng, rank, factors[0].real.dtype), factors)


def dense(tensor):
  """The tensor by NumPy, so that nothing is compiled for it."""
  letters = 'abcdef'[: len(tensor.factors)]
  equation = ','.join(['z', *(f'{x}z' for x in letters)]) + '->' + letters
  full = np.einsum(equation, *host((tensor.weights, *tensor.factors)))
  return full.astype(tensor.dtype)


def border(n, dtype='float32', scale=1.0):
  """a o a o b + a o b o a + b o a o a, of rank 3, and a divergent approximation of rank 2."""
  dtype = jnp.dtype(dtype)
  a, b = np.eye(2, 4)
  x = sum(np.einsum('i,j,k->ijk', *v) for v in ((a, a, b), (a, b, a), (b, a, a))) * scale
  weights = np.array([n, -n]) * scale
  weights = weights.astype(np.finfo(dtype).dtype if dtype.kind == 'c' else dtype)
  return x.astype(dtype), tn.CP(weights, (np.stack([a + b / n, a], axis=1).astype(dtype),) * 3)


def collinear(seed, size=6, terms=4):
  """Terms whose columns are nearly parallel in every mode, and noise of 5 %."""
  rng = np.random.default_rng(seed)
  factors = [normal(rng, (size, 1)) + 0.1 * normal(rng, (size, terms)) for _ in range(3)]
  x = np.einsum('ir,jr,kr->ijk', *factors)
  noise = normal(rng, x.shape)
  x = x + 0.05 * np.linalg.norm(x) / np.linalg.norm(noise) * noise
  return x.astype('float32')


def check(x, before, d, slack=1.001):
  """The contract of every correction: finite, not more sensitive, and no worse than allowed."""
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(d.tensor))
  assert sensitivity(d.tensor) <= sensitivity(before) * (1 + 1e-6)
  assert relative_gap(x, d.tensor) <= slack * relative_gap(x, before) * (1 + 1e-5) + 1e-6
  np.testing.assert_allclose(d.relative_error, relative_gap(x, d.tensor), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize('shape', [(5,), (5, 4), (5, 4, 3), (2, 3, 4, 3)])
@pytest.mark.parametrize('dtype', ['float32', 'complex64'])
def test_sensitivity_is_the_sum_of_squared_derivatives(shape, dtype):
  tensor = random_cp(7, shape, 3, dtype)
  factors = tensor.absorbed().factors
  brute = 0.0
  for n, f in enumerate(factors):  # the tensor is linear in each factor
    for i in np.ndindex(f.shape):
      unit = np.zeros_like(f)
      unit[i] = 1
      step = dense(tn.CP(np.ones(3, 'f'), (*factors[:n], unit, *factors[n + 1 :])))
      brute += np.sum(np.abs(step) ** 2)
  np.testing.assert_allclose(float(sensitivity(tensor)), brute, rtol=1e-5)


def test_sensitivity_is_what_noise_does():
  tensor = random_cp(7, (5, 4, 6), 3, 'float64').absorbed()
  rng, full, changes = np.random.default_rng(0), dense(tensor), []
  for _ in range(4000):
    noisy = tuple(f + 1e-5 * normal(rng, f.shape, 'float64') for f in tensor.factors)
    changes.append(np.sum(((dense(tn.CP(tensor.weights, noisy)) - full) / 1e-5) ** 2))
  np.testing.assert_allclose(float(sensitivity(tensor)), np.mean(changes), rtol=0.05)


def test_scales_shared_in_the_best_way_change_sensitivity_by_a_constant():
  tensor = solve('cp_als', collinear(0), (3,), key=KEY).tensor  # unit columns
  rows = np.array(tensor.shape)
  norms = np.abs(np.asarray(tensor.weights, 'float64'))
  np.testing.assert_allclose(sensitivity(tensor), rows.sum() * np.sum(norms ** (4 / 3)), rtol=1e-5)
  best = 0.0
  for w in norms:  # squared column norms in proportion to I_n
    sizes = rows * (w**2 / rows.prod()) ** (1 / 3)
    best += sum(n * np.prod(np.delete(sizes, i)) for i, n in enumerate(rows))
  constant = 3 * rows.prod() ** (1 / 3) / rows.sum()
  np.testing.assert_allclose(best, constant * float(sensitivity(tensor)), rtol=1e-5)


@pytest.mark.parametrize('n', [30.0, 100.0])
def test_a_divergent_approximation_becomes_ten_times_less_sensitive(n, precision):
  dtype, _ = precision
  x, near = border(n, dtype)
  d = (cp_correct if dtype == 'float32' else correct_on_host)(x, near)
  check(x, near, d)
  assert d.converged
  assert d.tensor.dtype == x.dtype
  assert sensitivity(d.tensor) < sensitivity(near) / 10
  assert len(d.errors) == d.num_iters == 1000
  assert np.isfinite(d.errors).all()


def test_collinear_terms_in_ten_seeds():
  ratios = []
  for seed in range(10):
    x = collinear(seed)
    before = tn.cp_als(x, 6, jax.random.key(seed), max_iters=1000, tol=0.0).tensor
    d = cp_correct(x, before)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(d.tensor))
    assert sensitivity(d.tensor) <= sensitivity(before)
    # The error of terms that cancel is known to within their rounding, spread over all entries.
    terms = np.sum(before.weights) / np.linalg.norm(x)
    rounding = np.finfo('float32').eps * terms / np.sqrt(x.size)
    assert relative_gap(x, d.tensor) <= 1.001 * relative_gap(x, before) + 1e-6 + rounding
    ratios.append(float(sensitivity(before) / sensitivity(d.tensor)))
  assert max(ratios) > 10, ratios
  assert np.median(ratios) > 2, ratios


@pytest.mark.parametrize(('stage', 'rank', 'least'), [(1, 15, 5), (1, 36, 5), (2, 32, 4)])
def test_trained_kernels(shared_data, stage, rank, least):
  weights = np.load(shared_data / 'weights' / 'resnet32.npz')
  kernel = weights[f'layer{stage}.2.conv1.weight'].transpose(1, 2, 3, 0)  # OIHW to IHWO
  x = kernel.reshape(len(kernel), 9, -1)
  before = tn.cp_als(x, rank, KEY, max_iters=1000, tol=1e-8, init='hosvd').tensor
  d = cp_correct(x, before)
  check(x, before, d)
  assert sensitivity(d.tensor) < sensitivity(before) / least


def test_jit_equals_eager_to_the_bit():
  x, near = border(30.0)
  traced = jax.jit(lambda x, t: cp_correct(x, t, 20))(x, near)
  jax.tree.map(np.testing.assert_array_equal, cp_correct(x, near, 20), traced)


def test_vmap_equals_loop():
  xs = np.stack([collinear(seed) for seed in range(3)])
  before = [solve('cp_als', x, (3,), key=KEY, max_iters=50, tol=0.0).tensor for x in xs]
  run = lambda x, t: cp_correct(x, t, 10, slack=1.5)  # noqa: E731
  together = jax.jit(jax.vmap(run))(xs, jax.tree.map(lambda *a: np.stack(a), *before))
  for i, (x, t) in enumerate(zip(xs, before)):
    full = dense(jax.tree.map(lambda a, i=i: a[i], together.tensor))
    assert np.linalg.norm(full - dense(run(x, t).tensor)) < 1e-3 * np.linalg.norm(x)


@pytest.mark.parametrize('dtype', ['float64', 'complex128'])
def test_gradient_equals_finite_difference(dtype):
  with jax.enable_x64(True):
    x, near = dense(random_cp(7, (3, 4, 3), 5, dtype)), random_cp(7, (3, 4, 3), 2, dtype)
    step = dense(random_cp(1, (3, 4, 3), 5, dtype))
    factor = normal(np.random.default_rng(2), near.factors[0].shape, dtype)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(t):
      moved = tn.CP(near.weights, (near.factors[0] + t * factor, *near.factors[1:]))
      d = cp_correct(x + t * step, moved, 8, slack=1.5)
      full = d.tensor.full()
      return jnp.sum(jnp.sin(full.real) + full.imag**2), d

    slope = (float(loss(1e-6)[0][0]) - float(loss(-1e-6)[0][0])) / 2e-6
    (_, d), gradient = loss(0.0)
    assert d.converged
    np.testing.assert_allclose(gradient, slope, rtol=1e-4)


def test_gradient_is_finite_at_zero():
  # both rounds, one sweep each
  zero = tn.CP(np.zeros(2, 'f'), (np.zeros((3, 2), 'f'),) * 3)
  run = jax.jit(jax.grad(lambda x, t: cp_correct(x, t, 2).tensor.full().sum(), (0, 1)))
  for x in (np.zeros((3, 3, 3), 'f'), np.ones((3, 3, 3), 'f')):
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(run(x, zero)))


@pytest.mark.parametrize('run', [cp_correct, correct_on_host])
def test_zeros_and_deficient_input(run):
  near = random_cp(7, (3, 4, 5), 4)
  d = run(np.zeros((3, 4, 5), 'f'), tn.CP(np.zeros(4, 'f'), near.factors), 100)
  assert d.relative_error == 0
  assert (dense(d.tensor) == 0).all()
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(d))
  # an idle column, a term written twice, and a tensor of rank 1 given in four terms
  x = dense(near)
  idle, twice = ([f.copy() for f in near.factors] for _ in range(2))
  for f, g in zip(idle, twice):
    f[:, 1], g[:, 1] = 0, g[:, 0]
  for factors in (idle, twice, [np.ones_like(f) for f in near.factors]):
    given = tn.CP(near.weights, tuple(factors))
    check(x, given, run(x, given, 100))
  ones = np.ones((3, 4, 5), 'f')
  given = solve('cp_als', ones, (4,), key=KEY).tensor
  check(ones, given, run(ones, given, 100))


@pytest.mark.parametrize('shape', [(5,), (5, 4), (2, 3, 2, 3), (1, 1, 1)])
@pytest.mark.parametrize('max_iters', [1, 30])
def test_any_order(shape, max_iters):
  x, given = dense(random_cp(7, shape, 5)), random_cp(1, shape, 3)
  traced = jax.eval_shape(lambda *a: cp_correct(*a, max_iters), x, given)
  runs = [correct_on_host]
  if (len(shape), max_iters) in ((1, 1), (4, 30)):
    runs.append(cp_correct)
  for run in runs:
    d = run(x, given, max_iters)
    check(x, given, d)
    assert d.errors.shape == traced.errors.shape == (max_iters,)
    assert d.tensor.shape == traced.tensor.shape == shape


def test_complex_input():
  x, near = border(30.0, 'complex64')
  turn = np.exp(1j * np.arange(4)).astype('complex64')
  near = tn.CP(near.weights, tuple(turn[:, None] * f for f in near.factors))
  x = np.einsum('ijk,i,j,k->ijk', x, turn, turn, turn)
  for run in (cp_correct, correct_on_host):
    d = run(x, near)
    check(x, near, d)
    assert d.tensor.dtype.kind == 'c'
    assert d.tensor.dtype == x.dtype or run is correct_on_host
    assert sensitivity(d.tensor) < sensitivity(near) / 10


@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_scale_does_not_matter(scale):
  x, near = border(30.0, scale=scale)
  d, unit = cp_correct(x, near), cp_correct(*border(30.0))
  assert np.isfinite(jax.tree.map(np.asarray, d.tensor).full()).all()
  np.testing.assert_allclose(d.relative_error, unit.relative_error, rtol=1e-3)
  assert d.tensor.weights.max() < near.weights.max() / 5


def test_bfloat16_is_computed_in_float32():
  x, near = border(32.0, 'bfloat16')  # a power of two, so the factors are exact
  d = cp_correct(x, near)
  assert d.tensor.dtype == jnp.bfloat16
  assert sensitivity(d.tensor).dtype == jnp.float32
  assert sensitivity(d.tensor) <= sensitivity(near)
  wide = [
    tn.CP(t.weights, tuple(np.asarray(f, 'float32') for f in t.factors)) for t in (d.tensor, near)
  ]
  assert relative_gap(x, wide[0]) <= 1.001 * relative_gap(x, wide[1]) + 1e-5


@pytest.mark.parametrize('run', [cp_correct, correct_on_host])
def test_what_cannot_be_corrected_is_returned(run):
  exact = random_cp(7, (3, 4, 5), 4)
  x = dense(exact)
  d = run(x, exact, 100)
  check(x, exact, d)
  assert d.relative_error < 1e-6


def test_bad_input_says_what_to_pass():
  x, near = border(30.0)
  with pytest.raises(ValueError, match=r'\(4, 4, 4\).*\(4, 4, 3\)'):
    cp_correct(x[..., :3], near)
  with pytest.raises(ValueError, match='tensor is a TT; give a CP'):
    cp_correct(x, tn.tt_svd(x, 1).tensor)
  with pytest.raises(ValueError, match='complex64'):
    cp_correct(x.astype('complex64'), near)
  with pytest.raises(ValueError, match='max_iters'):
    cp_correct(x, near, 0)
  for slack in (0.9, float('nan'), jnp.ones(())):
    with pytest.raises(ValueError, match='slack'):
      cp_correct(x, near, slack=slack)
  with pytest.raises(ValueError, match='NaN'):
    cp_correct(np.full_like(x, np.nan), near)
  assert not cp_correct(x, tn.CP(near.weights * np.float32('nan'), near.factors), 20).converged
