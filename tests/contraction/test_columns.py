import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jax.test_util import check_grads

from tnjax.contraction import conv_general_dilated, lax_only

LAST = {1: ('NWC', 'WIO', 'NWC'), 2: ('NHWC', 'HWIO', 'NHWC'), 3: ('NDHWC', 'DHWIO', 'NDHWC')}
# Images large enough for the parts of the kernel's gradient, and small enough for columns.
FORMS = pytest.mark.parametrize(
  ('size', 'kernel', 'strides', 'padding', 'dilation'),
  [
    ((16, 15), (3, 3), (1, 1), 'SAME', (1, 1)),
    ((31, 33), (3, 2), (2, 1), ((1, 0), (2, 1)), (2, 1)),
    ((20, 19), (2, 5), (1, 1), ((-1, 2), (0, -2)), (1, 2)),
    ((215,), (4,), (1,), 'SAME', (3,)),
    ((6, 7, 8), (3, 1, 2), (1, 1, 1), 'SAME', (1, 1, 1)),
    ((2, 2), (3, 3), (1, 1), 'SAME', (1, 1)),
    ((5, 4), (3, 2), (2, 2), 'VALID', (1, 1)),
    ((9, 8), (3, 3), (2, 1), 'SAME', (1, 1)),
    ((6, 5), (1, 1), (1, 1), 'VALID', (1, 1)),
    ((6, 5), (1, 1), (2, 1), ((1, 1), (0, 0)), (1, 1)),
  ],
  ids=str,
)


def normal(shape, dtype='float64', seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def operands(size, kernel, batch=6, channels=8, outs=32, dtype='float64'):
  return normal((batch, *size, channels), dtype), normal((*kernel, channels, outs), dtype, 1)


def both(strides, padding, dilation):
  options = {'rhs_dilation': dilation, 'dimension_numbers': LAST[len(strides)]}
  return [
    functools.partial(f, window_strides=strides, padding=padding, **options)
    for f in (conv_general_dilated, lax.conv_general_dilated)
  ]


def primitives(f, *args):
  return str(jax.make_jaxpr(f)(*args))


@FORMS
def test_equals_that_of_jax_and_so_do_its_derivatives(size, kernel, strides, padding, dilation):
  with jax.enable_x64(True):
    args = operands(size, kernel)
    mine, theirs = both(strides, padding, dilation)

    def loss(f):
      return lambda *args: jnp.sum(jnp.sin(f(*args) / 9))

    run = jax.jit(
      lambda *args: [jax.value_and_grad(loss(f), (0, 1))(*args) for f in (mine, theirs)]
    )
    found, expected = run(*args)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, expected)
    if len(size) == 2 and kernel != (1, 1):
      assert 'convolution' in primitives(mine, *args)
      check_grads(jax.jit(loss(mine)), args, 2, modes=['fwd', 'rev'], rtol=1e-3)


@pytest.mark.parametrize('batch', [1, 7, 12])
def test_the_kernels_gradient_is_a_sum_over_parts_of_any_batch(batch, monkeypatch):
  monkeypatch.setattr('tnjax.contraction._columns._CACHE', 150_000)  # two images
  with jax.enable_x64(True):
    x, kernel = operands((16, 16), (3, 3), batch)
    mine, theirs = both((1, 1), 'SAME', (1, 1))
    slopes = [
      jax.jit(jax.grad(lambda k, f=f: jnp.sum(f(x, k) ** 2)))(kernel) for f in (mine, theirs)
    ]
    np.testing.assert_allclose(*slopes, atol=1e-9)


@pytest.mark.parametrize('size', [(16, 16), (2, 2)])
def test_batches_of_either_operand(size):
  with jax.enable_x64(True):
    x, kernel = operands(size, (3, 3))
    xs, ks = np.stack([x, 2 * x]), np.stack([kernel, -kernel])
    mine, _ = both((1, 1), 'SAME', (1, 1))
    one = jax.jit(jax.value_and_grad(lambda x, k: jnp.sum(jnp.sin(mine(x, k))), (0, 1)))
    for axes in ((0, None), (None, 0), (0, 0)):
      args = [a if k == 0 else b for k, a, b in zip(axes, (xs, ks), (x, kernel))]
      found = jax.jit(jax.vmap(one, axes))(*args)
      loop = [one(*(a[i] if k == 0 else a for k, a in zip(axes, args))) for i in range(2)]
      loop = jax.tree.map(lambda *a: np.stack(a), *loop)
      jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), found, loop)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32', 'complex64'])
def test_keeps_the_dtype_and_its_accuracy(dtype):
  args = [a.astype(dtype) for a in operands((16, 16), (3, 3), dtype='float32')]
  mine, theirs = both((1, 1), 'SAME', (1, 1))
  found, expected = (
    jax.jit(lambda x, k, f=f: jax.vjp(f, x, k)[1](f(x, k)))(*args) for f in (mine, theirs)
  )
  for a, b in zip(found, expected):
    assert a.dtype == b.dtype == dtype
    a, b = (np.asarray(v.astype('complex64')) for v in (a, b))
    bound = 2e-2 if dtype == 'bfloat16' else 1e-5
    np.testing.assert_array_less(np.linalg.norm(a - b), bound * np.linalg.norm(b))


