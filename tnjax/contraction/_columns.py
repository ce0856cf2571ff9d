"""Convolution with a faster gradient to the kernel, and faster on small images, on CPU.

XLA's gradient to the kernel slides the slope over the input as if it were a kernel of an image's
size, which takes 4 to 18 times as long there as the convolution itself on images of 16x16 pixels
and more (3x3, 16 to 64 channels, or 3 to 64; measured), and images of 2x2 pixels take 15 to 80
times as long as matrix products of columns: all that a kernel meets at one position, side by side.
So this is a primitive of its own, linear in both operands, with its transposes spelt out.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from tnjax.contraction._windows import Ints, ours, output_size, windows
from tnjax.ops import varying_with

_CACHE = 2_000_000  # bytes of columns made at once, which stay in the cache
_FEW = 9  # positions of an output, up to which columns are faster
_MANY = 196  # positions from which the gradient to the kernel is
_PRODUCT = 512  # entries of a product of columns and slopes, from which it is


def conv_general_dilated(
  lhs: Array,
  rhs: Array,
  window_strides: Sequence[int],
  padding: str | Sequence[tuple[int, int]],
  lhs_dilation: Sequence[int] | None = None,
  rhs_dilation: Sequence[int] | None = None,
  dimension_numbers: object = None,
  feature_group_count: int = 1,
  batch_group_count: int = 1,
  precision: object = None,
  preferred_element_type: object = None,
  out_sharding: object = None,
) -> Array:
  """`lax.conv_general_dilated`, whose gradient to the kernel is several times as fast on CPU.

  For layers such as `nnx.Conv`, in their argument of this name. Arguments, result, errors and
  derivatives are jax's, and so is the computation on other devices and of grouped convolutions,
  dilated inputs, sizes that are not known and axes in another order than channels last. Policies of
  `jax.checkpoint` that go by a primitive's name do not know it.

  >>> from flax import nnx
  >>> import tnjax as tn
  >>> conv = nnx.Conv(
  ...   3, 8, (3, 3), conv_general_dilated=tn.nn.conv_general_dilated, rngs=nnx.Rngs(0)
  ... )
  >>> plain = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))
  >>> x = jax.random.normal(jax.random.key(1), (2, 9, 9, 3))
  >>> slopes = [nnx.grad(lambda m: jnp.sum(m(x) ** 2))(m)['kernel'][...] for m in (conv, plain)]
  >>> bool(jnp.allclose(*slopes, rtol=1e-5, atol=1e-3))
  True
  """
  n = lhs.ndim - 2
  plain = (
    ours()
    and feature_group_count == batch_group_count == 1
    and all(d == 1 for d in lhs_dilation or ())
    and preferred_element_type is None
    and out_sharding is None
    and lhs.ndim == rhs.ndim
    and lhs.dtype == rhs.dtype
    and lhs.shape[-1] == rhs.shape[-2]
    and lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == _last(n)
    and all(isinstance(size, int) and size > 0 for size in (*lhs.shape, *rhs.shape))
    and len(window_strides) == n == len(rhs_dilation or (1,) * n)
    and (isinstance(padding, str) or np.array(padding).dtype.kind == 'i')
  )
  if not plain:
    return lax.conv_general_dilated(
      lhs,
      rhs,
      window_strides,
      padding,
      lhs_dilation,
      rhs_dilation,
      dimension_numbers,
      feature_group_count=feature_group_count,
      batch_group_count=batch_group_count,
      precision=precision,
      preferred_element_type=preferred_element_type,
      **({} if out_sharding is None else {'out_sharding': out_sharding}),
    )
  strides = tuple(window_strides)
  dilation = tuple(rhs_dilation or (1,) * n)
  if isinstance(padding, str):
    reach = [(k - 1) * d + 1 for k, d in zip(rhs.shape, dilation)]
    padding = lax.padtype_to_pads(lhs.shape[1:-1], reach, strides, padding)
  padding = tuple((int(a), int(b)) for a, b in padding)
  if all(k == s == 1 for k, s in zip(rhs.shape[:n], strides)) and padding == ((0, 0),) * n:
    return jnp.matmul(lhs, rhs.reshape(rhs.shape[n:]), precision=precision)
  return _convolution.bind(
    varying_with(lhs, rhs),
    varying_with(rhs, lhs),
    strides=strides,
    padding=padding,
    dilation=dilation,
    precision=tuple(precision) if isinstance(precision, list) else precision,
  )


def _last(n: int) -> lax.ConvDimensionNumbers:
  """Axes with channels last: of input, kernel and output."""
  image = (0, n + 1, *range(1, n + 1))
  return lax.ConvDimensionNumbers(image, (n + 1, n, *range(n)), image)


def _by_lax(
  x: Array, kernel: Array, *, strides: Ints, padding: tuple, dilation: Ints, precision: object
) -> Array:
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    padding,
    rhs_dilation=dilation,
    dimension_numbers=_last(len(strides)),
    precision=precision,
  )


def _columns(x: Array, kernel: Ints, strides: Ints, padding: tuple, dilation: Ints) -> Array:
  """What the kernel meets: (batch, *positions, taps x channels)."""
  pads = [(a, b, 0) for a, b in ((0, 0), *padding, (0, 0))]
  x = lax.pad(x, jnp.zeros((), x.dtype), pads)
  return lax.concatenate(windows(x, kernel, strides, dilation), x.ndim - 1)


def _by_columns(
  x: Array, kernel: Array, *, strides: Ints, padding: tuple, dilation: Ints, precision: object
) -> Array:
  columns = _columns(x, kernel.shape[:-2], strides, padding, dilation)
  product = functools.partial(jnp.matmul, precision=precision)
  out = product(columns.reshape(-1, columns.shape[-1]), kernel.reshape(-1, kernel.shape[-1]))
  return out.reshape(*columns.shape[:-1], kernel.shape[-1])


def _out_shape(x: Array, kernel: Array, strides: Ints, padding: tuple, dilation: Ints) -> Ints:
  padded = [m + a + b for m, (a, b) in zip(x.shape[1:], padding)]
  size = output_size(padded, kernel.shape, strides, dilation)
  return (x.shape[0], *size, kernel.shape[-1])


def _forward(
  x: Array, kernel: Array, *, strides: Ints, padding: tuple, dilation: Ints, precision: object
) -> Array:
  shape = _out_shape(x, kernel, strides, padding, dilation)
  options = {'strides': strides, 'padding': padding, 'dilation': dilation, 'precision': precision}
  few = 0 < math.prod(shape[1:-1]) <= _FEW
  return (_by_columns if few else _by_lax)(x, kernel, **options)


def _to_input(slope: Array, x: ad.UndefinedPrimal, kernel: Array, **options: object) -> Array:
  return _slope_of_input(slope, kernel, like=x.aval, **options)


def _to_kernel(slope: Array, x: Array, kernel: ad.UndefinedPrimal, **options: object) -> Array:
  return _slope_of_kernel(slope, x, like=kernel.aval, **options)


_STATIC = ('strides', 'padding', 'dilation', 'precision')
# Programs of their own where nothing is traced around them; within a trace they leave no mark.
_program = functools.partial(jax.jit, static_argnames=(*_STATIC, 'like'), inline=True)


@_program
def _slope_of_input(
  slope: Array, kernel: Array, *, like: jax.core.ShapedArray, **options: object
) -> Array:
  return _transposed(functools.partial(_forward, kernel=kernel, **options), like, slope)


@_program
def _slope_of_kernel(
  slope: Array,
  x: Array,
  *,
  like: jax.core.ShapedArray,
  strides: Ints,
  padding: tuple,
  dilation: Ints,
  precision: object,
) -> Array:
  """A sum over parts of the batch, each a product of its columns and its slopes."""
  shape, batch, n = like.shape, x.shape[0], len(strides)
  if math.prod(slope.shape[1:-1]) < _MANY or math.prod(shape[n - 1 :]) < _PRODUCT:
    options = {'strides': strides, 'padding': padding, 'dilation': dilation, 'precision': precision}
    return _transposed(functools.partial(_by_lax, x, **options), like, slope)
  wide = jnp.promote_types(x.dtype, jnp.float32)  # as XLA accumulates
  ones = (1,) * (n - 1)
  image = math.prod(slope.shape[1:-1]) * math.prod(shape[n - 1 : -1]) * x.dtype.itemsize
  devices = jax.device_count()  # that may share the batch; each keeps its images
  fits = [k for k in range(devices, batch + 1, devices) if batch % k == 0]
  at_once = max((k for k in fits if k * image <= _CACHE * devices), default=min(fits, default=1))
  count = batch // at_once

  def part(i: int | Array) -> Array:
    """One product for every place in the kernel but the last axis's, whose taps are columns."""
    mine, slopes = (lax.dynamic_index_in_dim(a, i, 1, keepdims=False) for a in parts)
    last = [(*ones, a[-1]) for a in (shape[:n], strides, dilation)]
    columns = lax.optimization_barrier(_columns(mine, last[0], last[1], padding, last[2]))
    rest = [(*a[: n - 1], 1) for a in (shape, strides, dilation)]
    products = [
      jnp.matmul(
        window.reshape(-1, columns.shape[-1]).T,
        slopes.reshape(-1, shape[-1]),
        precision=precision,
        preferred_element_type=wide,
      )
      for window in windows(columns, *rest)
    ]
    return jnp.stack(products)

  # Every part has images of every device.
  parts = [a.reshape(at_once, count, *a.shape[1:]) for a in (x, slope)]
  total = part(0)
  if count > 1:
    total = lax.fori_loop(1, count, lambda i, total: total + part(i), total)
  return total.reshape(shape).astype(x.dtype)


