"""What all formats share: arrays, a dtype, and the algebra that pairs two records.

A record owns its facts: which array carries a mode, how it is cast and scaled, along which bonds
two of its kind are joined. What is here only pairs them.
"""

import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.formats._blocks import direct_sum, kronecker
from tnjax.ops import Value, inexact_dtype, integer

Join = Callable[[Array, Array, Sequence[int]], Array]


class Record(Value):
  """Base of the format records; subclasses are frozen dataclasses registered as pytrees.

  `a + b`, `a - b`, `-a`, `2 * a`, `a / 2` and `a * b` (elementwise) are `add`, `scale` and
  `hadamard`; `sum` takes them too, and `np.asarray(a)` is `a.full()`. `a == b` compares the stored
  arrays: True for one format, ranks, dtype and entries, and one tensor may have several of them.

  >>> import tnjax as tn
  >>> x = np.arange(24., dtype='float32').reshape(2, 3, 4)
  >>> a = tn.tt_svd(x, ranks=2).tensor
  >>> a, a == a.astype('float32'), a == 2 * a
  (TT(shape=(2, 3, 4), ranks=(2, 2), dtype=float32), True, False)
  >>> np.allclose(sum([a, a, a]) / 3, x, atol=1e-4)
  True
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
  def ndim(self) -> int:
    """Number of modes."""
    return len(self.shape)

  @property
  def num_params(self) -> int:
    """Number of stored entries."""
    return sum(a.size for a in self.arrays)

  def astype(self, dtype: jnp.dtype) -> Self:
    """The same tensor in another floating or complex dtype.

    Raises:
      ValueError: no such dtype, or a real one for a complex tensor, whose real part has other
        ranks.
    """
    dtype = inexact_dtype(dtype)
    if jnp.iscomplexobj(self.arrays[0]) and not jnp.issubdtype(dtype, jnp.complexfloating):
      raise ValueError(
        f'dtype={dtype} is real and the tensor {self.dtype}; its real part is '
        '(a + a.conj()) / 2, of twice the ranks'
      )
    return self.cast(dtype)

  def cast(self, dtype: jnp.dtype) -> Self:
    """All arrays in `dtype`, which is not checked."""
    return jax.tree.map(lambda a: a.astype(dtype), self)

  def conj(self) -> Self:
    """The complex conjugate."""
    return jax.tree.map(lambda a: a.conj(), self)

  def full(self) -> Array:
    """The dense tensor."""
    raise NotImplementedError

  def scaled(self, c: Array, by: Callable = operator.mul) -> Self:
    """The multiple by a scalar, as `scale` gives it; with `by=operator.truediv`, the quotient."""
    raise NotImplementedError

  def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
    """`full()`, for NumPy."""
    if copy is False:
      raise ValueError(f'copy=False: a {type(self).__name__} holds no dense tensor')
    return np.asarray(self.full(), dtype)

  def __add__(self, other: 'Record') -> 'Record':
    if isinstance(other, numbers.Number) and other == 0:  # where `sum` starts
      return self
    return paired(self, other, direct_sum) if isinstance(other, Record) else NotImplemented

  __radd__ = __add__

  def __sub__(self, other: 'Record') -> 'Record':
    return self + -other if isinstance(other, Record) else NotImplemented

  def __neg__(self) -> 'Record':
    return self * -1

  def __mul__(self, other: 'Record | complex | Array') -> 'Record':
    if isinstance(other, Record):
      return paired(self, other, kronecker)
    return self.scaled(_scalar(other))

  def __rmul__(self, other: complex | Array) -> 'Record':
    return self * other

  def __truediv__(self, other: complex | Array) -> 'Record':
    if isinstance(other, Record):
      return NotImplemented
    return self.scaled(_scalar(other), operator.truediv)


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

  def scaled(self, c: Array, by: Callable = operator.mul) -> Self:
    """The first mode's array takes the scalar."""
    cast = self.cast(jnp.result_type(self.dtype, c))
    first, *rest = cast.mode_arrays
    return cast.with_mode_arrays((by(first, jnp.asarray(c, cast.dtype)), *rest))

  def __repr__(self) -> str:
    """Shape, ranks and dtype; of a batch, or of leaves that are no arrays, the fields."""
    if not self.is_single():
      return super().__repr__()
    return f'{type(self).__name__}(shape={self.shape}, ranks={self.ranks}, dtype={self.dtype})'

  def is_single(self) -> bool:
    """Whether the arrays have the orders of one tensor: not those of a batch, made by `vmap`."""
    return all(getattr(a, 'ndim', None) == self.mode_axis + 2 for a in self.arrays)


def _scalar(c: complex | Array) -> complex | Array:
  if jnp.shape(c) != ():
    raise ValueError(f'c has shape {jnp.shape(c)}; it needs (), a scalar')
  return c


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
  mode = integer(mode, name, least=None)
  if not -order <= mode < order:
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
