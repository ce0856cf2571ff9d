"""What the rows say of the two claims: compression survives shuffling, and RsTD is steadier."""

import statistics
from collections.abc import Mapping, Sequence

MEASURES = {
  'seed_std': 'standard deviation over seeds at one ratio, mean over ratios',
  'ratio_range': 'largest less smallest mean accuracy over ratios',
}
_CLOSE = 0.02  # of accuracy: what counts as surviving


def means(rows: Sequence[Mapping], *names: str) -> dict[tuple, dict]:
  """Rows of augmented images with equal `names`, in one: seeds, accuracy, its deviation, ratio.

  >>> same = {'block': 0, 'format': 'tt', 'realised_ratio': 5.0}
  >>> means([same | {'accuracy': a} for a in (0.5, 0.7)], 'format')['tt',]['accuracy']
  0.6
  """
  groups = {}
  for row in rows:
    if row['block'] == 0:
      groups.setdefault(tuple(row[name] for name in names), []).append(row)
  return {key: _mean(group) for key, group in groups.items()}


def stability(rows: Sequence[Mapping]) -> list[dict]:
  """Both measures for every format, arrangement and mode that was tried at several ratios."""
  names = ('dataset', 'format', 'mode', 'entries')
  curves = {}
  for (*key, _), found in means(rows, *names, 'ratio').items():
    curves.setdefault(tuple(key), []).append(found)
  return [
    dict(zip(names, key)) | _measured(points) for key, points in curves.items() if len(points) > 1
  ]


def gaps(rows: Sequence[Mapping], format: str, ratio: float) -> list[dict]:
  """TD less RsTD, seed by seed, at one format and ratio, for every kind of images and mode."""
  found = {}
  for row in rows:
    if (row['format'], row['ratio']) == (format, ratio):
      key = row['dataset'], row['block'], row['mode']
      found.setdefault(key, {}).setdefault(row['seed'], {})[row['entries']] = row['accuracy']
  names = ('dataset', 'block', 'mode')
  out = []
  for key, seeds in sorted(found.items()):
    pairs = [(one['td'], one['rstd']) for one in seeds.values() if one.keys() >= {'td', 'rstd'}]
    if pairs:
      gap = [td - rstd for td, rstd in pairs]
      td, rstd = (statistics.fmean(side) for side in zip(*pairs))
      about = {'seeds': len(gap), 'td': td, 'rstd': rstd, 'gap': statistics.fmean(gap)}
      out.append(dict(zip(names, key)) | about | {'gap_std': _std(gap)})
  return out


def claims(rows: Sequence[Mapping]) -> dict[str, list[dict]]:
  """The abstract's two claims, tested under our definition.

  `survives`: for every format and mode the largest true ratio at which RsTD's mean accuracy is
  within 2 points of the dense network's; None where there is none. `steadier`: for every mode and
  measure the mean over formats of TD and of RsTD, and in how many formats RsTD's is the smaller.
  """
  return {'survives': _survives(rows), 'steadier': _steadier(stability(rows))}


def _survives(rows: Sequence[Mapping]) -> list[dict]:
  found = means(rows, 'dataset', 'mode', 'format', 'entries', 'ratio')
  out = {}
  for (dataset, mode, format, entries, _), one in found.items():
    dense = found.get((dataset, mode, 'dense', 'td', 1.0))
    if entries != 'rstd' or dense is None:
      continue
    about = {'dataset': dataset, 'mode': mode, 'format': format, 'dense': dense['accuracy']}
    best = out.setdefault((dataset, mode, format), about | {'ratio': None, 'accuracy': None})
    close = one['accuracy'] >= dense['accuracy'] - _CLOSE
    if close and one['realised_ratio'] > (best['ratio'] or 0.0):
      best |= {'ratio': one['realised_ratio'], 'accuracy': one['accuracy']}
  return list(out.values())


def _steadier(measured: Sequence[Mapping]) -> list[dict]:
  sides = {}
  for one in measured:
    side = sides.setdefault((one['dataset'], one['mode']), {}).setdefault(one['format'], {})
    side[one['entries']] = one
  out = []
  for (dataset, mode), formats in sides.items():
    pairs = [(f['td'], f['rstd']) for f in formats.values() if f.keys() >= {'td', 'rstd'}]
    for name in MEASURES if pairs else ():
      values = [(td[name], rstd[name]) for td, rstd in pairs]
      td, rstd = (statistics.fmean(side) for side in zip(*values))
      wins = sum(b < a for a, b in values)
      about = {'dataset': dataset, 'mode': mode, 'measure': name, 'td': td, 'rstd': rstd}
      out.append(about | {'rstd_smaller_in': wins, 'formats': len(pairs)})
  return out


def _measured(points: Sequence[Mapping]) -> dict:
  accuracies = [point['accuracy'] for point in points]
  return {
    'ratios': len(points),
    'seeds': min(point['seeds'] for point in points),
    'seed_std': statistics.fmean(point['std'] for point in points),
    'ratio_range': max(accuracies) - min(accuracies),
    'ratio_std': _std(accuracies),
    'lowest': min(accuracies),
  }


def _mean(group: Sequence[Mapping]) -> dict:
  accuracies = [row['accuracy'] for row in group]
  return {
    'seeds': len(group),
    'realised_ratio': statistics.fmean(row['realised_ratio'] for row in group),
    'accuracy': statistics.fmean(accuracies),
    'std': _std(accuracies),
  }


def _std(values: Sequence[float]) -> float:
  """With n - 1; 0 of a single value."""
  return statistics.stdev(values) if len(values) > 1 else 0.0
