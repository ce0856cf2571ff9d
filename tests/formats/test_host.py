"""NumPy records and arrays stay on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax import formats

KEY = jax.random.key(2)
SIZES = {'a': 4, 'b': 5, 'c': 6}
MODES = [('a',), ('b',), ('c',)]
KINDS = {tn.CP: (3,), tn.Tucker: (2, 3, None), tn.TT: (2, 3), tn.TR: (2, 3, 2)}
kinds = pytest.mark.parametrize('kind', KINDS, ids=lambda k: k.__name__)


@kinds
def test_full_of_a_numpy_record(kind):
  x = formats.random(kind, KEY, (4, 5, 6), KINDS[kind])
  host = jax.tree.map(np.asarray, x)
  assert isinstance(host.full(), np.ndarray)
  np.testing.assert_allclose(host.full(), x.full(), rtol=1e-4, atol=1e-5)


@kinds
def test_balance_on_the_host(kind):
  network = kind.network(MODES, SIZES, KINDS[kind])
  arrays = formats.random_factors(KEY, network, 1.0, jnp.float32)
  uneven = {n: np.asarray(a, 'float64') * 10.0**k for k, (n, a) in enumerate(arrays.items())}
  found = formats.balance(network, uneven)
  assert all(isinstance(a, np.ndarray) for a in found.values())
  device = formats.balance(network, {n: jnp.asarray(a) for n, a in uneven.items()})
  for name, array in found.items():
    np.testing.assert_allclose(array, device[name], rtol=1e-3)
  norms = [np.linalg.norm(a.ravel()) for a in found.values()]
  np.testing.assert_allclose(norms, norms[0], rtol=1e-6)


def test_balance_on_the_host_survives_zeros():
  network = tn.TT.network(MODES, SIZES, (2, 3))
  zeros = {n: np.zeros(s) for n, s in network.shapes().items()}
  found = formats.balance(network, zeros)
  assert all((a == 0).all() for a in found.values())


@kinds
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'complex64'])
def test_random_factors_have_the_variance_traced_or_not(kind, dtype):
  network = kind.network(MODES, SIZES, KINDS[kind])

  def draw(key):
    return formats.random_factors(key, network, 0.25, dtype)

  found, traced = draw(KEY), jax.jit(draw)(KEY)
  for name, array in found.items():
    assert array.dtype == dtype
    assert array.shape == network.shapes()[name]
    a, b = (np.asarray(v).astype('complex64') for v in (array, traced[name]))
    assert np.linalg.norm(a - b) < 0.01 * np.linalg.norm(a)
  full = tn.contraction.contract(network, {n: a.astype('complex64') for n, a in found.items()},
                                 ('a', 'b', 'c'))  # fmt: skip
  np.testing.assert_allclose(np.mean(np.abs(full) ** 2), 0.25, rtol=0.05)


def test_shuffles_on_the_host():
  index = np.random.default_rng(0).permutation(12)
  x = np.arange(12.0).reshape(3, 4)
  for i in (index, jnp.asarray(index)):
    y = formats.shuffle(x, i, (2, 6))
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, formats.shuffle(jnp.asarray(x), i, (2, 6)))
    np.testing.assert_array_equal(formats.unshuffle(y, i, (3, 4)), x)
  z = x.astype('float32')
  traced = jax.jit(lambda i: formats.unshuffle(formats.shuffle(z, i, (2, 6)), i, (3, 4)))(index)
  np.testing.assert_array_equal(traced, x)
