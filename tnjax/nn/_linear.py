"""Linear layer with a factorised kernel."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.nn import _factors
from tnjax.schemes import Scheme


class Linear(nnx.Module):
  """`nnx.Linear` whose kernel (in, out) is stored as the factors of a scheme.

  Args:
    in_features, out_features: sizes of the last axis before and after.
    scheme: a scheme such as `tn.schemes.r_tt(rate=0.1)`.
    use_bias, dtype, param_dtype, precision, bias_init: as in `nnx.Linear`.
    kernel_std: root mean square of the rebuilt kernel at the start, exact in every draw; default
      1 / sqrt(in_features), that of flax's default.
    rngs: source of the `params` key.

  Raises:
    ValueError: where the scheme does not fit (in, out).

  >>> import tnjax as tn
  >>> layer = tn.nn.Linear(64, 64, scheme=tn.schemes.r_tt(ranks=4), rngs=nnx.Rngs(0))
  >>> x = jnp.ones((2, 5, 64))
  >>> bool(jnp.allclose(layer(x), layer.to_dense()(x), atol=1e-5))
  True
  """

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
    rngs: nnx.Rngs,
  ):
    self.in_features = in_features
    self.out_features = out_features
    self.use_bias = use_bias
    self.dtype = dtype
    self.param_dtype = param_dtype
    self.precision = precision
    self.scheme = scheme
    self.parametrization = scheme.bind((in_features, out_features))
    _factors.store(self, self.parametrization.init(rngs.params(), kernel_std, param_dtype))
    self.bias = _factors.bias_param(use_bias, bias_init, out_features, param_dtype, rngs)

  @classmethod
  def from_dense(cls, dense: nnx.Linear, scheme: Scheme, key: Array | None = None) -> 'Linear':
    """A trained `nnx.Linear` with its kernel decomposed and its bias copied.

    Args:
      dense: the layer; it is left unchanged.
      scheme: how to decompose the kernel.
      key: PRNG key, for schemes that draw random numbers (CP, shuffled).
    """
    layer = cls.abstract(dense, scheme)
    _factors.store(layer, layer.parametrization.decompose(dense.kernel[...], key))
    if dense.use_bias:
      layer.bias = nnx.Param(dense.bias[...])
    return layer

  @classmethod
  def abstract(cls, dense: nnx.Linear, scheme: Scheme) -> 'Linear':
    """The layer `from_dense` would give, with shapes in place of arrays; nothing is computed."""
    return nnx.eval_shape(
      lambda: cls(
        dense.in_features,
        dense.out_features,
        scheme=scheme,
        use_bias=dense.use_bias,
        dtype=dense.dtype,
        param_dtype=dense.param_dtype,
        precision=dense.precision,
        rngs=nnx.Rngs(0),
      )
    )

  def to_dense(self) -> nnx.Linear:
    """`nnx.Linear` with the rebuilt kernel."""
    dense = nnx.eval_shape(
      lambda: nnx.Linear(
        self.in_features,
        self.out_features,
        use_bias=self.use_bias,
        dtype=self.dtype,
        param_dtype=self.param_dtype,
        precision=self.precision,
        rngs=nnx.Rngs(0),
      )
    )
    dense.kernel = nnx.Param(self.kernel)
    if self.use_bias:
      dense.bias = nnx.Param(self.bias[...])
    return dense

  @property
  def kernel(self) -> Array:
    """The rebuilt dense kernel (in_features, out_features)."""
    return self.parametrization.dense(_factors.load(self))

  def __call__(self, inputs: Array) -> Array:
    """Maps (..., in_features) to (..., out_features)."""
    _factors.check_features(self, inputs)
    inputs, factors, bias = _factors.promoted(self, inputs)
    y = self.parametrization.apply(factors, inputs, precision=self.precision)
    return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (-1,))
