"""What the rows say: comparisons, the table for the terminal, and whether all files are there."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.classifier import resume
from experiments.common import grid, mesh
from experiments.pose import compare, metrics
from experiments.pose.config import CONTROL, KEYS, MODES
from experiments.pose.crops import Crops
from experiments.pose.people import People
from experiments.pose.seeded import THRESHOLDS

_HEAD = ('study', 'network', 'smaller', 'tensor alone', 'parameters', 'MACs', 'error', 'start',
         'trained')  # fmt: skip


def check(folder: pathlib.Path, report: Mapping) -> None:
  """Raises ValueError if predictions that a report names are missing, or others."""
  for found in (*report['baselines'], *report['rows']) if mesh.primary() else ():
    if 'accuracy' not in found:
      continue  # noted before it was trained
    resume.check_file(folder / str(found.get('predictions')), found.get('predictions_sha256'))


def measured(data: Crops, report: Mapping) -> People:
  """Who is measured: all whose image could be read."""
  people = data.validation.people
  skipped = {name for found in report['baselines'] for name in found.get('skipped', ())}
  names = [os.fsdecode(name).encode(errors='replace').decode() for name in people.names]
  return people.part(np.flatnonzero([name not in skipped for name in names]))


def grouped(rows: Sequence[Mapping]) -> dict[compare.Key, dict[int, Mapping]]:
  """The rows by study, method and value, and then by the seed."""
  found = {}
  for row in rows:
    found.setdefault(tuple(row[key] for key in KEYS), {})[row['seed']] = row
  return found


def comparisons(folder: pathlib.Path, report: Mapping, data: Crops) -> list[dict]:
  """Differences of accuracy, see `compare.pairs`, by the seeds that both sides have."""
  rows, people, found = grouped(report['rows']), measured(data, report), []
  scales, threshold = THRESHOLDS[report['metric']]

  def marks(row: Mapping) -> compare.Marks:
    joints = np.load(folder / row['predictions'])
    return metrics.marks(joints, people, scales(people), threshold)

  for one, other in compare.pairs(rows):
    if not (seeds := [seed for seed in rows[one] if seed in rows[other]]):
      continue
    sides = ([marks(rows[key][seed]) for seed in seeds] for key in (one, other))
    better = compare.difference(*sides, people.layout.scored, people.names)
    ratio = 1 / float(np.mean([rows[one][seed]['params_ratio'] for seed in seeds]))
    about = dict(zip(KEYS, one)) | {'against': other[1], 'ratio': ratio, 'seeds': seeds}
    if other[1] == CONTROL and ratio > 1:
      about['per_halving'] = better['difference'] / float(np.log2(ratio))
    found.append(about | better)
  return found


def name(row: Mapping) -> str:
  """What a row or a comparison is of."""
  return row['method'] + (f' rank {row["value"]:g}' if row['method'] in MODES else '')


def text(report: Mapping) -> str:
  """The report's rows, of several seeds mean and deviation; and the comparisons."""
  lines = [_HEAD]
  for r in grid.summarised(report['rows'], KEYS):
    cells = [r['study'], name(r), f'{1 / r["params_ratio"]:.2f}x']
    cells += [f'{1 / r["kernel_params_ratio"]:.2f}x', f'{r["params"]:,.0f}']
    error = r.get('relative_error')
    cells += [f'{r["macs_ratio"]:.0%}', '-' if error is None else f'{error:.3f}']
    lines.append((*cells, _percent(r, 'accuracy_start'), _percent(r, 'accuracy')))
  widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
  found = ['  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines]
  return '\n'.join([*found, *_foot(report)])


def line(row: Mapping) -> str:
  """A row in one line."""
  start = '' if row['accuracy_start'] is None else f'{row["accuracy_start"]:.2%} -> '
  return (
    f'{row["study"]}: {name(row)} seed {row["seed"]}: {row["params"]:,} parameters, '
    f'{1 / row["params_ratio"]:.2f}x smaller, {row["metric"]} {start}{row["accuracy"]:.2%}'
  )


def _foot(report: Mapping) -> list[str]:
  trained = [one for one in report['baselines'] if 'accuracy' in one]
  lines, kind = [], report['metric']
  if trained:
    (base,) = grid.summarised(trained, ('params',))
    lines.append(
      f'dense, before it was trained on: {kind} {_percent(base, "accuracy")}, '
      f'{base["params"]:,} parameters, {base["macs"]:,} multiply-adds; the mean pose, which looks '
      f'at no image: {report["mean_pose"][kind]:.2%}'
    )
  if report['note']:
    lines.append(report['note'])
  found = report.get('comparisons', ())
  lines += [_better(r) for r in found if r['study'] == 'methods']
  if modes := [r for r in found if r['study'] == 'modes']:
    lines.append('single modes, that one first which a halving of the network costs least:')
    lines += [_better(r) for r in sorted(modes, key=lambda r: -r.get('per_halving', -np.inf))]
  return lines


def _better(found: Mapping) -> str:
  halving = f'{100 * found["per_halving"]:+.2f} a halving, ' if 'per_halving' in found else ''
  seeds = ', '.join(f'{100 * one:+.2f}' for one in found['by_seed'])
  return (
    f'{name(found)} against {found["against"]} at {found["ratio"]:.2f}x: '
    f'{100 * found["difference"]:+.2f} points ({100 * found["low"]:+.2f} to '
    f'{100 * found["high"]:+.2f} for 95 % of other images; {halving}by seed {seeds})'
  )


def _percent(row: Mapping, name: str) -> str:
  if row.get(name) is None:
    return '-'
  spread = f' ± {row[f"{name}_std"]:.2%}' if f'{name}_std' in row else ''
  return f'{row[name]:.2%}{spread}'