def _transposed(run: Callable[[Array], Array], like: jax.core.ShapedArray, slope: Array) -> Array:
  operand = varying_with(jnp.zeros(like.shape, like.dtype), slope)
  return jax.linear_transpose(run, operand)(slope)[0]


def _batched(args: tuple, axes: tuple, **options: object) -> tuple[Array, int]:
  """Of inputs alone, one larger batch."""
  (x, kernel), (axis, other) = args, axes
  if other is not None:
    return jax.vmap(functools.partial(_by_lax, **options), axes)(x, kernel), 0
  x = jnp.moveaxis(x, axis, 0)
  out = _convolution.bind(x.reshape(-1, *x.shape[2:]), kernel, **options)
  return out.reshape(*x.shape[:2], *out.shape[1:]), 0


_convolution = Primitive('convolution')
_convolution.def_impl(jax.jit(_forward, static_argnames=_STATIC))


@_convolution.def_abstract_eval
def _(x: jax.core.ShapedArray, kernel: jax.core.ShapedArray, **options: object) -> object:
  options.pop('precision')
  return x.update(shape=_out_shape(x, kernel, **options), weak_type=False)


ad.defbilinear(_convolution, _to_input, _to_kernel)
batching.primitive_batchers[_convolution] = _batched
mlir.register_lowering(_convolution, mlir.lower_fun(_forward, multiple_results=False))
