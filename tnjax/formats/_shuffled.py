"""A format behind a fixed permutation of all entries."""

import dataclasses
import operator
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.formats._record import Record
from tnjax.ops import namespace, value


@value
class Shuffled(Record):
  """Tensor whose entries are a fixed rearrangement of a low-rank one: vec(X)[i] = vec(Y)[index[i]].

  Randomly-shuffled tensor decomposition, RsTD (Li et al. 2019, arXiv 1810.13098; the exact
  definition is this project's own). The map Y -> X is orthogonal, so errors in Y are errors in X.

  Attributes:
    tensor: the low-rank Y, any format, any shape with the same number of entries.
    index: int32 permutation of 0..n-1.
    shape: shape of X (static).

  `num_params` does not count the index: it follows from its seed.
  """

  tensor: Record
  index: Array
  shape: tuple[int, ...] = dataclasses.field(metadata={'static': True})

  @property
  def arrays(self) -> tuple[Array, ...]:
    """Arrays of the inner format."""
    return self.tensor.arrays

  @property
  def ranks(self) -> tuple[int, ...]:
    """Ranks of the inner format."""
    return self.tensor.ranks

  def cast(self, dtype: jnp.dtype) -> 'Shuffled':
    """The inner tensor in `dtype`; the index stays."""
    return dataclasses.replace(self, tensor=self.tensor.cast(dtype))

  def scaled(self, c: Array, by: Callable = operator.mul) -> 'Shuffled':
    """The inner tensor takes the scalar."""
    return dataclasses.replace(self, tensor=self.tensor.scaled(c, by))

  def full(self) -> Array:
    """The dense tensor."""
    return unshuffle(self.tensor.full(), self.index, self.shape)


def shuffle(x: Array, index: Array, shape: tuple[int, ...]) -> Array:
  """Y of `shape` with vec(Y)[index] = vec(x), the inverse of `unshuffle`."""
  if _on_host(x, index):
    flat = np.empty(x.size, x.dtype)
    flat[np.asarray(index)] = x.ravel()
    return flat.reshape(shape)
  flat = jnp.zeros(x.size, x.dtype).at[index].set(x.ravel(), unique_indices=True)
  return flat.reshape(shape)


def unshuffle(y: Array, index: Array, shape: tuple[int, ...]) -> Array:
  """X of `shape` with vec(X) = vec(y)[index]."""
  if _on_host(y, index):
    index = np.asarray(index)
  return y.ravel()[index].reshape(shape)


def _on_host(x: Array, index: Array) -> bool:
  """Whether x is NumPy's and the index, of either kind, has values."""
  return namespace(x) is np and not isinstance(index, jax.core.Tracer)
