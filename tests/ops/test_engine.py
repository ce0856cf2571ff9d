"""One algorithm on two engines."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import threadpoolctl

from tnjax import ops

KEY = jax.random.key(1)


def matrix(m, n, complex_values=False):
  r = np.random.default_rng(m + n)
  a = r.standard_normal((m, n)) * np.geomspace(1, 1e-2, n)
  return a + 1j * r.standard_normal((m, n)) if complex_values else a


@pytest.mark.parametrize('method', ['auto', 'gram', 'qr', 'full', 'randomized'])
@pytest.mark.parametrize('shape', [(9, 5), (100, 60), (60, 100), (70, 70)])
@pytest.mark.parametrize('complex_values', [False, True])
def test_singular_vectors_on_the_host(method, shape, complex_values):
  a = matrix(*shape, complex_values)
  expected = np.linalg.svd(a, compute_uv=False)
  for side in (ops.left_singular, ops.right_singular):
    u, s = side(a, 4, method, KEY if method == 'randomized' else None)
    assert isinstance(u, np.ndarray)
    np.testing.assert_allclose(u.conj().T @ u, np.eye(4), atol=1e-6)
    kept = u.conj().T @ a if side is ops.left_singular else a @ u
    best = np.linalg.norm(expected[4:]) / np.linalg.norm(expected)
    lost = np.sqrt(max(0, 1 - np.linalg.norm(kept) ** 2 / np.linalg.norm(expected) ** 2))
    assert best - 1e-7 <= lost <= 1.02 * best
    if method != 'randomized':
      np.testing.assert_allclose(s, expected, rtol=1e-6)
    pivots = u[np.abs(u).argmax(0), range(4)]
    assert (pivots.real > 0).all()
    np.testing.assert_allclose(pivots.imag, 0, atol=1e-12)


def test_auto_resolves_a_small_tail_on_the_host():
  q = np.linalg.qr(matrix(300, 40))[0]
  a = (q * np.geomspace(1, 1e-12, 40)) @ np.linalg.qr(matrix(40, 40))[0]
  _, s = ops.left_singular(a, 38)
  np.testing.assert_allclose(s, np.geomspace(1, 1e-12, 40), rtol=1e-2)


@pytest.mark.parametrize('mode', [0, 1, 2, -1])
def test_products_on_the_host(mode):
  x, m = np.random.default_rng(0).standard_normal((3, 4, 5)), None
  m = matrix(6, x.shape[mode])
  found = ops.mode_product(x, m, mode)
  assert isinstance(found, np.ndarray)
  np.testing.assert_allclose(found, ops.mode_product(jnp.asarray(x), m, mode), rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(ops.fold(ops.unfold(x, mode), mode, x.shape), x)
  np.testing.assert_allclose(ops.squared_norm(x, 2.0), np.sum(x**2) / 4)
  assert ops.peak(x) == np.abs(x).max()
  q, r = ops.qr(m)
  np.testing.assert_allclose(q @ r, m)


@pytest.mark.parametrize('shape', [(5,), (3, 4), (2, 3, 5, 7), (128,)])
@pytest.mark.parametrize('dtype', ['float32', 'complex64'])
def test_a_flat_draw_has_the_same_bits(shape, dtype):
  expected = jax.random.normal(KEY, shape, dtype)
  np.testing.assert_array_equal(ops.normal(KEY, shape, dtype), expected)
  host = ops.host_normal(KEY, shape, dtype)
  assert isinstance(host, np.ndarray)
  np.testing.assert_array_equal(host, expected)


def test_host_draws_are_in_the_precision_asked_for(precision):
  dtype, _ = precision
  drawn = ops.host_normal(KEY, (3, 4), 'float64')
  assert drawn.dtype == 'float64'
  np.testing.assert_array_equal(drawn, jax.random.normal(KEY, (3, 4), dtype))


def test_control_flow_on_either_engine():
  for xp in (np, jnp):
    a = xp.asarray(2.0)
    assert ops.choose(a > 1, lambda a=a: a, lambda a=a: -a) == 2
    doubled = ops.batched(lambda t: {'y': 2 * t['x']}, xp)({'x': xp.arange(3.0)})['y']
    assert ops.namespace(doubled) is xp
    np.testing.assert_array_equal(doubled, [0, 2, 4])
  assert ops.namespace(np.float64(1), np.ones(2)) is np
  assert ops.namespace(np.ones(2), 1.0) is jnp


def blas_threads():
  return {
    pool['num_threads'] for pool in threadpoolctl.threadpool_info() if pool['user_api'] == 'blas'
  }


def test_blas_has_its_threads_back_after_blocks_that_overlap():
  """Blocks of two threads that overlap: the one that came first leaves first."""
  entered, left = threading.Event(), threading.Event()

  def second():
    with ops.one_thread():
      entered.set()
      left.wait(60)

  thread = threading.Thread(target=second)
  with threadpoolctl.threadpool_limits(2, user_api='blas'):
    with ops.one_thread():
      thread.start()
      assert entered.wait(60)
      assert blas_threads() == {1}
    left.set()
    thread.join()
    assert blas_threads() == {2}
    with ops.one_thread(), ops.one_thread():
      assert blas_threads() == {1}
    assert blas_threads() == {2}
