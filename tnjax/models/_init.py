"""Initialisers of flax's distributions, to the bit, that a fresh process need not wait for.

XLA takes seconds to compile a normal draw of four modes. Drawn flat on the host it costs a program
per power of two.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.ops import host_normal, normal


def he_normal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
  """Normal with variance 2 / fan_out, of a kernel (*spatial, in, out) (He et al. 2015, eq. 14).

  >>> from flax import nnx
  >>> key, flax = jax.random.key(0), nnx.initializers.variance_scaling(2.0, 'fan_out', 'normal')
  >>> bool(jnp.allclose(he_normal(key, (3, 3, 4, 8)), flax(key, (3, 3, 4, 8)), rtol=1e-6))
  True
  """
  draw = normal if isinstance(key, jax.core.Tracer) else host_normal
  fan_out = math.prod(shape) // shape[-2]
  std = jnp.dtype(dtype).type(math.sqrt(2 / fan_out))  # of that type, or it would widen the draw
  return jnp.asarray(draw(key, shape, dtype) * std)


def lecun_normal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
  """Normal, cut at two standard deviations, with variance 1 / fan_in: flax's default.

  >>> from flax import nnx
  >>> key, flax = jax.random.key(0), nnx.initializers.lecun_normal()
  >>> bool(jnp.allclose(lecun_normal(key, (64, 10)), flax(key, (64, 10)), rtol=1e-6))
  True
  """
  fan_in = math.prod(shape) // shape[-1]
  drawn = jax.random.truncated_normal(key, -2, 2, (math.prod(shape),), dtype)
  return (drawn * (math.sqrt(1 / fan_in) / 0.87962566103423978)).reshape(shape)
