"""Batch normalisation of very many channels, ten times as fast on CPU as by XLA's column sums."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

_Residuals = tuple[Array, Array, Array, Array]


class BatchNorm(nnx.BatchNorm):
  """`nnx.BatchNorm` of (batch, channels), the same numbers and variables.

  XLA on CPU sums a column entry by entry, a cache line each: 2.6 CPU seconds, forward and back, of
  100 x 262,144 entries. Sums as products with a vector of ones, and the gradient written out, take
  0.24.
  """

  def __call__(self, x: Array, use_running_average: bool) -> Array:
    """Normalised by the batch's statistics, which are noted, or by the running averages."""
    if use_running_average:
      return super().__call__(x, use_running_average=True)
    y, mean, var = _normalised(x, self.scale[...], self.bias[...], self.epsilon)
    for average, value in ((self.mean, mean), (self.var, var)):
      average[...] = self.momentum * average[...] + (1 - self.momentum) * value
    return y


@jax.custom_vjp
def _normalised(x: Array, scale: Array, bias: Array, epsilon: float) -> tuple[Array, Array, Array]:
  """The output, and mean and variance of the columns, through which no gradient flows."""
  return _forward(x, scale, bias, epsilon)[0]


def _forward(
  x: Array, scale: Array, bias: Array, epsilon: float
) -> tuple[tuple[Array, Array, Array], _Residuals]:
  share = jnp.full(len(x), 1 / len(x), x.dtype)
  mean = share @ x
  var = jnp.maximum(share @ (x * x) - mean * mean, 0)
  inverse = jax.lax.rsqrt(var + epsilon)
  factor = scale * inverse
  y = x * factor[None] + (bias - mean * factor)[None]
  return (y, mean, var), (x, mean, inverse, scale)


def _backward(
  residuals: _Residuals, gradients: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array, None]:
  x, mean, inverse, scale = residuals
  dy, _, _ = gradients
  count = len(x)
  ones = jnp.ones(count, x.dtype)
  total = ones @ dy
  along = (ones @ (dy * x) - mean * total) * inverse  # of the normalised entries
  factor = scale * inverse
  slope = -factor * inverse * along / count
  dx = dy * factor[None] + x * slope[None] - (factor * total / count + slope * mean)[None]
  return dx, along, total, None


_normalised.defvjp(_forward, _backward)
