"""A matrix along one mode of a tensor in a format, and the choice of indices along one mode."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.formats._cp import CP
from tnjax.formats._record import Record, check_format, check_mode
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker
from tnjax.ops import HIGHEST, numeric
from tnjax.ops import mode_product as dense_mode_product


def mode_product(a: Record, matrix: Array, mode: int) -> Record:
  """Mode product a x_n matrix: a matrix (J, I_n) along mode n; the ranks stay.

  Only the core or factor of that mode changes; a mode a partial Tucker leaves alone takes the
  matrix as its factor.

  Raises:
    ValueError: no such mode, `matrix` is not (any, I_n), or `a` is a `Shuffled`.

  >>> from tnjax import formats, ops
  >>> x = formats.random(formats.CP, jax.random.key(0), (3, 4), 2)
  >>> m = jnp.arange(20.).reshape(5, 4)
  >>> bool(jnp.allclose(mode_product(x, m, 1).full(), ops.mode_product(x.full(), m, 1), rtol=1e-4))
  True
  """
  check_format(a, 'a')
  mode = check_mode(a, mode)
  matrix = numeric(matrix, 'matrix')
  if matrix.ndim != 2 or matrix.shape[1] != a.shape[mode]:
    raise ValueError(
      f'matrix has shape {matrix.shape}; mode {mode} of a, of shape {a.shape}, '
      f'needs (any, {a.shape[mode]})'
    )
  dtype = jnp.result_type(a.dtype, matrix)
  a, matrix = a.cast(dtype), matrix.astype(dtype)
  arrays, axis = a.mode_arrays, a.mode_axis
  old = arrays[mode]
  new = matrix if old is None else dense_mode_product(old, matrix, axis)
  return a.with_mode_arrays((*arrays[:mode], new, *arrays[mode + 1 :]))


def take(a: Record, index: int | Array, mode: int) -> Record | Array:
  """The tensor at `index` of one mode, as `jnp.take(a.full(), index, axis=mode)`.

  Args:
    a: any format but `Shuffled`.
    index: an int, or integer array of shape (), drops the mode: its slice is multiplied into the
      core or factor beside it, the core of a Tucker. An integer array of shape (J,) keeps it,
      with size J. Negative ones count from the back; a traced one out of range gives NaN.
    mode: the mode.

  Returns:
    A record of the same format; a scalar array if no mode is left.

  Raises:
    ValueError: no such mode or index, more than one axis, or a `Shuffled`.

  >>> from tnjax import formats
  >>> x = formats.random(formats.TT, jax.random.key(0), (3, 4, 5), 2)
  >>> y = take(x, 2, mode=1)
  >>> y.shape, bool(jnp.allclose(y.full(), x.full()[:, 2], atol=1e-5))
  ((3, 5), True)
  >>> take(x, jnp.array([0, 0, 3]), mode=1).shape
  (3, 3, 5)
  """
  check_format(a, 'a')
  mode = check_mode(a, mode)
  index = _checked_index(index, a.shape[mode])
  arrays, axis = a.mode_arrays, a.mode_axis
  if arrays[mode] is None:  # a partial Tucker keeps this mode in its core
    chosen = jnp.take(a.core, index, axis=mode)
    factors = a.factors if index.ndim else a.factors[:mode] + a.factors[mode + 1 :]
    return Tucker(chosen, factors) if factors else chosen
  chosen = jnp.take(arrays[mode], index, axis=axis)
  if index.ndim:
    return a.with_mode_arrays((*arrays[:mode], chosen, *arrays[mode + 1 :]))
  return _without(a, chosen, mode)


def _without(a: Record, chosen: Array, mode: int) -> Record | Array:
  """`a` with the slice `chosen` in place of a mode's array."""
  match a:
    case Tucker(core, factors):
      rest = factors[:mode] + factors[mode + 1 :]
      core = jnp.tensordot(core, chosen, axes=(mode, 0), precision=HIGHEST)
      return Tucker(core, rest) if rest else core
    case CP(weights, (_,)):
      return jnp.sum(weights.astype(chosen.dtype) * chosen)
    case TT((_,)) | TR((_,)):
      return jnp.trace(chosen)
  arrays = list(a.mode_arrays)
  del arrays[mode]
  beside = max(mode - 1, 0)  # the array before it, or after it where it is the first
  if isinstance(a, CP):
    arrays[beside] = arrays[beside] * chosen[None]
  elif mode:
    arrays[beside] = jnp.tensordot(arrays[beside], chosen, axes=1, precision=HIGHEST)
  else:
    arrays[beside] = jnp.tensordot(chosen, arrays[beside], axes=1, precision=HIGHEST)
  return a.with_mode_arrays(arrays)


def _checked_index(index: int | Array, size: int) -> Array:
  array = numeric(index, 'index')
  if array.ndim > 1 or not jnp.issubdtype(array.dtype, jnp.integer):
    raise ValueError(
      f'index has shape {array.shape} and dtype {array.dtype}; it needs (), an int, '
      f'or (any,) of integers'
    )
  if not isinstance(array, jax.core.Tracer):
    values = np.asarray(array)
    if ((values < -size) | (values >= size)).any():
      raise ValueError(
        f'index={values} is out of range; a mode of size {size} needs {-size}..{size - 1}'
      )
  return array
