"""Ranks as a user gives them, checked against a shape and capped at what it allows."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from tnjax.formats import CP, TR, TT, Tucker, given_ranks


def tt_ranks(shape: Sequence[int], ranks: int | Sequence[int]) -> tuple[int, ...]:
  """The d - 1 TT-ranks: an int applies to all; each is capped by the unfolding and its neighbours.

  >>> tt_ranks((4, 5, 6), 100), tt_ranks((4, 5, 6), (2, 100))
  ((4, 6), (2, 6))
  >>> tt_ranks((4, 5, 6), (1, 2, 100, 1))  # with the ends, as in TensorLy
  (2, 6)
  """
  return tuple(tt_caps(shape, given_ranks(TT, len(shape), ranks)))


def tt_caps(shape: Sequence[int], ranks: Sequence, least: Callable = min) -> list:
  """TT-ranks capped; with `least=np.minimum`, one array of ranks per bond for many trains at once.

  >>> [r.tolist() for r in tt_caps((4, 5, 6), (np.array([2, 9]), np.array([50, 50])), np.minimum)]
  [[2, 4], [6, 6]]
  """
  r = [1, *ranks, 1]
  for k in range(1, len(shape)):
    r[k] = least(r[k], r[k - 1] * shape[k - 1])
  for k in range(len(shape) - 1, 0, -1):
    r[k] = least(r[k], r[k + 1] * shape[k])
  return r[1:-1]


def tr_ranks(shape: Sequence[int], ranks: int | Sequence[int]) -> tuple[int, ...]:
  """The d ring ranks (r_0, ..., r_{d-1}), each at most what any tensor could need there.

  That is the largest TT-rank of bond k over all places where the ring could be opened; nor can a
  rank exceed what its neighbours and modes carry.

  >>> tr_ranks((4, 5, 6), 3), tr_ranks((4, 5, 6), 100), tr_ranks((4, 2), (50, 1))
  ((3, 3, 3), (6, 5, 6), (2, 1))
  """
  d, total, before = len(shape), math.prod(shape), None
  r = list(given_ranks(TR, d, ranks))
  for k in range(d):
    arcs = [math.prod([*shape[k:], *shape[:k]][:length]) for length in range(1, d)]
    r[k] = min(r[k], max((min(arc, total // arc) for arc in arcs), default=1))
  while r != before:
    before = list(r)
    for k in range(d):  # core k has shape (r_k, shape[k], r_{k+1})
      after = (k + 1) % d
      r[k] = min(r[k], shape[k] * r[after])
      r[after] = min(r[after], r[k] * shape[k])
  return tuple(r)


def tucker_ranks(
  shape: Sequence[int], ranks: int | Sequence[int], modes: Sequence[int] | None = None
) -> tuple[int, ...]:
  """The multilinear ranks of all modes, or of `modes`, the others being left whole.

  Each is at most its mode, and the product of the other ranks.

  >>> tucker_ranks((4, 5, 6), 5), tucker_ranks((8, 2, 2), 8), tucker_ranks((3, 3, 8, 8), 9, (2, 3))
  ((4, 5, 5), (4, 2, 2), (8, 8))
  """
  modes = range(len(shape)) if modes is None else modes
  return tuple(tucker_caps(shape, given_ranks(Tucker, len(modes), ranks), modes))


def tucker_caps(
  shape: Sequence[int], ranks: Sequence, modes: Sequence[int], least: Callable = min
) -> list:
  """Multilinear ranks of `modes` capped; with `least=np.minimum`, for many tensors at once.

  >>> [r.tolist() for r in tucker_caps((8, 2), (np.array([3, 1]),) * 2, (0, 1), np.minimum)]
  [[2, 1], [2, 1]]
  """
  r, changed = list(shape), True
  for m, rank in zip(modes, ranks):
    r[m] = least(rank, shape[m])
  while changed:
    changed = False
    for m in modes:
      capped = least(r[m], math.prod(r[:m] + r[m + 1 :]))
      changed |= bool(np.any(capped != r[m]))
      r[m] = capped
  return [r[m] for m in modes]


def cp_ranks(shape: Sequence[int], ranks: int | Sequence[int], name: str = 'ranks') -> tuple[int]:
  """The CP rank as a tuple of one, at most the product of all modes but the largest.

  >>> cp_ranks((4, 5, 6), 100)
  (20,)
  """
  (rank,) = given_ranks(CP, len(shape), ranks, name)
  return (min(rank, math.prod(shape) // max(shape)),)
