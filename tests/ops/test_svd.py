"""The truncated SVD engine: every route against NumPy's SVD."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tnjax import ops

KEY = jax.random.key(3)
SHAPES = [(300, 40), (40, 300), (90, 90), (20000, 12), (12, 20000)]
shapes = pytest.mark.parametrize('shape', SHAPES, ids=str)
methods = pytest.mark.parametrize('method', ['auto', 'gram', 'qr', 'full', 'randomized'])


def matrix(shape, spectrum, dtype='float32', seed=0):
  rng = np.random.RandomState(seed)
  k = len(spectrum)
  u, v = (rng.randn(n, k) + (1j * rng.randn(n, k) if 'c' in dtype else 0) for n in shape)
  u, v = np.linalg.qr(u)[0], np.linalg.qr(v)[0]
  return jnp.asarray(((u * spectrum) @ v.conj().T).astype(dtype))


def lost(a, basis, side):
  """Relative error of the projection onto a basis of the left or right side."""
  a, basis = np.asarray(a), np.asarray(basis)
  kept = basis @ (basis.conj().T @ a) if side == 'left' else a @ basis @ basis.conj().T
  return np.linalg.norm(a - kept) / np.linalg.norm(a)


@shapes
@methods
@pytest.mark.parametrize('side', ['left', 'right'])
@pytest.mark.parametrize('dtype', ['float32', 'complex64'])
def test_projection_is_the_best_one(shape, method, side, dtype):
  spectrum = 0.8 ** np.arange(min(shape))
  a = matrix(shape, spectrum, dtype)
  run = ops.left_singular if side == 'left' else ops.right_singular
  basis, s = map(np.asarray, run(a, 5, method=method, key=KEY))
  assert basis.shape == (shape[0 if side == 'left' else 1], 5)
  np.testing.assert_allclose(basis.conj().T @ basis, np.eye(5), atol=2e-4)
  best = np.linalg.norm(spectrum[5:]) / np.linalg.norm(spectrum)
  assert lost(a, basis, side) < 1.005 * best
  np.testing.assert_allclose(s[:5], spectrum[:5], rtol=2e-3)
  pivot = np.take_along_axis(basis, np.abs(basis).argmax(0)[None], 0)
  assert (pivot.real > 0).all()
  np.testing.assert_allclose(pivot.imag, 0, atol=1e-6)


@shapes
@pytest.mark.parametrize('method', ['auto', 'qr'])
@pytest.mark.parametrize('side', ['left', 'right'])
def test_nothing_is_lost_at_the_true_rank(shape, method, side):
  a = matrix(shape, [1, 1e-2, 1e-4, 1e-5])  # below sqrt(eps): a Gram matrix forgets them
  run = ops.left_singular if side == 'left' else ops.right_singular
  basis, _ = run(a, 4, method=method)
  assert lost(a, basis, side) < 2e-6


def test_the_gram_route_does_lose_what_it_says():
  a = matrix((300, 40), [1, 1e-2, 1e-4, 1e-5])
  basis, _ = ops.left_singular(a, 4, method='gram')
  assert lost(a, basis, 'left') < 3.5e-4


@methods
def test_hilbert_matrix(method):
  i = np.arange(120)
  a = jnp.asarray((1 / (1 + i[:, None] + i[None])).astype('float32'))
  best = np.linalg.svd(np.asarray(a, 'float64'), compute_uv=False)
  for rank in (1, 2, 4):
    basis, _ = ops.left_singular(a, rank, method=method, key=KEY)
    error = np.linalg.norm(best[rank:]) / np.linalg.norm(best)
    assert lost(a, basis, 'left') < 1.01 * error + (1e-3 if method == 'gram' else 1e-6)


@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_scale_does_not_matter(scale):
  a = matrix((300, 40), 0.8 ** np.arange(40))
  basis, s = map(np.asarray, ops.right_singular(a * scale, 5))
  np.testing.assert_allclose(s[:5] / scale, 0.8 ** np.arange(5), rtol=1e-3)
  assert lost(a, basis, 'right') < 1.005 * lost(a, ops.right_singular(a, 5)[0], 'right')


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_zero_and_repeated_singular_values(value):
  a = value * jnp.eye(200, 30)
  for run in (ops.left_singular, ops.right_singular):
    basis, s = map(np.asarray, run(a, 7))
    np.testing.assert_allclose(basis.T @ basis, np.eye(7), atol=1e-5)
    np.testing.assert_allclose(s, value, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda a, run=run: jnp.sum(run(a, 7)[0] @ run(a, 7)[0].T)))(a)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize('method', ['auto', 'gram', 'qr'])
def test_gradients_are_those_of_the_full_svd(method):
  a, w = matrix((300, 20), 0.7 ** np.arange(20)), matrix((300, 20), np.ones(20), seed=1)

  def loss(a, method):
    v, _ = ops.right_singular(a, 3, method=method)
    return jnp.vdot(w, ops.matmul(ops.matmul(a, v), v.T))

  gradient = jax.jit(jax.grad(loss), static_argnums=1)
  exact, found = (np.asarray(gradient(a, m)) for m in ('full', method))
  assert np.linalg.norm(exact - found) < 1e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize('method', ['auto', 'randomized'])
def test_vmap_equals_loop_whichever_route(method):
  good, bad = matrix((300, 40), np.ones(40)), matrix((300, 40), [1, 1e-5])
  for batch in ([good, 2 * good], [good, bad]):  # one unsafe matrix sends all of them to QR
    together, _ = jax.vmap(lambda a: ops.right_singular(a, 2, method, KEY))(jnp.stack(batch))
    for a, basis in zip(batch, np.asarray(together)):
      alone, _ = ops.right_singular(a, 2, method, KEY)
      assert abs(lost(a, basis, 'right') - lost(a, alone, 'right')) < 2e-6


def test_randomized_is_seeded():
  a = matrix((400, 300), 0.9 ** np.arange(300))
  one, same, other = (ops.left_singular(a, 5, key=jax.random.key(k))[0] for k in (0, 0, 1))
  np.testing.assert_array_equal(one, same)
  assert (one != other).any()


def test_truncated_svd_rebuilds():
  a = matrix((300, 40), 0.5 ** np.arange(40))
  u, s, vh = map(np.asarray, ops.truncated_svd(a, 20))
  assert np.linalg.norm((u * s[None]) @ vh - a) < 3e-6 * np.linalg.norm(a)


def test_refusals():
  a = jnp.ones((4, 5))
  for rank in (0, 5):
    with pytest.raises(ValueError, match=f'rank={rank} does not fit a matrix of shape'):
      ops.left_singular(a, rank)
  with pytest.raises(ValueError, match='must be one of auto, gram'):
    ops.left_singular(a, 1, method='eig')
  with pytest.raises(ValueError, match='needs key='):
    ops.left_singular(a, 1, method='randomized')


PEAK = """
import gc, json, pathlib, re, sys
import jax
import numpy as np
import tnjax as tn

