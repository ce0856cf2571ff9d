import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from tnjax.contraction import Geometry, lax_only
from tnjax.contraction._depthwise import depthwise
from tnjax.contraction._pair import meet

FORMS = pytest.mark.parametrize(
  ('size', 'kernel', 'strides', 'dilation'),
  [((7,), (3,), (1,), (2,)), ((8, 9), (3, 2), (2, 1), (1, 2)), ((9, 8), (2, 3), (3, 2), (1, 1))],
)


def reference(x, taps, strides, dilation):
  spatial = 'DHW'[3 - len(strides) :]
  return lax.conv_general_dilated(
    x,
    taps[..., None, :],
    strides,
    'VALID',
    rhs_dilation=dilation,
    dimension_numbers=(f'N{spatial}C', f'{spatial}IO', f'N{spatial}C'),
    feature_group_count=x.shape[-1],
  )


def normal(shape, dtype='float64', seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def operands(size, kernel, channels=4):
  return normal((2, *size, channels)), normal((*kernel, channels), seed=1)


@FORMS
def test_equals_the_grouped_convolution_and_so_do_its_derivatives(size, kernel, strides, dilation):
  with jax.enable_x64(True):
    args = operands(size, kernel)

    def loss(f):
      return lambda *args: jnp.sum(jnp.sin(f(*args, strides, dilation)))

    both = [jax.value_and_grad(loss(f), (0, 1)) for f in (depthwise, reference)]
    found, expected = jax.jit(lambda *args: [f(*args) for f in both])(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, expected)
    check_grads(jax.jit(loss(depthwise)), args, 2, modes=['fwd', 'rev'], rtol=1e-3)


def test_batches_of_either_operand():
  with jax.enable_x64(True):
    x, taps = operands((6, 5), (3, 3))
    xs, ts = np.stack([x, 2 * x]), np.stack([taps, -taps])
    one = jax.jit(lambda x, t: depthwise(x, t, (1, 2), (1, 1)))
    for axes in ((0, None), (None, 0), (0, 0)):
      args = [a if k == 0 else b for k, a, b in zip(axes, (xs, ts), (x, taps))]
      run = jax.vmap(lambda x, t: depthwise(x, t, (1, 2), (1, 1)), axes)
      loop = [one(*(a[i] if k == 0 else a for k, a in zip(axes, args))) for i in range(2)]
      np.testing.assert_allclose(jax.jit(run)(*args), np.stack(loop), atol=1e-12)
      if axes == (0, 0):
        np.testing.assert_allclose(run(*args), np.stack(loop), atol=1e-12)


def test_taps_alike_for_all_channels_of_an_axis():
  with jax.enable_x64(True):
    x, taps = normal((2, 6, 3, 4)), normal((3, 1, 4), seed=1)
    wide = np.broadcast_to(taps, (3, 3, 4))

    def loss(taps):
      return jnp.sum(jnp.sin(depthwise(x, taps, (1,), (1,))))

    run = jax.jit(jax.value_and_grad(loss))
    (found, slope), (expected, slopes) = run(taps), run(wide)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(slope, np.sum(slopes, 1, keepdims=True))


def test_half_precision_is_accumulated_in_single():
  x, taps = jnp.ones((1, 300, 1), 'bfloat16'), jnp.full((300, 1), 1.0, 'bfloat16')
  out = jax.jit(lambda x, taps: depthwise(x, taps, (1,), (1,)))(x, taps)
  assert out.dtype == 'bfloat16'
  assert out.item() == 300


def test_gradients_of_shared_taps_under_shard_map():
  """Data parallel: the batch is cut over two devices, the taps are the same on both."""
  mesh = jax.make_mesh((2,), ('b',), axis_types=(AxisType.Auto,))
  x, taps = normal((2, 5, 5, 4), 'float32'), normal((3, 3, 4), 'float32', 1)

  def loss(taps, x):
    return jax.lax.psum(jnp.sum(depthwise(x, taps, (1, 1), (1, 1)) ** 2), 'b')

  both = jax.shard_map(
    jax.grad(loss), mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec('b')),
    out_specs=PartitionSpec(),
  )  # fmt: skip
  whole = jax.jit(jax.grad(lambda taps: jnp.sum(depthwise(x, taps, (1, 1), (1, 1)) ** 2)))(taps)
  np.testing.assert_allclose(jax.jit(both)(taps, x), whole, rtol=1e-4)


def test_nothing_in_nothing_out():
  taps = jnp.ones((3, 3, 4))
  for shape, out in (((0, 5, 5, 4), (0, 3, 3, 4)), ((2, 2, 5, 4), (2, 0, 3, 4))):
    x = jnp.ones(shape)

    def loss(x, taps):
      y = depthwise(x, taps, (1, 1), (1, 1))
      return y.sum(), y

    slopes, y = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(x, taps)
    assert y.shape == out
    assert [s.shape for s in slopes] == [shape, taps.shape]
  run = jax.jit(jax.vmap(lambda x: depthwise(x, taps, (1, 1), (1, 1))))
  assert run(jnp.ones((0, 1, 5, 5, 4))).size == 0


def test_lax_only_has_no_primitive_of_ours_also_where_it_was_traced_before():
  x, taps = (a.astype('float32') for a in operands((6, 5), (3, 3)))
  geometry = Geometry.resolve('hw', (3, 3), 2, 'SAME', size=(6, 5))
  inner = jax.jit(lambda x, taps: meet(x, ('r',), taps, 'hwr', frozenset('r'), geometry)[0])
  assert 'depthwise' in str(jax.make_jaxpr(inner)(x, taps))
  y = inner(x, taps)
  with lax_only(True):
    assert 'depthwise' not in str(jax.make_jaxpr(inner)(x, taps))
    np.testing.assert_allclose(inner(x, taps), y, rtol=1e-5, atol=1e-5)
  assert 'depthwise' in str(jax.make_jaxpr(inner)(x, taps))
