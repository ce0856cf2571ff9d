"""The question: at equal true size, do reshaped schemes keep more, and does Seq converge faster?"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from experiments.spectrum_preserving.config import METHODS, PLAIN, RESHAPED

SIZES = (0.05, 0.1, 0.2)
FRACTIONS = (0.25, 0.5, 0.75, 1.0)
_GROUPS = {'plain': PLAIN, 'reshaped': RESHAPED}
_NEAR = 1.3  # the one size of a scheme counts for another that is at most this many times as large

Row = Mapping[str, object]
Value = Callable[[Row], float]


def answer(rows: Sequence[Row]) -> dict:
  """What the rows of all schemes, rates, methods and seeds say.

  Returns:
    `at_equal_size`: per method and true size, of every scheme and of both groups (the mean of their
    schemes) accuracy, its deviation over seeds and their number; `gain`, reshaped minus plain of
    the same seed. None where some seed of it has rows on one side of the size alone.
    `convergence`: per method and fraction of the updates, the groups' accuracies at 10 %, and the
    updates x trained parameters by then over those of all of e2e's.
  """
  methods = [m for m in METHODS if any(row['method'] == m for row in rows)]
  return {
    'at_equal_size': [
      {'method': m, 'size': size, **_compared(_of(rows, m), size, lambda row: row['accuracy'])}
      for m in methods
      for size in SIZES
    ],
    'convergence': [
      {'method': m, 'fraction': f, 'size': 0.1, **_converging(rows, m, f)}
      for m in methods
      for f in FRACTIONS
    ],
  }


def at_size(rows: Sequence[Row], size: float, value: Value) -> float | None:
  """A value at a true size, of one scheme and seed: linear in the logarithm of the size.

  Rows of equal size count as their mean; None beyond the sizes there are. A single size is taken
  as it is where it is near.

  >>> rows = [{'kernel_params_ratio': s, 'x': x} for s, x in ((0.01, 0.0), (0.1, 1.0))]
  >>> at_size(rows, 0.1**1.5, lambda row: row['x']), at_size(rows, 0.2, lambda row: row['x'])
  (0.5, None)
  """
  found: dict[float, list[float]] = {}
  for row in rows:
    found.setdefault(math.log(row['kernel_params_ratio']), []).append(value(row))
  sizes, wanted = sorted(found), math.log(size)
  if not sizes:
    return None
  values = [statistics.fmean(found[s]) for s in sizes]
  if len(sizes) == 1:
    return values[0] if abs(wanted - sizes[0]) <= math.log(_NEAR) else None
  if not sizes[0] - 1e-9 <= wanted <= sizes[-1] + 1e-9:
    return None
  return round(float(np.interp(wanted, sizes, values)), 12)


def _compared(rows: Sequence[Row], size: float, value: Value) -> dict:
  """Schemes, groups and their difference at a size."""
  seeds = sorted({row['seed'] for row in rows})
  schemes = [s for s in PLAIN + RESHAPED if any(row['scheme'] == s for row in rows)]
  found = {
    scheme: [at_size(_where(rows, scheme=scheme, seed=seed), size, value) for seed in seeds]
    for scheme in schemes
  }
  groups = {
    name: [_mean(column) for column in zip(*(found[s] for s in own if s in found))]
    for name, own in _GROUPS.items()
  }
  pairs = zip(groups['reshaped'], groups['plain'])
  gain = [None if None in pair else pair[0] - pair[1] for pair in pairs]
  return {
    'schemes': {scheme: _spread(values) for scheme, values in found.items()},
    **{name: _spread(values) for name, values in groups.items()},
    'gain': _spread(gain),
  }


def _converging(rows: Sequence[Row], method: str, fraction: float) -> dict:
  own = _of(rows, method)
  found = _compared(own, 0.1, lambda row: _along(row, fraction)['accuracy'])
  e2e = {_setting(row): row['cost'] for row in _of(rows, 'e2e')}
  costs = [
    _along(row, fraction)['cost'] / e2e[_setting(row)] for row in own if _setting(row) in e2e
  ]
  return {name: found[name] for name in _GROUPS} | {'cost': _mean(costs)}


def _along(row: Row, fraction: float) -> Mapping:
  """The first point of a row's curve that is so far along."""
  return next(p for p in row['curve'] if p['updates'] >= fraction * row['updates'] - 1e-9)


def _of(rows: Sequence[Row], method: str) -> list[Row]:
  return _where(rows, method=method)


def _where(rows: Sequence[Row], **setting: object) -> list[Row]:
  return [row for row in rows if setting.items() <= row.items()]


def _setting(row: Row) -> tuple:
  return row['scheme'], row['rate'], row['seed']


def _mean(values: Sequence[float | None]) -> float | None:
  return None if not values or None in values else statistics.fmean(values)


def _spread(values: Sequence[float | None]) -> dict | None:
  """Mean, deviation (n - 1; 0 of one) and number; None where there are none, or not all."""
  mean = _mean(values)
  if mean is None:
    return None
  deviation = statistics.stdev(values) if len(values) > 1 else 0.0
  return {'mean': mean, 'std': deviation, 'seeds': len(values)}
