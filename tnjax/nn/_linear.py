"""Linear layer with a factorised kernel."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.nn._factorised import Factorised, check_channels, finish
from tnjax.schemes import Scheme


class Linear(Factorised):
  """`nnx.Linear` whose kernel (in, out) is stored as the factors of a scheme.

  Args:
    in_features, out_features: sizes of the last axis before and after.
    scheme: a scheme such as `tn.schemes.r_tt(rate=0.1)`.
    use_bias, dtype, param_dtype, precision, bias_init: as in `nnx.Linear`.
    kernel_std: root mean square of the rebuilt kernel at the start, in every draw; default
      1 / sqrt(in_features), that of flax's default.
    rngs: source of the `params` key; None makes an abstract layer, of shapes in place of arrays.

  Raises:
    ValueError: where the scheme does not fit (in, out).

  >>> import tnjax as tn
  >>> layer = tn.nn.Linear(64, 64, scheme=tn.schemes.r_tt(ranks=4), rngs=nnx.Rngs(0))
  >>> x = jnp.ones((2, 5, 64))
  >>> bool(jnp.allclose(layer(x), layer.to_dense()(x), atol=1e-5))
  True
  """

  DENSE = nnx.Linear
  SHARED = ('in_features', 'out_features', 'use_bias', 'dtype', 'param_dtype', 'precision')

  @classmethod
  def weight_shape(cls, layer: nnx.Module) -> tuple[int, ...]:
    """(in_features, out_features)."""
    return layer.in_features, layer.out_features

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    scheme: Scheme,
    use_bias: bool = True,
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    precision: jax.lax.PrecisionLike = None,
    bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
    kernel_std: float | None = None,
    rngs: nnx.Rngs | None,
  ):
    self.in_features = in_features
    self.out_features = out_features
    self.use_bias = use_bias
    self.dtype = dtype
    self.param_dtype = param_dtype
    self.precision = precision
    self._setup(scheme, kernel_std, bias_init, (out_features,), rngs)

  def __call__(self, inputs: Array, out_sharding: object = None) -> Array:
    """Maps (..., in_features) to (..., out_features)."""
    check_channels(inputs, self.in_features)
    inputs, factors, bias = self._promoted(inputs)
    y = self.parametrization.apply(factors, inputs, precision=self.precision)
    return finish(y, bias, out_sharding)
