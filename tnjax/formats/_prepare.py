"""What the algebra does first: check its arguments, and bring arrays to one dtype."""

import dataclasses
import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.formats._cp import CP
from tnjax.formats._record import Record
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker


def check_format(x: Record, name: str, kinds: tuple[type, ...] = (CP, Tucker, TT, TR)) -> None:
  """A ValueError unless `x` is one of `kinds`; a `Shuffled` has no network over its modes."""
  if not isinstance(x, kinds):
    wanted = ', '.join(k.__name__ for k in kinds)
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


def cast(x: Record, dtype: jnp.dtype) -> Record:
  """All arrays in `dtype`; the weights of a CP in its real counterpart, or wider as given."""
  if isinstance(x, CP):
    wide = jnp.promote_types(x.weights.dtype, jnp.finfo(dtype).dtype)
    return CP(x.weights.astype(wide), tuple(f.astype(dtype) for f in x.factors))
  return jax.tree.map(lambda v: v.astype(dtype), x)


def working(dtype: jnp.dtype) -> jnp.dtype:
  """Dtype to compute in: float32 for the 16-bit ones, which have no QR; others stay."""
  return jnp.promote_types(dtype, jnp.float32)


def mode_arrays(x: Record) -> tuple[tuple[Array | None, ...], int]:
  """The array that carries each mode (None in a partial Tucker), and the axis it has there."""
  return (x.cores, 1) if isinstance(x, TT | TR) else (x.factors, 0)


def with_mode_arrays(x: Record, arrays: Sequence[Array | None]) -> Record:
  """`x` with other arrays in place of `mode_arrays(x)`."""
  field = 'cores' if isinstance(x, TT | TR) else 'factors'
  return dataclasses.replace(x, **{field: tuple(arrays)})
