"""Linear layer over several axes, with a factorised kernel."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.nn._factorised import Factorised, finish
from tnjax.schemes import Scheme


class LinearGeneral(Factorised):
  """`nnx.LinearGeneral` whose kernel, seen as a matrix (prod in, prod out), is stored as factors.

  The projections of `nnx.MultiHeadAttention` are such layers.

  Args:
    in_features, out_features: int or sizes of the axes that are contracted and that replace them.
    axis: the input's axes that are contracted; as in flax, `in_features` names them in the
      input's order, whatever the order here.
    scheme: a scheme such as `tn.schemes.svd(rate=0.5)`, for the matrix.
    use_bias, dtype, param_dtype, precision, bias_init: as in `nnx.LinearGeneral`.
    kernel_std: as in `Linear`.
    rngs: source of the `params` key; None makes an abstract layer, of shapes in place of arrays.

  Raises:
    ValueError: where the scheme does not fit the matrix, or `axis` and `in_features` differ in
      length.

  >>> import tnjax as tn
  >>> layer = tn.nn.LinearGeneral(
  ...   (2, 3), (4, 5), axis=(1, -1), scheme=tn.schemes.svd(ranks=2), rngs=nnx.Rngs(0)
  ... )
  >>> x = jnp.ones((16, 2, 3))
  >>> layer(x).shape, bool(jnp.allclose(layer(x), layer.to_dense()(x), atol=1e-5))
  ((16, 4, 5), True)
  """

  DENSE = nnx.LinearGeneral
  SHARED = (
    'in_features',
    'out_features',
    'axis',
    'use_bias',
    'dtype',
    'param_dtype',
    'precision',
  )

  @classmethod
  def weight_shape(cls, layer: nnx.Module) -> tuple[int, ...]:
    """(prod in_features, prod out_features)."""
    return math.prod(layer.in_features), math.prod(layer.out_features)

  @classmethod
  def array_shape(cls, layer: nnx.Module) -> tuple[int, ...]:
    """(*in_features, *out_features)."""
    return *layer.in_features, *layer.out_features

  def __init__(
    self,
    in_features: int | Sequence[int],
    out_features: int | Sequence[int],
    *,
    scheme: Scheme,
    axis: int | Sequence[int] = -1,
    use_bias: bool = True,
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    precision: jax.lax.PrecisionLike = None,
    bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
    kernel_std: float | None = None,
    rngs: nnx.Rngs | None,
  ):
    self.in_features = _tuple(in_features)
    self.out_features = _tuple(out_features)
    self.axis = _tuple(axis)
    if len(self.axis) != len(self.in_features):
      raise ValueError(
        f'axis={axis} and in_features={in_features} must have the same number of entries'
      )
    self.use_bias = use_bias
    self.dtype = dtype
    self.param_dtype = param_dtype
    self.precision = precision
    self._setup(scheme, kernel_std, bias_init, self.out_features, rngs)

  def __call__(self, inputs: Array, out_sharding: object = None) -> Array:
    """Contracts the axes `axis`; the others come first, in order, then out_features."""
    shape, order = inputs.shape, inputs.ndim
    axes = sorted(a % order for a in self.axis if -order <= a < order)
    if tuple(shape[a] for a in axes) != self.in_features:
      raise ValueError(
        f'inputs has shape {shape}; this layer needs {self.in_features} along its axes {self.axis}'
      )
    inputs, factors, bias = self._promoted(inputs)
    x = jnp.moveaxis(inputs, axes, range(-len(axes), 0))
    lead = x.shape[: order - len(axes)]
    x = x.reshape(*lead, math.prod(self.in_features))
    y = self.parametrization.apply(factors, x, precision=self.precision)
    return finish(y.reshape(*lead, *self.out_features), bias, out_sharding)


def _tuple(value: int | Sequence[int]) -> tuple[int, ...]:
  return (value,) if isinstance(value, int) else tuple(value)
