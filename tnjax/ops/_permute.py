"""Seeded permutation of the entries of a tensor."""

import jax
from jax import Array


def permutation(key: Array, n: int) -> Array:
  """Uniform random permutation of 0..n-1 as int32 indices, the same for the same key.

  >>> p = permutation(jax.random.key(0), 6)
  >>> sorted(p.tolist())
  [0, 1, 2, 3, 4, 5]
  """
  return jax.random.permutation(key, n).astype('int32')
