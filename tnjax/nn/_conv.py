"""Convolution with a factorised kernel."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.contraction import Geometry, pad_input
from tnjax.nn import _factors
from tnjax.schemes import Scheme, spatial_labels


class Conv(nnx.Module):
  """`nnx.Conv` whose kernel (*kernel_size, in / groups, out) is stored as the factors of a scheme.

  Args:
    in_features, out_features: channels before and after.
    kernel_size: one to three spatial sizes; an int is one.
    strides, padding, kernel_dilation, feature_group_count: as in `nnx.Conv` (padding 'SAME',
      'VALID', 'CIRCULAR', 'REFLECT', 'CAUSAL', or explicit).
    scheme: a scheme such as `tn.schemes.tk(rate=0.1)`.
    use_bias, dtype, param_dtype, precision, bias_init: as in `nnx.Conv`.
    kernel_std: root mean square of the rebuilt kernel at the start, exact in every draw; default
      1 / sqrt(fan_in), that of flax's default.
    rngs: source of the `params` key.

  Raises:
    ValueError: where the scheme does not fit the kernel, or groups do not divide the channels.

  >>> import tnjax as tn
  >>> layer = tn.nn.Conv(8, 16, (3, 3), 2, scheme=tn.schemes.tk(rate=0.5), rngs=nnx.Rngs(0))
  >>> x = jnp.ones((2, 9, 9, 8))
  >>> layer(x).shape, bool(jnp.allclose(layer(x), layer.to_dense()(x), atol=1e-5))
  ((2, 5, 5, 16), True)
  """

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
    rngs: nnx.Rngs,
  ):
    kernel_size = (kernel_size,) if isinstance(kernel_size, int) else tuple(kernel_size)
    if in_features % feature_group_count or out_features % feature_group_count:
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
    self.scheme = scheme
    shape = (*kernel_size, in_features // feature_group_count, out_features)
    self.parametrization = scheme.bind(shape)
    _factors.store(self, self.parametrization.init(rngs.params(), kernel_std, param_dtype))
    self.bias = _factors.bias_param(use_bias, bias_init, out_features, param_dtype, rngs)

  @classmethod
  def from_dense(cls, dense: nnx.Conv, scheme: Scheme, key: Array | None = None) -> 'Conv':
    """A trained `nnx.Conv` with its kernel decomposed and its bias copied.

    Args:
      dense: the layer; it is left unchanged.
      scheme: how to decompose the kernel.
      key: PRNG key, for schemes that draw random numbers (CP, shuffled).

    Raises:
      ValueError: a masked or input-dilated (transposed) convolution.
    """
    layer = cls.abstract(dense, scheme)
    _factors.store(layer, layer.parametrization.decompose(dense.kernel[...], key))
    if dense.use_bias:
      layer.bias = nnx.Param(dense.bias[...])
    return layer

  @classmethod
  def abstract(cls, dense: nnx.Conv, scheme: Scheme) -> 'Conv':
    """The layer `from_dense` would give, with shapes in place of arrays; nothing is computed."""
    if dense.mask is not None:
      raise ValueError('dense.mask is set; a masked kernel has no factorised form')
    if any(d not in (None, 1) for d in jax.tree.leaves(dense.input_dilation)):
      raise ValueError(f'dense.input_dilation={dense.input_dilation} must be 1')
    return nnx.eval_shape(
      lambda: cls(scheme=scheme, use_bias=dense.use_bias, rngs=nnx.Rngs(0), **_options(dense))
    )

  def to_dense(self) -> nnx.Conv:
    """`nnx.Conv` with the rebuilt kernel."""
    dense = nnx.eval_shape(
      lambda: nnx.Conv(use_bias=self.use_bias, rngs=nnx.Rngs(0), **_options(self))
    )
    dense.kernel = nnx.Param(self.kernel)
    if self.use_bias:
      dense.bias = nnx.Param(self.bias[...])
    return dense

  @property
  def kernel(self) -> Array:
    """The rebuilt dense kernel (*kernel_size, in_features / groups, out_features)."""
    return self.parametrization.dense(_factors.load(self))

  def __call__(self, inputs: Array) -> Array:
    """Maps (..., *spatial, in_features) to (..., *spatial', out_features)."""
    _factors.check_features(self, inputs)
    n = len(self.kernel_size)
    if inputs.ndim < n + 1:
      raise ValueError(f'inputs has shape {inputs.shape}; it needs {n} spatial axes and channels')
    inputs, factors, bias = _factors.promoted(self, inputs)
    lead = inputs.shape[: inputs.ndim - n - 1]
    x = inputs.reshape(-1, *inputs.shape[len(lead) :])
    geometry = conv_geometry(self, x.shape[1:-1])
    if self.padding in ('CIRCULAR', 'REFLECT'):
      x = pad_input(x, self.padding, geometry.padding)
      geometry = geometry.unpadded()
    y = self.parametrization.apply(
      factors, x, geometry, self.feature_group_count, precision=self.precision
    )
    y = y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
    return y.reshape(*lead, *y.shape[1:])


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


def _options(conv: Conv | nnx.Conv) -> dict[str, object]:
  """Constructor arguments that `Conv` and `nnx.Conv` share."""
  shared = (
    'in_features',
    'out_features',
    'kernel_size',
    'strides',
    'padding',
    'kernel_dilation',
    'feature_group_count',
    'dtype',
    'param_dtype',
    'precision',
  )
  return {name: getattr(conv, name) for name in shared}
