import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from tnjax import ops

svd = jax.jit(ops.truncated_svd, static_argnums=1)
lower_inverse = jax.jit(ops.lower_inverse)
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


def normal(shape, dtype='float32', seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@given(shapes, st.data())
def test_fold_inverts_unfold_and_columns_run_row_major(shape, data):
  mode = data.draw(st.integers(0, len(shape) - 1))
  x = normal(shape)
  matrix = np.asarray(ops.unfold(jnp.asarray(x), mode))
  for row, piece in enumerate(np.split(x, shape[mode], axis=mode)):
    np.testing.assert_array_equal(matrix[row], piece.ravel())
  np.testing.assert_array_equal(ops.fold(jnp.asarray(matrix), mode, shape), x)


def test_fold_names_both_shapes():
  with pytest.raises(ValueError, match=r'\(3, 8\).*\(2, 12\)'):
    ops.fold(jnp.ones((3, 8)), 0, (2, 3, 4))


def test_mode_products_equal_einsum():
  x, a, c = (jnp.asarray(normal(s)) for s in [(2, 3, 4), (5, 2), (6, 4)])
  expected = np.einsum('ijk,ai,ck->ajc', x, a, c)
  np.testing.assert_allclose(ops.multi_mode_product(x, [a, None, c]), expected, rtol=1e-5)
  with pytest.raises(ValueError, match=r'\(5, 2\).*\(any, 3\)'):
    ops.mode_product(x, a, 1)


def test_khatri_rao_columns_are_kronecker_products():
  a, b, c = (np.random.default_rng(i).normal(size=(n, 3)) for i, n in enumerate((2, 4, 3)))
  expected = np.stack([np.kron(np.kron(a[:, r], b[:, r]), c[:, r]) for r in range(3)], axis=1)
  np.testing.assert_allclose(ops.khatri_rao([a, b, c]), expected, rtol=1e-5)


@given(st.integers(1, 5000), st.integers(1, 6))
def test_split_modes_multiplies_back(n, order):
  parts = ops.split_modes(n, order)
  assert len(parts) == order
  assert np.prod(parts) == n
  assert all(p == 1 or all(p % d for d in range(2, p)) for p in ops.prime_factors(n))


@pytest.mark.parametrize(
  ('n', 'order', 'parts'),
  [(16, 2, (4, 4)), (32, 2, (8, 4)), (64, 2, (8, 8)), (16, 3, (4, 2, 2)), (32, 3, (4, 4, 2)),
   (64, 3, (4, 4, 4))],
)  # fmt: skip
def test_split_modes_follows_the_paper(n, order, parts):
  assert ops.split_modes(n, order) == parts


@pytest.mark.parametrize('shape', [(3, 40), (40, 3), (6, 6), (1, 5), (5, 1)])
@pytest.mark.parametrize('kind', ['real', 'complex'])
def test_truncated_svd_is_the_best_approximation(precision, shape, kind):
  dtype, eps = precision
  a = normal(shape, dtype)
  if kind == 'complex':
    a = a + np.complex64(1j) * normal(shape, dtype, 1)
  full = np.linalg.svd(a.astype('complex128'), compute_uv=False)
  for rank in range(1, min(shape) + 1):
    u, s, vh = map(np.asarray, svd(jnp.asarray(a), rank))
    np.testing.assert_allclose(s, full[:rank], rtol=100 * eps)
    error = np.linalg.norm((u * s[None]) @ vh - a)
    assert abs(error - np.linalg.norm(full[rank:])) < 200 * eps * full[0]
    np.testing.assert_allclose(u.conj().T @ u, np.eye(rank), atol=50 * eps)


def test_left_vectors_do_not_depend_on_sign_conventions():
  a = normal((4, 9))
  u, v = (np.asarray(ops.left_singular(jnp.asarray(b), 3)[0]) for b in (a, -a))
  np.testing.assert_allclose(u, v, atol=1e-6)
  assert (np.take_along_axis(u, np.abs(u).argmax(0)[None], 0) > 0).all()


def projected(a, rank):
  """A function of the leading subspace alone, so gauge-invariant."""
  u, s, vh = ops.truncated_svd(a, rank)
  return jnp.sum(jnp.cos((u * s[None]) @ vh)) + jnp.sum(s**3)


@pytest.mark.parametrize('shape', [(4, 7), (7, 4), (5, 5)])
def test_gradient_of_the_truncated_svd(shape):
  with jax.enable_x64(True):
    a = jnp.asarray(normal(shape, 'float64'))
    check_grads(jax.jit(lambda a: projected(a, 2)), (a,), order=1, rtol=1e-5)


def test_gradient_is_finite_and_right_at_repeated_singular_values():
  with jax.enable_x64(True):
    q, _ = np.linalg.qr(normal((6, 6), 'float64'))
    a = (q[:, :4] * np.array([[3.0, 3.0, 1.0, 0.0]])) @ np.eye(4, 8)
    run = jax.jit(jax.value_and_grad(lambda a: projected(a, 2)))
    gradient = np.asarray(run(jnp.asarray(a))[1])
    step = 1e-6 * normal(a.shape, 'float64', 1)
    slope = run(jnp.asarray(a + step))[0] - run(jnp.asarray(a - step))[0]
    np.testing.assert_allclose(2 * np.vdot(gradient, step), slope, rtol=1e-5)


def test_permutation_is_one_and_seeded():
  first, again, other = (ops.permutation(jax.random.key(k), 50) for k in (3, 3, 4))
  assert sorted(first.tolist()) == list(range(50))
  assert (first == again).all()
  assert (first != other).any()
  assert first.dtype == 'int32'


def test_left_singular_rejects_a_rank_that_does_not_fit():
  for rank, shape in itertools.product((0, 4), [(3, 5), (5, 3)]):
    with pytest.raises(ValueError, match=f'rank={rank}'):
      ops.left_singular(jnp.ones(shape), rank)


def test_squared_norm_of_many_modes_loses_nothing():
  """Added one by one in float32, ones stop counting at 2^24."""
  assert jax.jit(ops.squared_norm)(jnp.ones((2,) * 25, 'float32')) == 2**25


@pytest.mark.parametrize('kind', ['real', 'complex'])
def test_squared_norm_and_peak(kind, precision):
  _, eps = precision
  x = _matrix(kind, 3, 20).reshape(3, 4, 5)
  np.testing.assert_allclose(
    jax.jit(ops.squared_norm)(x, 2.0), np.linalg.norm(x / 2) ** 2, rtol=50 * eps
  )
  np.testing.assert_allclose(ops.peak(x), np.abs(x).max(), rtol=50 * eps)
  assert jnp.isnan(ops.peak(jnp.array([[1.0, jnp.nan]])))


@pytest.mark.parametrize('n', [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize('kind', ['real', 'complex'])
def test_lower_inverse(n, kind, precision):
  _, eps = precision
  a = _matrix(kind, n, n)
  lower = np.linalg.cholesky(a @ a.conj().T + np.eye(n))
  above = np.triu(_matrix(kind, n, n), 1)  # is not looked at
  found = np.asarray(lower_inverse(jnp.asarray(lower + above)))
  np.testing.assert_allclose(found @ lower, np.eye(n), atol=1e3 * eps)
  batch = np.asarray(jax.vmap(lower_inverse)(jnp.asarray(np.stack([lower, 2 * lower]))))
  np.testing.assert_allclose(batch[1] * 2, batch[0], atol=1e3 * eps)


def _matrix(kind, *shape):
  rng = np.random.default_rng(0)
  return rng.normal(size=shape) + (1j * rng.normal(size=shape) if kind == 'complex' else 0)
