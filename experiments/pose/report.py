"""What the rows say: comparisons, the table for the terminal, and whether all files are there."""

import os
import pathlib
from collections.abc import Mapping

import numpy as np

from experiments.common import grid, mesh, results
from experiments.pose import compare, metrics
from experiments.pose.crops import Crops
from experiments.pose.people import People
from experiments.pose.seeded import THRESHOLDS

_HEAD = ('study', 'method', '', 'smaller', 'tensor alone', 'parameters', 'MACs', 'error', 'start',
         'trained')  # fmt: skip


def check(folder: pathlib.Path, report: Mapping) -> None:
  """Raises ValueError if predictions that a report names are missing, or others."""
  for found in (*report['baselines'], *report['rows']) if mesh.primary() else ():
    if 'accuracy' not in found:
      continue  # noted before it was trained
    path = folder / str(found.get('predictions'))
    if not path.is_file() or results.sha256(path) != found.get('predictions_sha256'):
      raise ValueError(
        f'{path}, which report.json names, is missing or has changed; put it back, or choose '
        'another --workdir'
      )


def measured(data: Crops, report: Mapping) -> People:
  """Who is measured: all whose image could be read."""
  people = data.validation.people
  skipped = {name for found in report['baselines'] for name in found.get('skipped', ())}
  names = [os.fsdecode(name).encode(errors='replace').decode() for name in people.names]
  return people.part(np.flatnonzero([name not in skipped for name in names]))


def comparisons(folder: pathlib.Path, report: Mapping, data: Crops) -> list[dict]:
  """Differences of accuracy at equal size, by the seeds that both sides have."""
  rows = [row for row in report['rows'] if row['study'] == 'methods']
  people, found = measured(data, report), []
  scales, threshold = THRESHOLDS[report['metric']]
  for value, one, other in compare.pairs(rows):
    here = [row for row in rows if row['value'] == value]
    own = [{row['seed']: row for row in here if row['method'] == name} for name in (one, other)]
    seeds = [seed for seed in own[0] if seed in own[1]]
    if seeds:
      sides = (
        [
          metrics.marks(
            np.load(folder / side[seed]['predictions']), people, scales(people), threshold
          )
          for seed in seeds
        ]
        for side in own
      )
      about = {'value': value, 'method': one, 'against': other, 'seeds': seeds}
      found.append(about | compare.difference(*sides, people.layout.scored))
  return found


def text(report: Mapping) -> str:
  """The report's rows, of several seeds mean and deviation; and the comparisons."""
  lines, spread = [_HEAD], _percent
  for r in grid.summarised(report['rows'], ('study', 'method', 'value')):
    value = f'{r["value"]:g}x' if r['study'] == 'methods' else f'rank {r["value"]:g}'
    cells = [r['study'], r['method'], value, f'{1 / r["params_ratio"]:.2f}x']
    cells += [f'{1 / r["kernel_params_ratio"]:.2f}x', f'{r["params"]:,.0f}']
    error = r.get('relative_error')
    cells += [f'{r["macs_ratio"]:.0%}', '-' if error is None else f'{error:.3f}']
    lines.append((*cells, spread(r, 'accuracy_start'), spread(r, 'accuracy')))
  widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
  found = ['  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines]
  return '\n'.join([*found, *_foot(report)])


def line(row: Mapping) -> str:
  """A row in one line."""
  value = f'{row["value"]:g}x' if row['study'] == 'methods' else f'rank {row["value"]:g}'
  start = '' if row['accuracy_start'] is None else f'{row["accuracy_start"]:.2%} -> '
  return (
    f'{row["method"]} {value} seed {row["seed"]}: {row["params"]:,} parameters, '
    f'{1 / row["params_ratio"]:.2f}x smaller, {row["metric"]} {start}{row["accuracy"]:.2%}'
  )


def _foot(report: Mapping) -> list[str]:
  trained = [one for one in report['baselines'] if 'accuracy' in one]
  lines, name = [], report['metric']
  if trained:
    (base,) = grid.summarised(trained, ('params',))
    lines.append(
      f'dense: {name} {_percent(base, "accuracy")}, {base["params"]:,} parameters, '
      f'{base["macs"]:,} multiply-adds; the mean pose, which looks at no image: '
      f'{report["mean_pose"][name]:.2%}'
    )
  if report['note']:
    lines.append(report['note'])
  for r in report.get('comparisons', ()):
    lines.append(
      f'{r["method"]} against {r["against"]} at {r["value"]:g}x: {100 * r["difference"]:+.2f} '
      f'points ({100 * r["low"]:+.2f} to {100 * r["high"]:+.2f}, 95 % of other images)'
    )
  return lines


def _percent(row: Mapping, name: str) -> str:
  if row.get(name) is None:
    return '-'
  spread = f' ± {row[f"{name}_std"]:.2%}' if f'{name}_std' in row else ''
  return f'{row[name]:.2%}{spread}'