def test_leaves_to_jax_what_it_cannot_do():
  x, kernel = (a.astype('float32') for a in operands((16, 16), (3, 3)))
  options = {'dimension_numbers': LAST[2]}
  grouped = functools.partial(conv_general_dilated, feature_group_count=2, **options)
  dilated = functools.partial(conv_general_dilated, lhs_dilation=(2, 1), **options)
  first = functools.partial(conv_general_dilated, dimension_numbers=('NCHW', 'HWIO', 'NCHW'))
  for f, k, a in (
    (grouped, kernel[:, :, :4], x),
    (dilated, kernel, x),
    (first, kernel, x.transpose(0, 3, 1, 2)),
  ):
    text = primitives(lambda a, k, f=f: f(a, k, (1, 1), ((1, 1), (1, 1))), a, k)
    assert 'conv_general_dilated' in text
  run = functools.partial(conv_general_dilated, window_strides=(1, 1), padding='SAME', **options)
  with lax_only(True):
    assert 'conv_general_dilated' in primitives(run, x, kernel)
  with pytest.raises(ValueError, match='feature'):
    run(x, kernel[:, :, :3])
  with pytest.raises(TypeError, match='dtype'):
    run(x, kernel.astype('bfloat16'))


def test_layers_take_it():
  with jax.enable_x64(True):
    x = normal((4, 16, 16, 8))
    slopes = []
    for function in (conv_general_dilated, lax.conv_general_dilated):
      options = {'conv_general_dilated': function, 'param_dtype': 'float64', 'rngs': nnx.Rngs(0)}
      layer = nnx.Conv(8, 5, (3, 3), strides=2, padding=1, **options)
      slopes.append(nnx.grad(lambda m: jnp.sum(m(x) ** 2))(layer)['kernel'][...])
    np.testing.assert_allclose(*slopes, atol=1e-10)


@pytest.mark.parametrize('size', [(64, 64), (16, 16), (8, 8), (2, 2)])  # every way there is
def test_a_batch_shared_by_devices(size):
  mesh = jax.make_mesh((2,), ('data',), axis_types=(AxisType.Auto,))
  mine, theirs = both((1, 1), 'SAME', (1, 1))

  def slope(f):
    return jax.grad(lambda kernel, x: jnp.sum(f(x, kernel) ** 2))

  def shared(kernel, x):
    return jax.lax.psum(jnp.sum(mine(x, kernel) ** 2), 'data')

  with jax.enable_x64(True):
    x, kernel = operands(size, (3, 3))
    expected = jax.jit(slope(theirs))(kernel, x)
    split = jax.device_put(x, jax.NamedSharding(mesh, PartitionSpec('data')))
    program = jax.jit(slope(mine)).lower(kernel, split).compile()
    assert 'all-gather' not in program.as_text()  # images stay where they are
    np.testing.assert_allclose(program(kernel, split), expected, atol=1e-9)
    mapped = jax.shard_map(
      jax.grad(shared), mesh=mesh, in_specs=(PartitionSpec(), PartitionSpec('data')),
      out_specs=PartitionSpec(),
    )  # fmt: skip
    np.testing.assert_allclose(jax.jit(mapped)(kernel, x), expected, atol=1e-9)


def test_outside_a_trace_nothing_is_compiled_again(caplog):
  jax.clear_caches()
  x, kernel = (a.astype('float32') for a in operands((16, 16), (3, 3)))
  mine, _ = both((1, 1), 'SAME', (1, 1))
  slope = jax.grad(lambda x, k: mine(x, k).sum(), (0, 1))
  with jax.log_compiles():
    slope(x, kernel)
    assert 'Compiling' in caplog.text
    caplog.clear()
    slope(x, kernel)
  assert 'Compiling' not in caplog.text


def test_explicit_sharding_and_unknown_sizes():
  x, kernel = (a.astype('float32') for a in operands((16, 16), (3, 3), 4))
  mine, theirs = both((1, 1), 'SAME', (1, 1))
  mesh = jax.make_mesh((2,), ('data',), axis_types=(AxisType.Explicit,))
  with jax.set_mesh(mesh):
    split = jax.device_put(x, jax.NamedSharding(mesh, PartitionSpec('data')))
    found = jax.jit(mine)(split, kernel)
    assert found.sharding.spec[0] == 'data'
    np.testing.assert_allclose(found, theirs(x, kernel), rtol=1e-4, atol=1e-4)
  b, h, w = jax.export.symbolic_shape('b,h,w')
  one = jax.ShapeDtypeStruct((b, h, w, 8), 'float32')
  (out,) = jax.export.export(jax.jit(lambda x: mine(x, kernel)))(one).out_avals
  assert out.shape == (b, h, w, 32)


def test_nothing_in_nothing_out():
  kernel = jnp.ones((3, 3, 8, 4))
  mine, _ = both((1, 1), 'VALID', (1, 1))
  for shape, out in (((0, 16, 16, 8), (0, 14, 14, 4)), ((2, 2, 5, 8), (2, 0, 3, 4))):
    slopes = jax.jit(jax.grad(lambda x, k: mine(x, k).sum(), (0, 1)))(jnp.ones(shape), kernel)
    assert mine(jnp.ones(shape), kernel).shape == out
    assert [s.shape for s in slopes] == [shape, kernel.shape]
