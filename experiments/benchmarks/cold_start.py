"""What people wait for first: calls in a fresh process, compilation included, beside TensorLy.

    make bench-cold
    python -m experiments.benchmarks.cold_start --cells=tk,budget --sides=tnjax --repeats=3

Cells: `build` makes a ResNet-32; a scheme's name compresses its 30 kernels at 10 %; `budget`
compresses a ResNet-20 with the ranks of `budget(..., tk, macs_ratio=0.6)`, so that every layer has
ranks of its own; `vgg16` is VGG-16 of real shape with planted kernels: Tucker-2 of EVBMF ranks for
the convolutions but the first, TT-rank 4 for FC6 and FC7, which `vgg16_convs` leaves out, and
TensorLy is not asked for. Every side of every cell runs in a process of its own, without any cache
of compiled programs, the sides taking turns; the clock starts after the imports, and a second call
in the same process is timed too. TensorLy decomposes the same folded kernels at the same ranks,
sweeps and tolerances, without building layers of them.

Results go to --workdir: report.json, summary.csv.
"""

import dataclasses
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys

from experiments.benchmarks.cold_side import CELLS
from experiments.benchmarks.gridded import Gridded
from experiments.common import config, grid, job

_OURS = ('build', 'vgg16')  # cells of tnjax alone
SIDES = ('tnjax', 'tensorly-numpy', 'tensorly-pytorch')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """The settings of this benchmark."""

  cells: tuple[str, ...] = config.field(
    CELLS, f'Of {", ".join(CELLS)}.', config.one_of(*CELLS), resume='grow'
  )
  sides: tuple[str, ...] | None = config.field(
    None,
    f'Of {", ".join(SIDES)}; default those installed.',
    config.one_of(*SIDES),
    resume='grow',
  )
  repeats: int = config.field(5, 'Processes for every side of a cell.', config.at_least(1))
  resnet32: str | None = config.field(
    None, 'Trained weights in PyTorch naming; default random ones. On them sweeps converge sooner.'
  )
  resnet20: str | None = config.field(None, 'The same for the cell `budget`.')

  def resolved(self) -> 'Config':
    """With the sides that are installed."""
    found = super().resolved()
    return dataclasses.replace(found, sides=found.sides or tuple(filter(_installed, SIDES)))


class Benchmark(Gridded):
  """Runs the cells."""

  UNIT = 'runs'

  def __init__(self, this: job.Job):
    settings = grid.product(
      repeat=range(this.config.repeats), cell=this.config.cells, side=this.config.sides
    )
    super().__init__(this, [s for s in settings if s['side'] == 'tnjax' or s['cell'] not in _OURS])
    if any('warm_seconds' not in row for row in self.grid.rows):
      raise ValueError(f'{this.workdir} has rows of an earlier version; choose another --workdir')

  def summarised(self) -> list[dict]:
    """See `summary`."""
    return summary(self.grid.rows)

  def lines(self) -> list[str]:
    """A line a side of a cell."""
    lines = [
      f'{"cell":11} {"side":18} {"cold s":>7} {"/ tnjax":>7} {"warm s":>7} {"/ tnjax":>7} '
      f'{"GiB":>5}  error'
    ]
    for row in self.summarised():
      error = '-' if row['relative_error'] is None else f'{row["relative_error"]:.5f}'
      memory = '-' if row['process_bytes'] is None else f'{row["process_bytes"] / 2**30:.2f}'
      lines.append(
        f'{row["cell"]:11} {row["side"]:18} {row["median_seconds"]:7.2f} {row["ratio"]:7.2f} '
        f'{row["warm_seconds"]:7.2f} {row["warm_ratio"]:7.2f} {memory:>5}  {error}'
      )
    return lines

  def row(self, repeat: int, cell: str, side: str) -> dict:
    """One process."""
    weights = self.config.resnet20 if cell == 'budget' else self.config.resnet32
    about = {'cell': cell, 'side': side, 'weights': weights}
    done = subprocess.run(
      [sys.executable, '-m', 'experiments.benchmarks.cold_side', json.dumps(about)],
      capture_output=True,
      text=True,
      env={k: v for k, v in os.environ.items() if not k.startswith('JAX_')},
    )
    if done.returncode:
      raise OSError(f'{cell}, {side}: {done.stderr.strip().splitlines()[-1]}')
    return json.loads(done.stdout.splitlines()[-1])


def summary(rows: list[dict]) -> list[dict]:
  """One row for every side of a cell: medians, the least, and the ratios to tnjax's medians.

  >>> rows = [
  ...   {'cell': 'tk', 'side': s, 'seconds': t, 'warm_seconds': t / 2, 'process_bytes': None,
  ...    'relative_error': 0.5}
  ...   for s, t in (('tnjax', 1.0), ('tnjax', 3.0), ('tensorly-numpy', 4.0))
  ... ]
  >>> [row['ratio'] for row in summary(rows)]
  [1.0, 2.0]
  """
  found = {}
  for row in rows:
    found.setdefault((row['cell'], row['side']), []).append(row)
  out = []
  for (cell, side), group in found.items():
    own = found.get((cell, 'tnjax'), group)
    seconds, warm = _median(group, 'seconds'), _median(group, 'warm_seconds')
    out.append(
      {
        'cell': cell,
        'side': side,
        'runs': len(group),
        'median_seconds': seconds,
        'least_seconds': min(row['seconds'] for row in group),
        'ratio': seconds / _median(own, 'seconds'),
        'warm_seconds': warm,
        'warm_ratio': warm / _median(own, 'warm_seconds'),
        'process_bytes': max(row['process_bytes'] or 0 for row in group) or None,
        'relative_error': group[0]['relative_error'],
      }
    )
  return out


def _median(rows: list[dict], name: str) -> float:
  return statistics.median(row[name] for row in rows)


def prepare(this: job.Job) -> Benchmark:
  """Checks the files there are to read."""
  for path in (this.config.resnet32, this.config.resnet20):
    if path is not None and not pathlib.Path(path).is_file():
      raise FileNotFoundError(f'weights file {path} does not exist')
  this.check()
  return Benchmark(this)


def _installed(side: str) -> bool:
  needs = {'tnjax': (), 'tensorly-numpy': ('tensorly',), 'tensorly-pytorch': ('tensorly', 'torch')}
  return all(importlib.util.find_spec(name) is not None for name in needs[side])


if __name__ == '__main__':
  job.launch(Config, 'cold_start', prepare)