def peak():
  return int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024

def measured(shape, run):
  gc.collect()
  compiled = jax.jit(run).lower(jax.ShapeDtypeStruct(shape, 'float32')).compile()
  x = jax.device_put(np.random.default_rng(0).standard_normal(shape, 'float32'))
  x.block_until_ready()
  pathlib.Path('/proc/self/clear_refs').write_text('5')  # the peak is now what is resident
  before = peak() - x.nbytes
  jax.block_until_ready(compiled(x))
  return (peak() - before) / x.nbytes

print(json.dumps([measured(*case) for case in (CASES)]))
"""
CASES = [
  '((8, 28, 32, 32, 28, 4), lambda x: tn.tt_svd(x, 4))',
  '((2**22, 8), lambda x: tn.ops.right_singular(x, 4))',
  '((8, 2**22), lambda x: tn.tt_svd(x, 4))',
  '((512, 512, 3, 3 * 8), lambda x: tn.hosvd(x, (128, 128), modes=(0, 1)))',
]


@pytest.mark.skipif(sys.platform != 'linux', reason='reads the peak memory from /proc')
def test_memory_stays_within_three_times_the_input():
  code = PEAK.replace('CASES', ', '.join(CASES))
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  for case, multiple in zip(CASES, json.loads(done.stdout), strict=True):
    assert 0.5 <= multiple <= 3.0, case
