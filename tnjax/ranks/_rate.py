"""Ranks for a compression rate, by the rules of Su et al. 2018 (arXiv 1805.10352, released code).

`rate` is compressed / original parameters. `spatial` are the kernel's spatial sizes, S and T its
input and output channels, `pairs` the sizes S_l T_l of paired channel modes. Every rank is at
least 1; ceilings and floors are the papers', so the size reached differs from the nominal one.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

from tnjax.ops import number
from tnjax.ranks._validate import tt_ranks, tucker_ranks


def svd_rank(rate: float, left: int, right: int, s: int, t: int) -> int:
  """R(left S + right T) parameters, left and right the taps on either side (k and k).

  >>> [svd_rank(0.1, 3, 3, n, n) for n in (16, 32, 64)]
  [3, 5, 10]
  """
  return min(s, t, _ceil(rate * left * s * right * t / (left * s + right * t)))


def cp_rank(rate: float, spatial: Sequence[int], s: int, t: int) -> int:
  """R(k^2+S+T) parameters.

  >>> [cp_rank(0.1, (3, 3), n, n) for n in (16, 32, 64)]
  [6, 13, 27]
  """
  k = math.prod(spatial)
  return _ceil(rate * k * s * t / (k + s + t))


def cp4_rank(rate: float, spatial: Sequence[int], s: int, t: int) -> int:
  """R(sum(spatial)+S+T) parameters, rounded down as in MUSCO (Gusak et al. 2019, released code).

  >>> [cp4_rank(0.5, (3, 3), n, n) for n in (16, 32, 64)]
  [30, 65, 137]
  """
  cost = sum(spatial) + s + t
  return max(1, _floor(rate * math.prod(spatial) * s * t / cost))


def tk_rank(rate: float, spatial: Sequence[int], s: int, t: int) -> int:
  """k^2 R^2 + R(S+T) parameters, both channel ranks equal.

  >>> [tk_rank(0.1, (3, 3), n, n) for n in (16, 32, 64)]
  [4, 8, 15]
  """
  k = math.prod(spatial)
  return _ceil(_root(k, s + t, rate * k * s * t))


def tucker2_ranks(
  reduction: float,
  spatial: Sequence[int],
  s: int,
  t: int,
  beta: float | None = None,
  params: int | None = None,
) -> tuple[int, int]:
  """Ranks R and int(beta R) of inputs and outputs that store `reduction` times fewer entries.

  MUSCO's constant reduction (Gusak et al. 2019, released code): beta k^2 R^2 + R(S + beta T)
  parameters, rounded down. For a scheme: `tk(ranks=tucker2_ranks(2, (3, 3), 64, 128))`; `tk(rate=)`
  has equal ranks and rounds up, as Su et al.

  Args:
    reduction: entries before over after, above 0.
    spatial, s, t: spatial sizes, input and output channels.
    beta: ratio of the ranks; default max(0.8 T / S, 1).
    params: entries before; default those of the dense kernel, later passes have those of the
      factors.

  Raises:
    ValueError: a reduction or ratio that is not positive.

  >>> sizes = ((2, 64, 64), (2, 64, 128), (2, 256, 512), (1.5, 512, 512))
  >>> [tucker2_ranks(x, (3, 3), s, t) for x, s, t in sizes]
  [(38, 38), (42, 67), (168, 268), (365, 365)]
  """
  reduction = number(reduction, 'reduction', 'above 0', lambda x: x > 0)
  beta = max(0.8 * t / s, 1) if beta is None else number(beta, 'beta', 'above 0', lambda x: x > 0)
  k = math.prod(spatial)
  found = _floor(_root(beta * k, s + beta * t, (params or k * s * t) / reduction))
  left = max(1, min(s, found))
  return left, max(1, min(t, int(beta * left)))


def tt_rank(rate: float, spatial: Sequence[int], s: int, t: int) -> int:
  """sum(spatial) R^2 + R(S+T) parameters for the chain S, h, w, T, all ranks equal.

  >>> [tt_rank(0.05, (3, 3), n, n) for n in (16, 32, 64)]
  [3, 5, 10]
  """
  return min(s, t, _ceil(_root(sum(spatial), s + t, rate * math.prod(spatial) * s * t)))


def tr_rank(rate: float, shape: Sequence[int]) -> int:
  """R^2 sum(shape) parameters, all ring ranks equal.

  >>> tr_rank(0.1, (64, 3, 3, 64))
  5
  """
  return max(1, math.isqrt(_floor(rate * math.prod(shape) / sum(shape))))


def r_cp_rank(rate: float, pairs: Sequence[int], spatial: Sequence[int] = ()) -> int:
  """R(k^2 + sum S_l T_l) parameters; a matrix has no spatial term and rounds up.

  This is the true count. The released code divides by 2k + sum S_l + sum T_l instead and so
  stores 3.4 times what it names at 10 %.

  >>> [r_cp_rank(0.1, (n, n), (3, 3)) for n in (16, 64)], r_cp_rank(0.1, (64, 64))
  ([5, 26], 4)
  """
  k = math.prod(spatial)
  if not spatial:
    return _ceil(rate * math.prod(pairs) / sum(pairs))
  return max(1, _floor(rate * k * math.prod(pairs) / (sum(pairs) + (k if k > 1 else 0))))


def r_tk_ranks(
  rate: float, in_modes: Sequence[int], out_modes: Sequence[int], spatial: Sequence[int] = ()
) -> tuple[int, ...]:
  """Ranks of the channel modes, inputs first.

  A kernel starts from floor((c/k^2)^(1/2m)) everywhere (clipped to the mode, unlike the released
  code) and raises one rank at a time, in order, while below the budget; a matrix takes the first
  common rank from ceil(c^(1/2m)) on that reaches it.

  >>> r_tk_ranks(0.1, (4, 4), (4, 4), (3, 3)), r_tk_ranks(0.1, (8, 8), (8, 8), (3, 3))
  ((3, 2, 2, 2), (5, 5, 4, 4))
  """
  modes = (*in_modes, *out_modes)
  k = math.prod(spatial)
  budget = rate * k * math.prod(modes)

  def count(ranks: Sequence[int]) -> int:
    return k * math.prod(ranks) + sum(n * r for n, r in zip(modes, ranks))

  if not spatial:
    rank = _ceil(budget ** (1 / len(modes)))
    while rank < max(modes) and count([min(rank, n) for n in modes]) < budget:
      rank += 1
    return tuple(min(rank, n) for n in modes)
  start = max(1, _floor((budget / k) ** (1 / len(modes))))
  ranks, turn = [min(start, n) for n in modes], 0
  while count(ranks) < budget and any(r < n for r, n in zip(ranks, modes)):
    if ranks[turn] < modes[turn]:
      ranks[turn] += 1
    turn = (turn + 1) % len(modes)
  return tuple(ranks)


def r_tt_ranks(rate: float, pairs: Sequence[int], spatial: Sequence[int] = ()) -> tuple[int, ...]:
  """TT-ranks (R_1, ..., R_m) of the chain pairs..., hw; (R_1, ..., R_{m-1}) for a matrix.

  The first of three strategies that fits: all ranks equal; last rank k^2, the others equal;
  first rank S_1 T_1, last rank k^2, the middle ones equal.

  >>> r_tt_ranks(0.05, (8, 4, 8), (3, 3)), r_tt_ranks(0.4, (16, 16, 16), (3, 3))
  ((3, 3, 3), (16, 31, 9))
  """
  k, m = math.prod(spatial), len(pairs)
  budget = rate * k * math.prod(pairs)
  if not spatial:
    rank = _ceil(_root(sum(pairs[1:-1]), pairs[0] + (pairs[-1] if m > 1 else 0), budget))
    return (rank,) * (m - 1)
  first, middle, last = pairs[0], sum(pairs[1:-1]), pairs[-1]
  rank = _ceil(_root(sum(pairs[1:]), first + k, budget))
  if rank <= min(k, first) or m == 1:
    return (rank,) * m
  rank = _ceil(_root(middle, first + last * k, budget - k * k))
  if rank <= first or m == 2:
    return (rank,) * (m - 1) + (k,)
  left = max(0.0, budget - k * k - first * first)
  return (first, *(_ceil(math.sqrt(left / middle)),) * (m - 2), k)


def shuffled_ranks(
  rate: float, shape: Sequence[int], format: str, keep: Sequence[int] = ()
) -> tuple[int, ...]:
  """Ranks of 'cp', 'tk', 'tt' or 'tr' on a shape: the largest common one within the budget.

  Tucker leaves the modes `keep` whole and has ranks for the others. A rank is at least 1, whatever
  the budget.

  >>> shuffled_ranks(0.1, (3, 3, 64, 64), 'tt'), shuffled_ranks(0.1, (3, 3, 64, 64), 'cp')
  ((3, 7, 7), (27,))
  >>> shuffled_ranks(0.1, (9, 64, 64), 'tk', keep=(0,))  # Tucker-2
  (14, 14)
  """
  n, budget = math.prod(shape), _floor(rate * math.prod(shape))
  if format == 'cp':
    return (max(1, _floor(budget / sum(shape))),)
  if format == 'tr':
    return (tr_rank(rate, shape),) * len(shape)

  def tt_count(ranks: Sequence[int]) -> int:
    r = (1, *ranks, 1)
    return sum(a * m * b for a, m, b in zip(r, shape, r[1:]))

  free = [k for k in range(len(shape)) if k not in keep]
  whole = math.prod(shape[k] for k in keep)

  def tk_count(ranks: Sequence[int]) -> int:
    return whole * math.prod(ranks) + sum(shape[k] * r for k, r in zip(free, ranks))

  capped: dict[str, tuple[Callable, Callable]] = {
    'tt': (tt_ranks, tt_count),
    'tk': (partial(tucker_ranks, modes=free), tk_count),
  }
  cap, count = capped[format]
  rank = 1
  while (
    rank < n and count(cap(shape, rank + 1)) <= budget and cap(shape, rank + 1) != cap(shape, rank)
  ):
    rank += 1
  return cap(shape, rank)


def _root(a: float, b: float, c: float) -> float:
  """Positive root of a R^2 + b R = c (0 where there is none)."""
  if c <= 0:
    return 0.0
  return c / b if a == 0 else 2 * c / (b + math.sqrt(b * b + 4 * a * c))


def _ceil(x: float) -> int:
  """Ceiling, at least 1, blind to rounding noise in `x` (rates such as 0.1 are not exact)."""
  return max(1, math.ceil(x - 1e-9 * max(1.0, x)))


def _floor(x: float) -> int:
  return math.floor(x + 1e-9 * max(1.0, x))
