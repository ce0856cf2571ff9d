"""What a budget was spent on, layer by layer, and in sum."""

import dataclasses
import math

from tnjax.compression._allocate import relative_gap


@dataclasses.dataclass(frozen=True)
class LayerBudget:
  """One layer that the rules serve.

  Attributes:
    path: '/'-joined NNX path.
    scheme: name of the scheme, None for a layer that stays dense.
    ranks: those chosen, () where dense.
    cost, dense_cost: parameters or multiply-adds, as chosen and dense.
    squared_error: predicted ||W - W'||^2, or a bound of it; 0 where dense.
    squared_norm: ||W||^2.
  """

  path: str
  scheme: str | None
  ranks: tuple[int, ...]
  cost: int
  dense_cost: int
  squared_error: float
  squared_norm: float

  @property
  def relative_error(self) -> float:
    """||W - W'|| / ||W||."""
    return _relative(self.squared_error, self.squared_norm)


@dataclasses.dataclass(frozen=True)
class BudgetReport:
  """The choice of `budget`.

  Attributes:
    layers: one row per layer served, in the model's order.
    unit: 'params' or 'macs'.
    budget, cost, dense_cost: allowed, chosen and dense, of the whole model.
    squared_error: sum over the layers; what was minimised.
    lower_bound: no choice among the same options has a smaller sum.
  """

  layers: tuple[LayerBudget, ...]
  unit: str
  budget: int
  cost: int
  dense_cost: int
  squared_error: float
  lower_bound: float

  @property
  def relative_error(self) -> float:
    """sqrt(sum ||W - W'||^2 / sum ||W||^2) over the layers served, those left dense included."""
    return _relative(self.squared_error, sum(row.squared_norm for row in self.layers))

  @property
  def gap(self) -> float:
    """(squared_error - lower_bound) / lower_bound; 0 where the choice is proved optimal."""
    return relative_gap(self.squared_error, self.lower_bound)

  def __str__(self) -> str:
    """A table for the terminal."""
    head = ('layer', 'scheme', 'ranks', self.unit, 'ratio', 'error')
    rows = [head, *map(_cells, self.layers)]
    ratio = f'{self.cost / self.dense_cost:.3f}'
    cost, error = f'{self.cost:,} of {self.budget:,}', f'{self.relative_error:.4f}'
    rows.append(('whole model', '', f'gap {self.gap:.1e}', cost, ratio, error))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
      '  '.join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
      for row in rows
    ]
    return '\n'.join(line.rstrip() for line in [lines[0], '-' * len(lines[0]), *lines[1:]])


def _cells(row: LayerBudget) -> tuple[str, ...]:
  return (
    row.path,
    row.scheme or 'dense',
    ','.join(map(str, row.ranks)),
    f'{row.cost:,}',
    f'{row.cost / max(1, row.dense_cost):.3f}',
    f'{row.relative_error:.4f}',
  )


def _relative(error: float, norm: float) -> float:
  return math.sqrt(error / norm) if norm else 0.0
