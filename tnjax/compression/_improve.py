"""From a choice that is optimal at a price to one that is optimal within the budget."""

from collections.abc import Sequence

import numpy as np

# Layers and partial sums of the dynamic program: a quick round, then one that proves the optimum.
_QUICK = (16, 2**11)
_PROOF = (64, 2**16)


def improve(
  cost: np.ndarray, error: np.ndarray, price: float, base: np.ndarray, budget: int
) -> tuple[np.ndarray, float, bool]:
  """The best choice found from `base` on, the dual bound, and whether the choice is optimal.

  Args:
    cost, error: (layers, options).
    price: per unit of cost.
    base: (layers,) options, each of least error + price * cost in its layer, within the budget.
    budget: the largest sum of costs.
  """
  rows = np.arange(len(cost))
  slack, base_error = budget - int(cost[rows, base].sum()), float(error[rows, base].sum())
  reduced = price * cost
  reduced += error
  reduced -= reduced[rows, base][:, None]  # 0 for `base`, not negative for the others
  room = price * slack - reduced.min(1).sum()
  reduced[rows, base] = np.inf
  nearest = reduced.min(1)
  reduced[rows, base] = -np.inf  # first in order
  best, choice, exact = 0.0, base, False
  for layers, limit in (_QUICK, _PROOF):
    near = np.flatnonzero(nearest <= room + best)
    if (layers, limit) == _PROOF and (exact or len(near) > layers):
      break
    near = near[np.argsort(nearest[near])]
    options = [np.flatnonzero(reduced[i] <= room + best) for i in near[:layers]]
    options = [k[np.argsort(reduced[i, k])] for i, k in zip(near, options)]
    changes = [
      (cost[i, k] - cost[i, base[i]], error[i, k] - error[i, base[i]])
      for i, k in zip(near, options)
    ]
    best, picks, complete = _search(changes, price, slack, best, limit)
    exact = complete and len(near) <= layers
    if picks:
      choice = base.copy()
      for i, k, pick in zip(near, options, picks):
        choice[i] = k[pick]
  return choice, base_error - float(room), exact


def _search(
  changes: Sequence[tuple[np.ndarray, np.ndarray]],
  price: float,
  slack: int,
  best: float,
  limit: int,
) -> tuple[float, list[int], bool]:
  """Dynamic program over the sums of changes of cost and error, one layer after the other.

  A sum leads to nothing below its error + price * (cost - slack); it is dropped where that
  exceeds the best, or where another is no costlier and no worse.

  Returns:
    The best error, the picks that lead to it (none if it is the one given), and whether nothing
    had to be left out to keep to `limit` sums.
  """
  cost, error, trail, picks, complete = np.zeros(1), np.zeros(1), [], [], True
  for more_cost, more_error in changes:
    width = limit // len(cost)
    complete &= len(more_cost) <= width
    cost = np.add.outer(cost, more_cost[:width]).ravel()
    error = np.add.outer(error, more_error[:width]).ravel()
    width = min(width, len(more_cost))
    kept = np.flatnonzero(error + price * (cost - slack) <= best)
    kept = kept[np.lexsort((error[kept], cost[kept]))]
    least = np.minimum.accumulate(error[kept])
    kept = kept[np.append(True, error[kept[1:]] < least[:-1])[: len(kept)]]
    if len(kept) > limit // 4:  # four options at least for the next layer
      complete = False
      promise = np.argsort(error[kept] + price * cost[kept])[: limit // 4]
      kept = kept[np.sort(promise)]
    if not len(kept):
      break
    cost, error = cost[kept], error[kept]
    trail.append((kept // width, kept % width))
    fitting = int(np.searchsorted(cost, slack, 'right')) - 1  # errors fall as costs rise
    if fitting >= 0 and error[fitting] < best:
      best, picks = float(error[fitting]), []
      for before, pick in reversed(trail):
        picks.append(int(pick[fitting]))
        fitting = before[fitting]
      picks.reverse()
  return best, picks, complete
