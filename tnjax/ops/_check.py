"""Checks of what users pass: the value as plain data, or one ValueError that names the argument.

Every door takes its checks from here, so that they agree: NumPy scalars of any width are numbers;
bools, text and traced values are none, and NaN and infinity are no settings.
"""

import math
import numbers
import operator
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_UNORDERED = (str, bytes, dict, set)


def integer(value: Any, name: str, least: int | None = 1, remedy: str = '') -> int:
  """An int, of at least `least` where that is given.

  >>> integer(np.uint8(3), 'restarts')
  3
  >>> integer('3', 'restarts')
  Traceback (most recent call last):
    ...
  ValueError: restarts='3' must be an int of at least 1
  """
  found = _index(value)
  if found is None or (least is not None and found < least):
    limit = '' if least is None else f' of at least {least}'
    raise ValueError(f'{name}={value!r} must be an int{limit}{remedy}')
  return found


def integers(value: Any, name: str, least: int | None = 1) -> tuple[int, ...]:
  """A sequence of ints as a tuple, an int as a tuple of one.

  >>> integers(np.array([3, 4]), 'modes'), integers(3, 'modes')
  ((3, 4), (3,))
  """
  found = (_index(value),)
  if found == (None,) and np.iterable(value) and not isinstance(value, _UNORDERED):
    found = tuple(map(_index, value))
  if None in found:
    raise ValueError(f'{name}={value!r} must be an int or a sequence of ints')
  if least is not None and any(n < least for n in found):
    raise ValueError(f'{name}={value!r} must all be at least {least}')
  return found


def number(value: Any, name: str, meaning: str, fits: Callable[[float], bool]) -> float:
  """A finite real number that `fits`, which `meaning` says in words.

  >>> number(np.float16(0.5), 'rate', 'in (0, 1]', lambda x: 0 < x <= 1)
  0.5
  >>> number(True, 'rate', 'in (0, 1]', lambda x: 0 < x <= 1)
  Traceback (most recent call last):
    ...
  ValueError: rate=True must be a number in (0, 1]
  """
  found = _real(value)
  if not (math.isfinite(found) and fits(found)):
    raise ValueError(f'{name}={value!r} must be a number {meaning}')
  return found


def tolerance(value: Any, name: str = 'tol') -> float:
  """A relative error to reach, or the relative change at which an iteration stops.

  >>> tolerance(np.float32(0.25))
  0.25
  """
  return number(value, name, 'of at least 0, not traced', lambda x: x >= 0)


def one_of(value: Any, name: str, choices: Sequence[str]) -> str:
  """One of a few words.

  >>> one_of('qr', 'method', ('gram', 'qr'))
  'qr'
  """
  if not isinstance(value, str) or value not in choices:
    raise ValueError(f'{name}={value!r} must be one of {", ".join(choices)}')
  return value


def prng_key(value: Any, name: str = 'key') -> Array:
  """A single PRNG key, typed or of the older kind, an array of uint32.

  >>> prng_key(0)
  Traceback (most recent call last):
    ...
  ValueError: key=0 must be a single PRNG key, such as jax.random.key(0)
  """
  dtype, shape = getattr(value, 'dtype', None), getattr(value, 'shape', None)
  typed = isinstance(value, jax.Array) and jnp.issubdtype(dtype, jax.dtypes.prng_key)
  if not (shape == () if typed else dtype == np.uint32 and shape in ((2,), (4,))):
    raise ValueError(f'{name}={value!r} must be a single PRNG key, such as jax.random.key(0)')
  return value


def numeric(value: Any, name: str, xp: ModuleType = jnp) -> Array:
  """An array of numbers, of NumPy (which a traced one cannot be) or of JAX.

  >>> numeric([[1, 2]], 'matrix').shape
  (1, 2)
  >>> numeric('text', 'matrix', np)
  Traceback (most recent call last):
    ...
  ValueError: matrix must be an array of numbers with values at hand; it is a str
  """
  try:
    if any(isinstance(leaf, str | bytes) for leaf in jax.tree.leaves(value)):
      raise TypeError  # JAX would warn before it refuses
    found = xp.asarray(value)
    if jnp.issubdtype(found.dtype, np.number) or found.dtype == bool:
      return found
  except (TypeError, ValueError):
    pass
  kind = f'{type(value).__name__}{f" of {value.dtype}" if hasattr(value, "dtype") else ""}'
  needed = ' with values at hand' if xp is np else ''
  raise ValueError(f'{name} must be an array of numbers{needed}; it is a {kind}')


def _index(value: Any) -> int | None:
  """None for what is no int."""
  if isinstance(value, bool | np.bool_):
    return None
  try:
    return operator.index(value)
  except TypeError:
    return None


def _real(value: Any) -> float:
  """NaN for what is no real number."""
  if isinstance(value, np.generic):  # bfloat16 too, which is no numbers.Real
    real = jnp.issubdtype(value.dtype, np.floating) or jnp.issubdtype(value.dtype, np.integer)
  else:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
  try:
    return float(value) if real else math.nan
  except OverflowError:
    return math.inf
