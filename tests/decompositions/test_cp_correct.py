"""Sensitivity of CP and its error-preserving correction."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax.decompositions import cp_correct, sensitivity

KEY = jax.random.key(7)


def relative_gap(x, tensor):
  x, full = (np.asarray(a, 'complex128') for a in (x, tensor.full()))
  return np.linalg.norm(x - full) / np.linalg.norm(x)


def normal(rng, shape, dtype='float32'):
  x = rng.normal(size=shape)
  if np.dtype(dtype).kind == 'c':
    x = (x + 1j * rng.normal(size=shape)) / np.sqrt(2)
  return x.astype(dtype)


def random_cp(seed, shape, rank, dtype='float32'):
  rng = np.random.default_rng(seed)
  factors = tuple(jnp.asarray(normal(rng, (n, rank), dtype)) for n in shape)
  return tn.CP(jnp.asarray(normal(rng, rank, factors[0].real.dtype)), factors)


def dense(tensor):
  """The tensor by NumPy, so that nothing is compiled for it."""
  letters = 'abcdef'[: len(tensor.factors)]
  equation = ','.join(['z', *(f'{x}z' for x in letters)]) + '->' + letters
  full = np.einsum(equation, *(np.asarray(a) for a in (tensor.weights, *tensor.factors)))
  return jnp.asarray(full.astype(tensor.dtype))


def border(n, dtype='float32', scale=1.0):
  """a o a o b + a o b o a + b o a o a, of rank 3, and a divergent approximation of rank 2."""
  a, b = jnp.eye(2, 4, dtype=dtype)
  x = sum(jnp.einsum('i,j,k->ijk', *v) for v in ((a, a, b), (a, b, a), (b, a, a)))
  weights = jnp.array([n, -n], x.real.dtype) * scale
  return x * scale, tn.CP(weights, (jnp.stack([a + b / n, a], axis=1),) * 3)


def collinear(seed, size=6, terms=4):
  """Terms whose columns are nearly parallel in every mode, and noise of 5 %."""
  rng = np.random.default_rng(seed)
  factors = [normal(rng, (size, 1)) + 0.1 * normal(rng, (size, terms)) for _ in range(3)]
  x = np.einsum('ir,jr,kr->ijk', *factors)
  noise = normal(rng, x.shape)
  x = x + 0.05 * np.linalg.norm(x) / np.linalg.norm(noise) * noise
  return jnp.asarray(x.astype('float32'))


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
  jacobian = jax.jacobian(lambda f: tn.CP(jnp.ones(3), f).full(), holomorphic=dtype == 'complex64')
  brute = sum(float(np.sum(np.abs(j) ** 2)) for j in jax.jit(jacobian)(factors))
  np.testing.assert_allclose(float(sensitivity(tensor)), brute, rtol=1e-5)


def test_sensitivity_is_what_noise_does():
  with jax.enable_x64(True):
    tensor = random_cp(7, (5, 4, 6), 3, 'float64').absorbed()

    def change(key):
      keys = jax.random.split(key, 3)
      noisy = [
        f + 1e-5 * jax.random.normal(k, f.shape, f.dtype) for k, f in zip(keys, tensor.factors)
      ]
      gap = tn.CP(tensor.weights, tuple(noisy)).full() - tensor.full()
      return jnp.sum((gap / 1e-5) ** 2)

    mean = np.mean(jax.jit(jax.vmap(change))(jax.random.split(KEY, 4000)))
    np.testing.assert_allclose(float(sensitivity(tensor)), float(mean), rtol=0.05)


def test_scales_shared_in_the_best_way_change_sensitivity_by_a_constant():
  tensor = tn.cp_als(collinear(0), 3, KEY).tensor  # unit columns
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
  d = cp_correct(x, near)
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
    assert relative_gap(x, d.tensor) <= 1.001 * relative_gap(x, before) + 1e-5
    ratios.append(float(sensitivity(before) / sensitivity(d.tensor)))
  assert max(ratios) > 10, ratios
  assert np.median(ratios) > 2, ratios


@pytest.mark.parametrize(('stage', 'rank', 'least'), [(1, 15, 5), (1, 36, 5), (2, 32, 4)])
def test_trained_kernels(shared_data, stage, rank, least):
  weights = np.load(shared_data / 'weights' / 'resnet32.npz')
  kernel = weights[f'layer{stage}.2.conv1.weight'].transpose(1, 2, 3, 0)  # OIHW to IHWO
  x = jnp.asarray(kernel.reshape(len(kernel), 9, -1))
  before = tn.cp_als(x, rank, KEY, max_iters=1000, tol=1e-8, init='hosvd').tensor
  d = cp_correct(x, before)
  check(x, before, d)
  assert sensitivity(d.tensor) < sensitivity(before) / least


def test_jit_equals_eager_to_the_bit():
  x, near = border(30.0)
  traced = jax.jit(lambda x, t: cp_correct(x, t, 20))(x, near)
  jax.tree.map(np.testing.assert_array_equal, cp_correct(x, near, 20), traced)


def test_vmap_equals_loop():
  x = jnp.asarray(np.stack([collinear(seed) for seed in range(3)]))
  before = jax.vmap(lambda x: tn.cp_als(x, 3, KEY, max_iters=50, tol=0.0).tensor)(x)
  together = jax.vmap(lambda x, t: cp_correct(x, t, 10, slack=1.5))(x, before)
  for i in range(3):
    alone = cp_correct(x[i], jax.tree.map(lambda a, i=i: a[i], before), 10, slack=1.5)
    full = jax.tree.map(lambda a, i=i: a[i], together.tensor).full()
    assert np.linalg.norm(full - alone.tensor.full()) < 1e-3 * np.linalg.norm(x[i])


@pytest.mark.parametrize('dtype', ['float64', 'complex128'])
def test_gradient_equals_finite_difference(dtype):
  with jax.enable_x64(True):
    x, near = dense(random_cp(7, (3, 4, 3), 5, dtype)), random_cp(7, (3, 4, 3), 2, dtype)
    step = dense(random_cp(1, (3, 4, 3), 5, dtype))
    factor = normal(np.random.default_rng(2), near.factors[0].shape, dtype)

    @jax.jit
    @jax.value_and_grad
    def loss(t):
      moved = tn.CP(near.weights, (near.factors[0] + t * factor, *near.factors[1:]))
      full = cp_correct(x + t * step, moved, 8, slack=1.5).tensor.full()
      return jnp.sum(jnp.sin(full.real) + full.imag**2)

    assert cp_correct(x, near, 8, slack=1.5).converged
    slope = (float(loss(1e-6)[0]) - float(loss(-1e-6)[0])) / 2e-6
    np.testing.assert_allclose(loss(0.0)[1], slope, rtol=1e-4)


def test_gradient_is_finite_at_zero():
  # both rounds, one sweep each
  zero = tn.CP(jnp.zeros(2), (jnp.zeros((3, 2)),) * 3)
  for x in (jnp.zeros((3, 3, 3)), jnp.ones((3, 3, 3))):
    gradients = jax.grad(lambda x, t: cp_correct(x, t, 2).tensor.full().sum(), (0, 1))(x, zero)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradients))


def test_zeros_and_deficient_input():
  near = random_cp(7, (3, 4, 5), 4)
  d = cp_correct(jnp.zeros((3, 4, 5)), tn.CP(jnp.zeros(4), near.factors))
  assert d.relative_error == 0
  assert (d.tensor.full() == 0).all()
  assert all(np.isfinite(a).all() for a in jax.tree.leaves(d))
  # an idle column, a term written twice, and a tensor of rank 1 given in four terms
  x = dense(near)
  for factors in (
    tuple(f.at[:, 1].set(0) for f in near.factors),
    tuple(f.at[:, 1].set(f[:, 0]) for f in near.factors),
    (jnp.ones((3, 4)), jnp.ones((4, 4)), jnp.ones((5, 4))),
  ):
    given = tn.CP(near.weights, factors)
    check(x, given, cp_correct(x, given, 100))
  ones = tn.cp_als(jnp.ones((3, 4, 5)), 4, KEY).tensor
  check(jnp.ones((3, 4, 5)), ones, cp_correct(jnp.ones((3, 4, 5)), ones, 100))


@pytest.mark.parametrize('shape', [(5,), (5, 4), (2, 3, 2, 3), (1, 1, 1)])
@pytest.mark.parametrize('max_iters', [1, 30])
def test_any_order(shape, max_iters):
  x, given = dense(random_cp(7, shape, 5)), random_cp(1, shape, 3)
  d = cp_correct(x, given, max_iters)
  check(x, given, d)
  assert d.errors.shape == (max_iters,)


def test_complex_input():
  x, near = border(30.0, 'complex64')
  turn = jnp.exp(1j * jnp.arange(4)).astype('complex64')
  near = tn.CP(near.weights, tuple(turn[:, None] * f for f in near.factors))
  x = jnp.einsum('ijk,i,j,k->ijk', x, turn, turn, turn)
  d = cp_correct(x, near)
  check(x, near, d)
  assert d.tensor.dtype == x.dtype
  assert sensitivity(d.tensor) < sensitivity(near) / 10


@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_scale_does_not_matter(scale):
  x, near = border(30.0, scale=scale)
  d, unit = cp_correct(x, near), cp_correct(*border(30.0))
  assert np.isfinite(d.tensor.full()).all()
  np.testing.assert_allclose(d.relative_error, unit.relative_error, rtol=1e-3)
  assert d.tensor.weights.max() < near.weights.max() / 5


def test_bfloat16_is_computed_in_float32():
  x, near = border(32.0, 'bfloat16')  # a power of two, so the factors are exact
  d = cp_correct(x, near)
  assert d.tensor.dtype == jnp.bfloat16
  assert sensitivity(d.tensor).dtype == jnp.float32
  assert sensitivity(d.tensor) <= sensitivity(near)
  wide = [tn.CP(t.weights, tuple(f.astype('float32') for f in t.factors)) for t in (d.tensor, near)]
  assert relative_gap(x, wide[0]) <= 1.001 * relative_gap(x, wide[1]) + 1e-5


def test_what_cannot_be_corrected_is_returned():
  exact = random_cp(7, (4, 5, 6), 2)
  x = dense(exact)
  d = cp_correct(x, exact, 50)
  check(x, exact, d)
  assert d.relative_error < 1e-6


def test_bad_input_says_what_to_pass():
  x, near = border(30.0)
  with pytest.raises(ValueError, match=r'\(4, 4, 4\).*\(4, 4, 3\)'):
    cp_correct(x[..., :3], near)
  with pytest.raises(ValueError, match='complex64'):
    cp_correct(x.astype('complex64'), near)
  with pytest.raises(ValueError, match='max_iters'):
    cp_correct(x, near, 0)
  for slack in (0.9, float('nan'), jnp.ones(())):
    with pytest.raises(ValueError, match='slack'):
      cp_correct(x, near, slack=slack)
  with pytest.raises(ValueError, match='NaN'):
    cp_correct(x.at[0].set(jnp.nan), near)
  assert not cp_correct(x, tn.CP(near.weights * jnp.nan, near.factors), 3).converged
