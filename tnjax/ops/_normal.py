"""Normal draws that cost no compilation to speak of."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_SHORTEST = 16  # logarithm of the shortest draw on the host


def normal(key: Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32) -> Array:
  """`jax.random.normal`, the same bits drawn as one vector.

  XLA takes seconds to compile a draw of four modes, and milliseconds for a flat one.

  >>> key = jax.random.key(0)
  >>> bool((normal(key, (2, 3)) == jax.random.normal(key, (2, 3))).all())
  True
  """
  return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def host_normal(key: Array, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
  """The bits of `normal` as a NumPy array, from few programs: lengths are powers of two,
  none below 2^16, which takes a millisecond.

  Drawn in float32 where JAX has no 64 bits, and cast.
  """
  size = math.prod(shape)
  length = size
  if jax.config.jax_threefry_partitionable:  # a longer draw then begins with the shorter one
    length = 1 << max(_SHORTEST, (size - 1).bit_length())
  drawn = jax.random.normal(key, (length,), jax.dtypes.canonicalize_dtype(dtype))
  return np.asarray(drawn)[:size].reshape(shape).astype(dtype)
