"""Initialisers of flax's distributions that a fresh process need not wait for.

XLA takes seconds to compile a normal draw of four modes. Drawn flat on the host, all layers share
one program.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import special

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
  return _placed(draw(key, shape, dtype) * std)


def dense_normal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
  """Normal with variance 2 / fan_in, of a matrix (in, out) before a ReLU (He et al. 2015, eq. 10).

  >>> x = dense_normal(jax.random.key(0), (800, 400)) * 20
  >>> bool(abs(x.std() - 1) < 0.01)
  True
  """
  draw = normal if isinstance(key, jax.core.Tracer) else host_normal
  std = jnp.dtype(dtype).type(math.sqrt(2 / shape[0]))
  return _placed(draw(key, shape, dtype) * std)


def lecun_normal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
  """Normal, cut at two standard deviations, with variance 1 / fan_in, as flax's default.

  Of the distribution function's values of normal draws, so that it needs no program of its own.

  >>> x = lecun_normal(jax.random.key(0), (400, 400)) * 20
  >>> bool(abs(x.std() - 1) < 0.01), bool(abs(x).max() < 2 / 0.879)
  (True, True)
  """
  fan_in = math.prod(shape) // shape[-1]
  std = math.sqrt(1 / fan_in) / 0.87962566103423978  # that of the uncut normal
  if isinstance(key, jax.core.Tracer):
    ndtr, ndtri, drawn = jax.scipy.special.ndtr, jax.scipy.special.ndtri, normal(key, shape, dtype)
  else:
    ndtr, ndtri, drawn = special.ndtr, special.ndtri, host_normal(key, shape, dtype)
  low, high = special.ndtr(-2.0), special.ndtr(2.0)
  return _placed((ndtri(low + (high - low) * ndtr(drawn)) * std).astype(dtype))


def _placed(x: Array | np.ndarray) -> Array:
  """As a JAX array, without a program for every shape, which `jnp.asarray` compiles."""
  return x if isinstance(x, jax.Array) else jax.device_put(x)
