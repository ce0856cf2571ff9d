import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tnjax import contraction
from tnjax.contraction import Geometry, Network, Problem

TUCKER = Network(
  ('a', 'core', 'b'),
  (('s1', 'p'), ('h', 'w', 'p', 'q'), ('q', 't1')),
  (('h', 3), ('w', 3), ('s1', 6), ('t1', 8), ('p', 4), ('q', 5)),
)


def normal(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype('float32'))


def arrays(network):
  return {n: normal(s, i) for i, (n, s) in enumerate(network.shapes().items())}


def depthwise(x, taps, geometry):
  """A factor that carries nothing but the taps and the channels of x."""
  h, w, _, c = taps.shape
  net = Network(('taps',), (('h', 'w', 's1'),), (('h', h), ('w', w), ('s1', c)))
  layer = Problem(net, ('s1',), ('s1',), geometry, len(x), x.shape[1:-1])
  return contraction.apply(layer, {'taps': taps[:, :, 0]}, x)


def test_contract_equals_einsum():
  f = arrays(TUCKER)
  expected = np.einsum('sp,hwpq,qt->thws', f['a'], f['core'], f['b'])
  found = contraction.contract(TUCKER, f, ('t1', 'h', 'w', 's1'))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dilation', [1, 2])
@pytest.mark.parametrize('strides', [1, (2, 1)])
def test_depthwise_by_shifts_equals_the_grouped_convolution(strides, dilation):
  x, taps = normal((2, 9, 8, 5)), normal((3, 2, 1, 5), 1)
  g = Geometry.resolve('hw', (3, 2), strides, ((1, 0), (2, 1)), dilation)
  expected = lax.conv_general_dilated(
    x, taps, g.strides, g.padding, rhs_dilation=g.dilation, feature_group_count=5,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )  # fmt: skip
  np.testing.assert_allclose(depthwise(x, taps, g), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ('strides', 'padding', 'size'), [(2, 'SAME', 9), (1, 'VALID', 9), (3, 2, 10)]
)
def test_output_size_is_that_of_lax(strides, padding, size):
  g = Geometry.resolve('w', (3,), strides, padding, 2, (size,))
  x, kernel = (jax.ShapeDtypeStruct(s, 'float32') for s in ((1, size, 1), (3, 1, 1)))
  convolve = lambda x, kernel: lax.conv_general_dilated(  # noqa: E731
    x, kernel, g.strides, g.padding, rhs_dilation=g.dilation,
    dimension_numbers=('NWC', 'WIO', 'NWC'),
  )  # fmt: skip
  out = jax.eval_shape(convolve, x, kernel)
  assert g.output_size('w', size) == out.shape[1]


def test_depthwise_accepts_negative_padding():
  x, taps = normal((1, 9, 9, 5)), normal((3, 3, 1, 5), 1)
  g = Geometry.resolve('hw', (3, 3), 1, ((-1, 0), (2, -1)))
  expected = lax.conv_general_dilated(
    x, taps, (1, 1), g.padding, feature_group_count=5, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  np.testing.assert_allclose(depthwise(x, taps, g), expected, rtol=1e-4, atol=1e-5)


def test_geometry_names_what_is_wrong():
  assert Geometry.resolve('hw', (3, 3), np.int64(2), np.int32(1)).padding == ((1, 1), (1, 1))
  for options in (
    {'strides': (1, 2, 3)},
    {'dilation': 0},
    {'padding': (1,)},
    {'padding': 'BEST'},
    {'padding': 'SAME'},
  ):
    with pytest.raises(ValueError, match=next(iter(options))):
      Geometry.resolve('hw', (3, 3), **options)
