"""Convolution with a factorised kernel."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.contraction import Geometry, ints, pad_input
from tnjax.nn._factorised import Factorised, check_channels, compute_dtype, finish
from tnjax.schemes import Forecast, Parametrization, Scheme, spatial_labels


class Conv(Factorised):
  """`nnx.Conv` whose kernel (*kernel_size, in / groups, out) is stored as the factors of a scheme.

  Args:
    in_features, out_features: channels before and after.
    kernel_size: one to three spatial sizes; an int is one.
    strides, padding, kernel_dilation, feature_group_count: as in `nnx.Conv` (padding 'SAME',
      'VALID', 'CIRCULAR', 'REFLECT', 'CAUSAL', or explicit).
    scheme: a scheme such as `tn.schemes.tk(rate=0.1)`.
    use_bias, dtype, param_dtype, precision, bias_init: as in `nnx.Conv`.
    kernel_std: root mean square of the rebuilt kernel at the start, in every draw; default
      1 / sqrt(fan_in), that of flax's default.
    rngs: source of the `params` key; None makes an abstract layer, of shapes in place of arrays.

  Raises:
    ValueError: where the scheme does not fit the kernel, or groups do not divide the channels.

  >>> import tnjax as tn
  >>> layer = tn.nn.Conv(8, 16, (3, 3), 2, scheme=tn.schemes.tk(rate=0.5), rngs=nnx.Rngs(0))
  >>> x = jnp.ones((2, 9, 9, 8))
  >>> layer(x).shape, bool(jnp.allclose(layer(x), layer.to_dense()(x), atol=1e-5))
  ((2, 5, 5, 16), True)
  """

  DENSE = nnx.Conv
  SHARED = (
    'in_features',
    'out_features',
    'kernel_size',
    'strides',
    'padding',
    'kernel_dilation',
    'feature_group_count',
    'use_bias',
    'dtype',
    'param_dtype',
    'precision',
  )

  @classmethod
  def weight_shape(cls, layer: nnx.Module) -> tuple[int, ...]:
    """(*kernel_size, in_features / groups, out_features)."""
    return (
      *layer.kernel_size,
      layer.in_features // layer.feature_group_count,
      layer.out_features,
    )

  @classmethod
  def macs(
    cls, layer: nnx.Module, parametrization: Parametrization | None, call: Sequence[int]
  ) -> int:
    """As `Factorised.macs`; a grouped kernel is rebuilt, and so counts as dense."""
    shape = cls.weight_shape(layer)
    batch, spatial = _lead_and_spatial(layer, call)
    geometry = conv_geometry(layer, spatial)
    if parametrization is not None and layer.feature_group_count == 1:
      return batch * parametrization.macs(geometry, spatial)
    out = (geometry.output_size(a, m) for a, m in zip(geometry.spatial, spatial))
    return batch * math.prod(shape) * math.prod(out)

  @classmethod
  def forecast(
    cls, layer: nnx.Module, parametrization: Parametrization, call: Sequence[int]
  ) -> Forecast:
    """As `Factorised.forecast`."""
    batch, spatial = _lead_and_spatial(layer, call)
    geometry, groups = conv_geometry(layer, spatial), layer.feature_group_count
    return parametrization.forecast(batch, geometry, spatial, groups, compute_dtype(layer))

  def __init__(
    self,
    in_features: int,
    out_features: int,
    kernel_size: int | Sequence[int],
    strides: int | Sequence[int] | None = 1,
    *,
    scheme: Scheme,
    padding: str | int | Sequence[int | tuple[int, int]] = 'SAME',
    kernel_dilation: int | Sequence[int] | None = 1,
    feature_group_count: int = 1,
    use_bias: bool = True,
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    precision: jax.lax.PrecisionLike = None,
    bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
    kernel_std: float | None = None,
    rngs: nnx.Rngs | None,
  ):
    sizes = ints(kernel_size, 1) or tuple(kernel_size)
    if not 1 <= len(sizes) <= 3 or any(n < 1 for n in sizes):
      raise ValueError(f'kernel_size={kernel_size} must be one to three positive ints')
    kernel_size = sizes
    if (
      feature_group_count < 1
      or in_features % feature_group_count
      or out_features % feature_group_count
    ):
      raise ValueError(
        f'feature_group_count={feature_group_count} must divide in_features={in_features} and '
        f'out_features={out_features}'
      )
    self.in_features = in_features
    self.out_features = out_features
    self.kernel_size = kernel_size
    self.strides = strides
    self.padding = padding
    self.kernel_dilation = kernel_dilation
    self.feature_group_count = feature_group_count
    self.use_bias = use_bias
    self.dtype = dtype
    self.param_dtype = param_dtype
    self.precision = precision
    conv_geometry(self, (max(kernel_size),) * len(kernel_size))  # names what does not fit
    self._setup(scheme, kernel_std, bias_init, (out_features,), rngs)

  def __call__(self, inputs: Array, out_sharding: object = None) -> Array:
    """Maps (..., *spatial, in_features) to (..., *spatial', out_features)."""
    n = len(self.kernel_size)
    if inputs.ndim < n + 1:
      raise ValueError(f'inputs has shape {inputs.shape}; it needs {n} spatial axes and channels')
    check_channels(inputs, self.in_features)
    inputs, factors, bias = self._promoted(inputs)
    lead, shape = inputs.shape[: -n - 1], inputs.shape[-n - 1 :]
    x = inputs.reshape(math.prod(lead), *shape)
    geometry = conv_geometry(self, shape[:-1])
    if self.padding in ('CIRCULAR', 'REFLECT'):
      x = pad_input(x, self.padding, geometry.padding)
      geometry = geometry.unpadded()
    groups = self.feature_group_count
    y = self.parametrization.apply(factors, x, geometry, groups, precision=self.precision)
    return finish(y.reshape(*lead, *y.shape[1:]), bias, out_sharding)


def _lead_and_spatial(layer: nnx.Module, call: Sequence[int]) -> tuple[int, tuple[int, ...]]:
  """Product of the leading axes, and the spatial sizes, of an input."""
  n = len(layer.kernel_size) + 1
  return math.prod(call[:-n]), tuple(call[-n:-1])


def conv_geometry(conv: Conv | nnx.Conv, spatial: Sequence[int]) -> Geometry:
  """How a convolution, dense or factorised, slides over an input of `spatial` size."""
  labels = spatial_labels((*conv.kernel_size, 1, 1))
  padding, kernel = conv.padding, conv.kernel_size
  if padding in ('CIRCULAR', 'REFLECT', 'CAUSAL'):
    unpadded = Geometry.resolve(labels, kernel, dilation=conv.kernel_dilation)
    reach = [(k - 1) * d for k, d in zip(kernel, unpadded.dilation)]
    if padding == 'CAUSAL' and len(kernel) > 1:
      raise ValueError(f"padding='CAUSAL' needs one spatial axis; kernel_size={kernel}")
    padding = [(r, 0) if padding == 'CAUSAL' else (r // 2, r - r // 2) for r in reach]
  return Geometry.resolve(labels, kernel, conv.strides, padding, conv.kernel_dilation, spatial)
