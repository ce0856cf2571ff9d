"""The permutation of a shuffled weight, and the weight as the host sees it folded."""

import math

import jax
import numpy as np
from jax import Array

from tnjax import formats
from tnjax.ops import permutation, prng_key
from tnjax.schemes._fold import Fold


def index_data(permutation: str | int, key: Array | None) -> Array:
  """Data (2,) uint32 of the key that draws a permutation: from half of a weight's key, or a seed.

  The data is that of a threefry key whatever the kind of `key`, so that two ints draw the
  permutation again.
  """
  seeded = jax.random.key(permutation if isinstance(permutation, int) else 0, impl='threefry2x32')
  if isinstance(permutation, int):
    return jax.random.key_data(seeded)
  index_key, _ = jax.random.split(key)
  if jax.random.key_impl(index_key) == jax.random.key_impl(seeded):
    return jax.random.key_data(index_key)
  return jax.random.bits(index_key, (2,), 'uint32')


def rest_of(key: Array) -> Array:
  """The other half of a weight's key, for what else draws numbers."""
  _, rest = jax.random.split(key)
  return rest


def draw_index(data: Array, n: int) -> Array:
  """The permutation of n entries that belongs to the data of a key.

  >>> data = index_data('key', jax.random.key(0))
  >>> sorted(draw_index(data, 4).tolist())
  [0, 1, 2, 3]
  """
  return permutation(jax.random.wrap_key_data(data, impl='threefry2x32'), n)


def on_host(fold: Fold, weight: Array, key: Array | None) -> np.ndarray:
  """The folded weight as it will be decomposed, in double precision on the host.

  Raises:
    ValueError: entries that are not finite, or a missing key of a shuffle.
  """
  found = np.asarray(weight)
  found = found.astype('complex128' if np.iscomplexobj(found) else 'float64')
  if not np.isfinite(found).all():
    raise ValueError(f'weight of shape {weight.shape} has NaN or infinite entries')
  if fold.shuffled:
    seeded = isinstance(fold.permutation, int)
    data = index_data(fold.permutation, None if seeded else prng_key(key))
    index = np.asarray(draw_index(data, math.prod(fold.shape)))
    found = formats.shuffle(found, index, fold.mode_shape)
  return fold.fold(found)
