"""Arrays on their way out of jax and back: no file knows keys or bfloat16."""

import jax
import numpy as np


def is_key(leaf: jax.Array) -> bool:
  """Whether it holds typed random keys."""
  return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def host(leaf: jax.Array) -> np.ndarray:
  """The numbers of an array, or of a key, on the host.

  >>> key = jax.random.key(3)
  >>> like(host(key), key) == key
  Array(True, dtype=bool)
  """
  return np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf)


def like(array: np.ndarray | jax.Array, leaf: jax.Array) -> jax.Array:
  """What `host` gave, or the same numbers placed on devices, as the kind of array `leaf` is.

  Raises:
    ValueError: another shape or dtype.
  """
  if is_key(leaf):
    return jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
  if array.dtype.kind == 'V':  # what a NumPy file makes of bfloat16
    array = array.view(leaf.dtype)
  if (array.shape, array.dtype) != (leaf.shape, leaf.dtype):
    raise ValueError(f'it has {array.dtype}{array.shape}, not {leaf.dtype}{leaf.shape}')
  return jax.numpy.asarray(array)
