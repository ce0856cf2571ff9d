"""What all formats share: a tuple of arrays, a dtype, and the operators of the algebra."""

import jax.numpy as jnp
from jax import Array


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

  # The algebra is written with the records, so it can only be imported when it is called.

  def __add__(self, other: 'Record') -> 'Record':
    from tnjax.formats._algebra import add

    return add(self, other) if isinstance(other, Record) else NotImplemented

  def __sub__(self, other: 'Record') -> 'Record':
    return self + -other if isinstance(other, Record) else NotImplemented

  def __neg__(self) -> 'Record':
    return self * -1

  def __mul__(self, other: 'Record | complex | Array') -> 'Record':
    from tnjax.formats._algebra import hadamard, scale

    return hadamard(self, other) if isinstance(other, Record) else scale(self, other)

  def __rmul__(self, other: complex | Array) -> 'Record':
    return self * other
