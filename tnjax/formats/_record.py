"""What all formats share: arrays, a dtype, and the algebra that pairs two records.

A record owns its facts: which array carries a mode, how it is cast and scaled, along which bonds
two of its kind are joined. What is here only pairs them.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Self

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.formats._blocks import direct_sum, kronecker

Join = Callable[[Array, Array, Sequence[int]], Array]


class Record:
  """Base of the format records; subclasses are frozen dataclasses registered as pytrees.

  `a + b`, `a - b`, `-a`, `2 * a` and `a * b` (elementwise) are `add`, `scale` and `hadamard`.
  """

  __array_ufunc__ = None  # numpy scalars leave `c * record` to `__rmul__`

  @property
  def arrays(self) -> tuple[Array, ...]:
    """The stored arrays, in the order of the names in `network`."""
    raise NotImplementedError

  def absorbed(self) -> 'Record':
    """The same tensor as `arrays` alone, with no scale beside them."""
    return self

  @property
  def dtype(self) -> jnp.dtype:
    """Dtype of the stored arrays (and of `full()`)."""
    return self.arrays[0].dtype

  @property
  def num_params(self) -> int:
    """Number of stored entries."""
    return sum(a.size for a in self.arrays)

  def cast(self, dtype: jnp.dtype) -> Self:
    """All arrays in `dtype`."""
    return jax.tree.map(lambda a: a.astype(dtype), self)

  def scaled(self, c: Array) -> Self:
    """The multiple by a scalar, as `scale` gives it."""
    raise NotImplementedError

  def __add__(self, other: 'Record') -> 'Record':
    return paired(self, other, direct_sum) if isinstance(other, Record) else NotImplemented

  def __sub__(self, other: 'Record') -> 'Record':
    return self + -other if isinstance(other, Record) else NotImplemented

  def __neg__(self) -> 'Record':
    return self * -1

  def __mul__(self, other: 'Record | complex | Array') -> 'Record':
    if isinstance(other, Record):
      return paired(self, other, kronecker)
    if jnp.shape(other) != ():
      raise ValueError(f'c has shape {jnp.shape(other)}; it needs (), a scalar')
    return self.scaled(other)

  def __rmul__(self, other: complex | Array) -> 'Record':
    return self * other


class ModeRecord(Record):
  """A record whose modes each lie in an array of their own: all formats but `Shuffled`."""

  mode_axis = 0  # the axis that a mode has in its array

  @property
  def mode_arrays(self) -> tuple[Array | None, ...]:
    """The array that carries each mode; None where a partial Tucker keeps it in its core."""
    raise NotImplementedError

  def with_mode_arrays(self, arrays: Sequence[Array | None]) -> Self:
    """The same record with other arrays in place of `mode_arrays`."""
    raise NotImplementedError

  def joined(self, other: Self, join: Join) -> Self:
    """The arrays of two records, each pair joined along those of its axes that are bonds."""
    raise NotImplementedError

  def scaled(self, c: Array) -> Self:
    """The first mode's array takes the scalar."""
    cast = self.cast(jnp.result_type(self.dtype, c))
    first, *rest = cast.mode_arrays
    return cast.with_mode_arrays((first * jnp.asarray(c, cast.dtype), *rest))


def check_format(x: Record, name: str, kinds: tuple[type, ...] = (ModeRecord,)) -> None:
  """A ValueError unless `x` is one of `kinds`; a `Shuffled` has no network over its modes."""
  if not isinstance(x, kinds):
    wanted = ', '.join(k.__name__ for k in kinds).replace('ModeRecord', 'CP, Tucker, TT, TR')
    raise ValueError(
      f'{name} is a {type(x).__name__}; this needs one of: {wanted} '
      f'(of a Shuffled pass .tensor, or work on .full())'
    )


def check_shapes(a: Record, b: Record) -> None:
  """A ValueError unless both tensors have one shape."""
  if a.shape != b.shape:
    raise ValueError(f'b has shape {b.shape}; it needs the shape of a, {a.shape}')


def check_mode(x: Record, mode: int, name: str = 'mode') -> int:
  """`mode` counted from the front; negative ones count from the back."""
  order = len(x.shape)
  if not -order <= operator.index(mode) < order:
    raise ValueError(
      f'{name}={mode} does not exist; a tensor of shape {x.shape} needs {-order}..{order - 1}'
    )
  return mode % order


def paired(a: Record, b: Record, join: Join) -> Record:
  """Two tensors of one shape and format, joined along all their bonds."""
  check_format(a, 'a')
  check_format(b, 'b')
  if type(a) is not type(b):
    raise ValueError(
      f'b is a {type(b).__name__} and a is a {type(a).__name__}; bring both to one format first, '
      f'such as with to_tt'
    )
  check_shapes(a, b)
  return a.joined(b, join)
