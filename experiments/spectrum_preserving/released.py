"""The rank rules of the authors' TensorFlow code where this library's differ; for tables alone.

Budget c = rate * k^2 S T; channels split into two modes each. The others' rules are `tn.ranks`'.
"""

import math
from collections.abc import Callable, Sequence

from tnjax.ops import split_modes

Count = tuple[tuple[int, ...], int]  # ranks, and the parameters they take


def r_cp(rate: float, shape: Sequence[int]) -> Count:
  """R = ceil(c / (2k + sum S_l + sum T_l)), without 2k at k = 1: no count of a rank's parameters.

  >>> [r_cp(0.1, (3, 3, n, n))[0] for n in (16, 32, 64)]
  [(11,), (31,), (98,)]
  """
  ins, outs = _modes(shape)
  divisor = 2 * shape[0] * (shape[0] > 1) + sum(ins) + sum(outs)
  rank = math.ceil(_budget(rate, shape) / divisor - 1e-9)
  return (rank,), rank * _per_rank(shape)


def r_cp_later(rate: float, shape: Sequence[int]) -> Count:
  """The later code's: R = int(c / (k^2 + sum S_l T_l)), 0 for some 1x1 kernels.

  >>> [r_cp_later(0.1, (3, 3, n, n))[0] for n in (16, 32, 64)], r_cp_later(0.02, (1, 1, 16, 16))
  ([(5,), (10,), (26,)], ((0,), 0))
  """
  rank = math.floor(_budget(rate, shape) / _per_rank(shape) + 1e-9)
  return (rank,), rank * _per_rank(shape)


def r_tk(rate: float, shape: Sequence[int]) -> Count:
  """As `tn.ranks.r_tk_ranks`, but started from ranks that may exceed a mode.

  >>> r_tk(0.1, (3, 3, 64, 64))[0], r_tk(0.4, (3, 3, 32, 64))  # whose second mode is 4
  ((5, 5, 4, 4), ((6, 5, 6, 5), 8256))
  """
  modes, area = (*sum(_modes(shape), ()),), math.prod(shape[:2])
  budget = _budget(rate, shape)
  ranks, turn = [math.floor((budget / area) ** 0.25 + 1e-9)] * len(modes), 0

  def count() -> int:
    return area * math.prod(ranks) + sum(n * r for n, r in zip(modes, ranks))

  while count() < budget and any(r < n for r, n in zip(ranks, modes)):
    ranks[turn] += ranks[turn] < modes[turn]
    turn = (turn + 1) % len(modes)
  return tuple(ranks), count()


RULES: dict[str, Callable[[float, Sequence[int]], Count]] = {'r_cp': r_cp, 'r_tk': r_tk}


def _modes(shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
  return split_modes(shape[-2], 2), split_modes(shape[-1], 2)


def _budget(rate: float, shape: Sequence[int]) -> float:
  return rate * math.prod(shape)


def _per_rank(shape: Sequence[int]) -> int:
  """What a rank of r-CP truly stores."""
  area = math.prod(shape[:2])
  return sum(a * b for a, b in zip(*_modes(shape))) + area * (area > 1)
