"""What the extrapolation of CP's sweeps is worth: a committed set of hard problems.

    make bench-cp
    python -m experiments.benchmarks.cp_problems --problems=rank_2,border_rank_2 --starts=2

On every tensor of `cp_tensors.py`, from the same start and in double precision, --sweeps sweeps of:
`tnjax` as it is; `plain`, textbook sweeps, which are the same without extrapolation; and
`tensorly` where it is installed. The target is the least error that any of them then has, times
1 + 1e-4; a fit to 1e-5 is exact. A side's sweeps are those that it took to the target, its seconds
their share of a timed run, compilation left out. `restarts` is the best of several random starts,
beside the one start of all.

Results go to --workdir: report.json, summary.csv.
"""

import dataclasses
import importlib.util
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar

from experiments.benchmarks import cp_race
from experiments.benchmarks.cp_race import SIDES
from experiments.benchmarks.cp_tensors import PROBLEMS
from experiments.benchmarks.gridded import Gridded
from experiments.common import config, grid, job


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """The settings of this benchmark."""

  problems: tuple[str, ...] = config.field(
    tuple(PROBLEMS), 'Names in cp_tensors.py.', config.one_of(*PROBLEMS), resume='grow'
  )
  starts: int = config.field(3, 'Tensors and starts of each problem.', config.at_least(1))
  sides: tuple[str, ...] | None = config.field(
    None, f'Of {", ".join(SIDES)}; default those installed.', config.one_of(*SIDES)
  )
  sweeps: int = config.field(300, 'That every side does.', config.at_least(1))
  repeats: int = config.field(3, 'Timed runs of every side, in turns.', config.at_least(1))
  restarts: int = config.field(4, 'Random starts of the side `restarts`.', config.at_least(2))

  def resolved(self) -> 'Config':
    """With the sides that are installed."""
    there = [s for s in SIDES if s != 'tensorly' or importlib.util.find_spec(s) is not None]
    found = super().resolved()
    return dataclasses.replace(found, sides=found.sides or tuple(there))


class Benchmark(Gridded):
  """Runs the problems."""

  UNIT = 'fits'
  STATE: ClassVar = {'totals': {}}

  def __init__(self, this: job.Job):
    c = this.config
    super().__init__(this, grid.product(problem=c.problems, start=range(c.starts)))

  def row(self, problem: str, start: int) -> dict:
    """All sides from one start."""
    c = self.config
    return cp_race.race(PROBLEMS[problem], start, c.sides, c.sweeps, c.repeats, c.restarts)

  def finish(self) -> None:
    """With the totals."""
    self.grid.report['totals'] = totals(self.grid.rows, self.config.sweeps)
    super().finish()

  def summarised(self) -> list[dict]:
    """See `summary`."""
    return summary(self.grid.rows)

  def lines(self) -> list[str]:
    """A line a problem, and the totals."""
    rows = self.summarised()
    lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ['  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines]
    for other, counts in self.grid.report['totals'].items():
      words = ', '.join(f'{name} {_text(value)}' for name, value in counts.items())
      text.append(f'tnjax beside {other}: {words}')
    return text


def summary(rows: Sequence[Mapping]) -> list[dict]:
  """A line a problem: by side the median error, the starts that reach the target, and medians of
  sweeps and milliseconds over those.

  >>> side = {'relative_error': 0.5, 'sweeps': 3, 'seconds': 0.25}
  >>> summary([{'problem': 'p', 'start': 0, 'plain': side}])
  [{'problem': 'p', 'plain error': 0.5, 'plain reached': 1, 'plain sweeps': 3, 'plain ms': 250.0}]
  """
  out = []
  for problem in dict.fromkeys(row['problem'] for row in rows):
    group, line = [row for row in rows if row['problem'] == problem], {'problem': problem}
    for side in (name for name in SIDES if name in group[0]):
      fits = [row[side] for row in group]
      line[f'{side} error'] = statistics.median(fit['relative_error'] for fit in fits)
      if 'sweeps' in fits[0]:
        reached = [fit for fit in fits if fit['sweeps']]
        line[f'{side} reached'] = len(reached)
        line[f'{side} sweeps'] = _median(fit['sweeps'] for fit in reached)
        line[f'{side} ms'] = _median(1e3 * fit['seconds'] for fit in reached)
    out.append(line)
  return out


def totals(rows: Sequence[Mapping], most: int) -> dict[str, dict]:
  """tnjax beside each other side that sweeps, over all fits.

  Who alone reaches the target; where both do, who needs fewer sweeps; and, where either does,
  geometric means of the other's sweeps and seconds over tnjax's. A side that does not reach it
  counts with all `most` sweeps. Of `restarts`, in how many fits its error is lower by 0.1 %.

  >>> fast = {'sweeps': 2, 'seconds': 0.2, 'run_seconds': 1.6}
  >>> slow = {'sweeps': None, 'seconds': None, 'run_seconds': 0.8}
  >>> found = totals([{'tnjax': fast, 'plain': slow}], most=16)['plain']
  >>> found['reached by tnjax alone'], round(found['sweeps, other / tnjax'], 6)
  (1, 8.0)
  """
  out = {}
  for other in ('plain', 'tensorly'):
    pairs = [(row['tnjax'], row[other]) for row in rows if {'tnjax', other} <= row.keys()]
    both = [(a, b) for a, b in pairs if a['sweeps'] and b['sweeps']]
    either = [(a, b) for a, b in pairs if a['sweeps'] or b['sweeps']]
    if pairs:
      out[other] = {
        'fits': len(pairs),
        'reached by tnjax alone': sum(b['sweeps'] is None for a, b in pairs if a['sweeps']),
        'by the other alone': sum(a['sweeps'] is None for a, b in pairs if b['sweeps']),
        'tnjax sooner': sum(a['sweeps'] < b['sweeps'] for a, b in both),
        'the other sooner': sum(a['sweeps'] > b['sweeps'] for a, b in both),
        'sweeps, other / tnjax': _mean_ratio(either, lambda side: side['sweeps'] or most),
        'seconds, other / tnjax': _mean_ratio(
          either, lambda side: side['seconds'] or side['run_seconds']
        ),
      }
  errors = [
    (row['restarts']['relative_error'], row['tnjax']['relative_error'])
    for row in rows
    if {'tnjax', 'restarts'} <= row.keys()
  ]
  if errors:
    lower = sum(several < 0.999 * one and one > cp_race.EXACT for several, one in errors)
    higher = sum(one < 0.999 * several and several > cp_race.EXACT for several, one in errors)
    out['restarts'] = {'fits': len(errors), 'restarts lower': lower, 'one start lower': higher}
  return out


def _mean_ratio(
  pairs: Sequence[tuple[Mapping, Mapping]], size: Callable[[Mapping], float]
) -> float | None:
  """Geometric mean of the second's size over the first's."""
  ratios = [size(b) / size(a) for a, b in pairs]
  return statistics.geometric_mean(ratios) if ratios else None


def _median(values: Iterable[float]) -> float | None:
  values = list(values)
  return statistics.median(values) if values else None


def _text(value: object) -> str:
  if value is None:
    return '-'
  return f'{value:.4g}' if isinstance(value, float) else str(value)


def prepare(this: job.Job) -> Benchmark:
  """Nothing is read, so only the folder is checked."""
  this.check()
  return Benchmark(this)


if __name__ == '__main__':
  job.launch(Config, 'cp_problems', prepare)
