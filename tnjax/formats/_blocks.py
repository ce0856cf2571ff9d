"""How two arrays meet along the axes that are bonds: block-diagonally, or in Kronecker products."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array


def direct_sum(a: Array, b: Array, axes: Sequence[int]) -> Array:
  """`a` and `b` as the two diagonal blocks along `axes`; their sum where there are none."""
  after = [(0, n if i in axes else 0) for i, n in enumerate(b.shape)]
  before = [(n if i in axes else 0, 0) for i, n in enumerate(a.shape)]
  return jnp.pad(a, after) + jnp.pad(b, before)


def kronecker(a: Array, b: Array, axes: Sequence[int]) -> Array:
  """Kronecker product along `axes`, elementwise along the others."""
  rows = [n for i, size in enumerate(a.shape) for n in ((size, 1) if i in axes else (size,))]
  columns = [n for i, size in enumerate(b.shape) for n in ((1, size) if i in axes else (size,))]
  shape = [m * n if i in axes else m for i, (m, n) in enumerate(zip(a.shape, b.shape))]
  return (a.reshape(rows) * b.reshape(columns)).reshape(shape)
