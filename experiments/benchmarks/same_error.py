"""The sweeps that each side needs to come as low as the best of them.

What a sweep is differs: tnjax starts each ahead of where the last one ended, the others do not. So
iterative methods are compared at equal errors. All sides do the most sweeps of the cell; the target
is the least error that any of them has then, and the cell's slack above. The time of a side is that
of the least sweeps that reach it.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

from experiments.benchmarks import measure, problems
from experiments.benchmarks.cells import Cell


def least(error: Callable[[int], float], target: float, most: int) -> int | None:
  """The least number of sweeps with `error(sweeps) <= target`; None where `most` end above it.

  Errors fall with the sweeps, so the number is doubled until it is enough, then the gap is halved.

  >>> least(lambda sweeps: 1 / sweeps, 0.1, 64)
  10
  >>> least(lambda sweeps: 1 / sweeps, 0.001, 64) is None
  True
  """
  if error(most) > target:
    return None
  enough = 1
  while enough < most and error(enough) > target:
    enough *= 2
  short, enough = enough // 2, min(enough, most)
  while enough - short > 1:
    middle = (short + enough) // 2
    short, enough = (short, middle) if error(middle) <= target else (middle, enough)
  return enough


def climb(
  cell: Cell, names: Sequence[str], data: problems.Input, note: measure.Note, out: Mapping
) -> float | None:
  """Writes the sweeps and the error of each side into `out[name]`; returns the target.

  A side that does not reach it has `sweeps` None, and the error of the most sweeps.
  """
  curves = {}
  for name in names:
    with peer_failures(name, out[name]):
      curve = _curve(name, cell, data, note)
      curve(cell.sweeps)
      curves[name] = curve
  target = (1 + cell.slack) * min(curve(cell.sweeps) for curve in curves.values())
  for name, curve in curves.items():
    with peer_failures(name, out[name]):
      sweeps = least(curve, target, cell.sweeps)
      out[name] |= {'sweeps': sweeps, 'relative_error': curve(sweeps or cell.sweeps)}
  return target


def _curve(
  name: str, cell: Cell, data: problems.Input, note: measure.Note
) -> Callable[[int], float]:
  @functools.cache
  def error(sweeps: int) -> float:
    note(f'{name}, error after {sweeps} sweeps')
    side = measure.make_side(name, cell.at(sweeps), data)
    side.prepare()
    return problems.relative_error(cell, data, side.records(side.run()))

  return error


@contextlib.contextmanager
def peer_failures(name: str, out: dict) -> Iterator[None]:
  """A peer that fails is reported; tnjax failing ends the run."""
  try:
    yield
  except Exception as error:  # whatever another library raises
    if name.startswith('tnjax'):
      raise
    out['failed'] = measure.reason(error)
