"""Frozen records of arrays that behave like values: comparison, and a description in one line."""

import dataclasses
from typing import Any, dataclass_transform

import jax
import numpy as np

_ARRAYS = (jax.Array, np.ndarray, np.generic)


class Value:
  """What `value` makes of a class; `==` and `repr` of a dataclass that holds arrays.

  `a == b` where both are of one kind and of equal structure, shapes, dtypes and entries, NaN equal
  to NaN: nothing then tells them apart. Like the arrays they hold, values have no hash.
  """

  __hash__ = None

  def __eq__(self, other: object) -> bool:
    if type(other) is not type(self):
      return NotImplemented
    (mine, structure), (others, same) = (jax.tree.flatten(_fields(x)) for x in (self, other))
    return structure == same and all(map(_equal, mine, others))

  def __repr__(self) -> str:
    """The fields; an array by its dtype and shape, a scalar by its value."""
    shown = ', '.join(f'{name}={described(field)}' for name, field in _fields(self).items())
    return f'{type(self).__name__}({shown})'


@dataclass_transform(frozen_default=True)
def value(kind: type[Value]) -> type[Value]:
  """A frozen dataclass, registered as a pytree, that keeps the `==` and `repr` of its class.

  >>> @value
  ... class Point(Value):
  ...   place: jax.Array
  >>> Point(np.ones(2)) == Point(np.ones(2)), Point(np.ones(2)) == Point(np.zeros(2))
  (True, False)
  >>> jax.tree.map(np.sum, Point(np.ones(2))), Point(np.ones(2))
  (Point(place=2), Point(place=float64[2]))
  """
  frozen = dataclasses.dataclass(frozen=True, eq=False, repr=False)(kind)
  return jax.tree_util.register_dataclass(frozen)


def described(x: Any) -> str:
  """A scalar by its value, another array by dtype and shape, a tuple or dict by its parts."""
  if isinstance(x, tuple):
    return f'({", ".join(map(described, x))}{"," * (len(x) == 1)})'
  if isinstance(x, dict):
    return f'{{{", ".join(f"{k!r}: {described(v)}" for k, v in x.items())}}}'
  if not isinstance(x, _ARRAYS):
    return repr(x)
  if x.shape or isinstance(x, jax.core.Tracer):
    return f'{x.dtype}[{",".join(map(str, x.shape))}]'
  item = np.asarray(x).item()
  return f'{item:.4g}' if isinstance(item, float) else repr(item)


def _fields(x: Value) -> dict[str, Any]:
  return {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}


def _equal(a: Any, b: Any) -> bool:
  if a is b:
    return True
  if not (isinstance(a, _ARRAYS) and isinstance(b, _ARRAYS)):
    return type(a) is type(b) and bool(a == b)
  if (a.dtype, a.shape) != (b.dtype, b.shape):
    return False
  a, b = np.asarray(a), np.asarray(b)
  return bool(((a == b) | ((a != a) & (b != b))).all())
