"""Random tensors of given ranks."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.formats._cp import CP
from tnjax.formats._ranks import given_ranks
from tnjax.formats._record import Record
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker
from tnjax.ops import inexact_dtype, integers, normal, prng_key, working_dtype

_KINDS = (CP, Tucker, TT, TR)


def random(
  kind: type[Record],
  key: Array,
  shape: Sequence[int],
  ranks: int | Sequence[int | None],
  dtype: jnp.dtype = jnp.float32,
) -> Record:
  """A tensor with i.i.d. normal arrays, whose entries have mean 0 and variance 1.

  All arrays share one standard deviation s, with s^(2 K) prod(ranks) = 1 for K arrays; the
  weights of a CP are 1.

  Args:
    kind: `CP`, `Tucker`, `TT` or `TR`.
    key: PRNG key.
    shape: sizes of the modes.
    ranks: an int for all, or d - 1 for TT, d for TR and Tucker, one for CP; taken as they are,
      not capped. None in a Tucker's leaves that mode alone (partial Tucker).
    dtype: real or complex.

  Raises:
    ValueError: an unknown kind, or shape, ranks or dtype that do not fit.

  >>> x = random(TT, jax.random.key(0), (3, 4, 5), (2, 3))
  >>> x.shape, x.ranks, [c.shape for c in x.cores]
  ((3, 4, 5), (2, 3), [(1, 3, 2), (2, 4, 3), (3, 5, 1)])
  """
  if kind not in _KINDS:
    raise ValueError(f'kind={kind!r} must be one of CP, Tucker, TT, TR')
  key, dtype = prng_key(key), inexact_dtype(dtype)
  shape = integers(shape, 'shape')
  if not shape:
    raise ValueError('shape=() needs at least one mode')
  ranks = _checked(kind, shape, ranks)
  bonds = math.prod(r for r in ranks if r is not None)
  shapes = _shapes(kind, shape, ranks)
  std = bonds ** (-0.5 / len(shapes))
  arrays = tuple(
    (std * normal(k, s, working_dtype(dtype))).astype(dtype)
    for k, s in zip(jax.random.split(key, len(shapes)), shapes)
  )
  if kind is CP:
    return CP(jnp.ones(ranks[0], jnp.finfo(dtype).dtype), arrays)
  if kind is Tucker:
    core, *factors = arrays
    rest = iter(factors)
    return Tucker(core, tuple(None if r is None else next(rest) for r in ranks))
  return kind(arrays)


def _shapes(
  kind: type[Record], shape: tuple[int, ...], ranks: tuple[int | None, ...]
) -> list[tuple[int, ...]]:
  """Shapes of the record's arrays, a Tucker's core first."""
  if kind is CP:
    return [(n, ranks[0]) for n in shape]
  if kind is Tucker:
    core = tuple(n if r is None else r for n, r in zip(shape, ranks))
    return [core, *((n, r) for n, r in zip(shape, ranks) if r is not None)]
  ends = (1, *ranks, 1) if kind is TT else (*ranks, ranks[0])
  return list(zip(ends[:-1], shape, ends[1:]))


def _checked(
  kind: type[Record], shape: tuple[int, ...], ranks: int | Sequence[int | None]
) -> tuple[int | None, ...]:
  if kind is not Tucker or not isinstance(ranks, tuple | list):
    return given_ranks(kind, len(shape), ranks)
  found = given_ranks(kind, len(shape), [1 if r is None else r for r in ranks])
  return tuple(None if given is None else r for given, r in zip(ranks, found))
