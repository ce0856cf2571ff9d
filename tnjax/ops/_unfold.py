"""Unfolding (matricisation) of a tensor along one mode, and its inverse."""

import math
from collections.abc import Sequence

from jax import Array

from tnjax.ops._engine import namespace


def unfold(x: Array, mode: int) -> Array:
  """Mode-`mode` unfolding, the matrix X_(n) of shape (I_n, prod of the other modes).

  Columns run over the other modes in their order, the last one fastest (row-major; Kolda and
  Bader 2009 let the first one run fastest).

  >>> import jax.numpy as jnp
  >>> x = jnp.arange(24.).reshape(2, 3, 4)
  >>> unfold(x, 1).shape
  (3, 8)
  >>> bool((fold(unfold(x, 1), 1, x.shape) == x).all())
  True
  """
  return namespace(x).moveaxis(x, mode, 0).reshape(x.shape[mode], -1)


def fold(matrix: Array, mode: int, shape: Sequence[int]) -> Array:
  """Inverse of `unfold`: the tensor of `shape` whose mode-`mode` unfolding is `matrix`."""
  rest = [n for i, n in enumerate(shape) if i != mode % len(shape)]
  if matrix.shape != (shape[mode], math.prod(rest)):
    raise ValueError(
      f'matrix has shape {matrix.shape}; the mode-{mode} unfolding of {tuple(shape)} '
      f'has shape {(shape[mode], math.prod(rest))}'
    )
  return namespace(matrix).moveaxis(matrix.reshape(shape[mode], *rest), 0, mode)
