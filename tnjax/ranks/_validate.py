"""Ranks as a user gives them, checked against a shape and capped at what it allows."""

import math
import operator
from collections.abc import Sequence


def tt_ranks(shape: Sequence[int], ranks: int | Sequence[int]) -> tuple[int, ...]:
  """The d - 1 TT-ranks: an int applies to all; each is capped by the unfolding and its neighbours.

  >>> tt_ranks((4, 5, 6), 100), tt_ranks((4, 5, 6), (2, 100))
  ((4, 6), (2, 6))
  """
  r = [1, *_checked(ranks, len(shape) - 1, 'one per bond, the inner TT-ranks'), 1]
  for k in range(1, len(shape)):
    r[k] = min(r[k], r[k - 1] * shape[k - 1])
  for k in range(len(shape) - 1, 0, -1):
    r[k] = min(r[k], r[k + 1] * shape[k])
  return tuple(r[1:-1])


def tr_ranks(shape: Sequence[int], ranks: int | Sequence[int]) -> tuple[int, ...]:
  """The d ring ranks (r_0, ..., r_{d-1}); none exceeds what its neighbours and modes can carry.

  >>> tr_ranks((4, 5, 6), 3), tr_ranks((4, 2), (50, 1))
  ((3, 3, 3), (2, 1))
  """
  r = list(_checked(ranks, len(shape), 'one per mode, r_0 first'))
  d, before = len(shape), None
  while r != before:
    before = list(r)
    for k in range(d):  # core k has shape (r_k, shape[k], r_{k+1})
      after = (k + 1) % d
      if after != k:
        r[k] = min(r[k], shape[k] * r[after])
        r[after] = min(r[after], r[k] * shape[k])
  return tuple(r)


def tucker_ranks(shape: Sequence[int], ranks: int | Sequence[int]) -> tuple[int, ...]:
  """The N multilinear ranks, each at most its mode and the product of the other ranks.

  >>> tucker_ranks((4, 5, 6), 5), tucker_ranks((8, 2, 2), 8)
  ((4, 5, 5), (4, 2, 2))
  """
  r = [min(a, n) for a, n in zip(_checked(ranks, len(shape), 'one per mode'), shape)]
  before = None
  while r != before:
    before = list(r)
    for k in range(len(r)):
      r[k] = min(r[k], math.prod(r[:k] + r[k + 1 :])) if len(r) > 1 else 1
  return tuple(r)


def cp_ranks(shape: Sequence[int], ranks: int | Sequence[int]) -> tuple[int]:
  """The CP rank as a tuple of one, at most the product of all modes but the largest.

  >>> cp_ranks((4, 5, 6), 100)
  (20,)
  """
  (rank,) = _checked(ranks, 1, 'the CP rank')
  return (min(rank, math.prod(shape) // max(shape)),)


def _checked(ranks: int | Sequence[int], count: int, meaning: str) -> tuple[int, ...]:
  try:
    values = (operator.index(ranks),) * count
  except TypeError:
    try:
      values = tuple(operator.index(r) for r in ranks)
    except TypeError:
      raise ValueError(f'ranks={ranks!r} must be an int or a sequence of ints') from None
  if len(values) != count:
    raise ValueError(
      f'ranks={ranks!r} has {len(values)} entries; this shape needs {count}: {meaning}'
    )
  if any(r < 1 for r in values):
    raise ValueError(f'ranks={ranks!r} must all be at least 1')
  return values
