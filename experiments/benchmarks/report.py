"""The result of a cell, the table on the terminal, and the picture."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence

from experiments.benchmarks import bounds
from experiments.benchmarks.cells import Cell
from experiments.common.results import atomic


def describe(cell: Cell) -> dict:
  """The cell itself; shape and ranks are lists of one entry a tensor where these differ."""
  same = len(set(cell.shapes)) == 1
  shapes = cell.shapes[0] if same else cell.shapes
  return {
    'name': cell.name,
    'method': cell.method,
    'shape': shapes,
    'count': len(cell.shapes),
    'ranks': cell.ranks[0] if same else cell.ranks,
    'sweeps': cell.sweeps,
    'input_bytes': bounds.input_bytes(cell),
  }


def result(
  cell: Cell,
  sides: Mapping[str, dict],
  copies: Mapping[str, Sequence[float]],
  rates: Mapping,
  target: float | None = None,
) -> dict:
  """Everything that the report says of a cell.

  Args:
    cell: what was measured.
    sides: by name, what was measured of each; 'tnjax' and its variants 'tnjax-...', the others
      are peers.
    copies: seconds of copying the input, 'copy' into memory in use, 'copy_new' into new memory.
    rates: measured, `gemm_gflops` of square products, `skinny_gflops` of the cell's, one for every
      tensor, and `copy_gbytes_per_s`.
    target: of an iterative method, the error that a side's time and sweeps are for.
  """
  own = sides['tnjax']
  others = {k: v for k, v in sides.items() if not k.startswith('tnjax')}
  variants = {k: v for k, v in sides.items() if k.startswith('tnjax-')}
  copy_seconds = statistics.median(copies['copy'])
  run = cell.at(own.get('sweeps'))
  square, skinny = (
    bounds.bound(run, gflops, rates['copy_gbytes_per_s'], copy_seconds)
    for gflops in ([rates['gemm_gflops']] * len(cell.shapes), rates['skinny_gflops'])
  )
  median = own['median_seconds']
  ran = {k: v for k, v in others.items() if 'failed' not in v}
  times = {k: v['median_seconds'] for k, v in ran.items() if v['median_seconds'] is not None}
  best = min(times, key=times.get, default=None)
  errors = [v['relative_error'] for v in (others | variants).values() if 'failed' not in v]
  out = describe(cell) | {
    'slack': cell.slack if cell.sweeps else None,
    'target_error': target,
    'tnjax': own,
    'peers': others,
    'variants': variants,
    'copy_seconds': copy_seconds,
    'copy_new_seconds': statistics.median(copies['copy_new']),
    'bound_seconds': square[0],
    'bound_kind': square[1],
    'bound_skinny_seconds': skinny[0],
    'skinny_gflops': list(rates['skinny_gflops']),
    'best_peer': best,
    'speedup_over_best_peer': _over(times.get(best), median),
    'speedup_at_least': None if best else _over(_longest_try(ran), median),
    'times_bound': _over(median, square[0]),
    'times_bound_skinny': _over(median, skinny[0]),
    'times_copy': _over(median, copy_seconds),
    'error_ratio': own['relative_error'] / max(min(errors), 1e-12) if errors else None,
    'aim': cell.aim,
  }
  for name, variant in variants.items():
    out[f'speedup_over_{name.removeprefix("tnjax-")}'] = _over(variant['median_seconds'], median)
  return out | {'met': cell.met(out)}


def _longest_try(others: Mapping[str, dict]) -> float | None:
  """Seconds that were not enough for any of those that do not reach the target."""
  tries = [v['most_sweeps_seconds'] for v in others.values() if 'most_sweeps_seconds' in v]
  return min(tries, default=None)


def _over(a: float | None, b: float | None) -> float | None:
  return None if a is None or b is None else a / b


def table(report: Mapping) -> str:
  """The report as text for the terminal."""
  head = ('cell', 'compile', 'run', 'best peer', 'sweeps', 'peer\'s', 'speedup', 'x bound',
          'x skinny', 'x copy', 'peak', 'peer peak', 'error', 'ratio', 'met')  # fmt: skip
  lines = [head]
  for c in report['cells']:
    own, best = c['tnjax'], c['best_peer']
    peer = c['peers'].get(best, {})
    met = {True: 'yes', False: 'no', None: ''}[c['met']]
    lines.append((
      c['name'], _seconds(own['compile_seconds']), _seconds(own['median_seconds']), best or '',
      _sweeps(own), _sweeps(peer), _speedup(c), _ratio(c['times_bound']),
      _ratio(c['times_bound_skinny']), _ratio(c['times_copy']), _megabytes(own.get('peak_bytes')),
      _megabytes(peer.get('peak_bytes')), f'{own["relative_error"]:.4f}',
      _number(c['error_ratio'], '.4f'), met,
    ))  # fmt: skip
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  text = ['  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines]
  foot = [f'{report["gemm_gflops"]:.0f} Gflop/s, {report["copy_gbytes_per_s"]:.1f} GB/s copied']
  foot += [f'{side}: {reason}' for side, reason in report['absent'].items()]
  foot += [f'{c["name"]}, {note}' for c in report['cells'] for note in _notes(c)]
  return '\n'.join([text[0], '-' * len(text[0]), *text[1:], *foot])


def _notes(c: Mapping) -> list[str]:
  """What a cell's line has no room for."""
  notes = []
  for name, s in {'tnjax': c['tnjax'], **c['peers']}.items():
    if 'failed' in s:
      notes.append(f'{name}: {s["failed"]}')
    elif 'sweeps' in s and s['sweeps'] is None:
      notes.append(
        f'{name}: {c["target_error"]:.6f} not reached, {s["relative_error"]:.6f} after '
        f'{c["sweeps"]} sweeps, {_seconds(s["most_sweeps_seconds"])}'
      )
  return notes + [
    f'{_ratio(v["median_seconds"] / c["tnjax"]["median_seconds"])} times faster than {name}, '
    f'whose error is {v["relative_error"]:.4f}'
    for name, v in c['variants'].items()
  ]


def plot(path: pathlib.Path, cells: Sequence[Mapping], title: str) -> None:
  """Two rows of bars, one a cell: speedup over the best peer, and run time over the bound."""
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot as plt

  names = [c['name'] for c in cells]
  figure, panels = plt.subplots(
    1, 2, figsize=(11, 1.4 + 0.32 * len(cells)), layout='constrained', sharey=True
  )
  columns = (
    ('speedup_over_best_peer', 'times faster than the best peer', {1: 'black', 5: 'C2'}),
    ('times_bound', 'run time / bound (1 is out of reach)', {1: 'black', 2: 'C2'}),
  )
  for i, (axes, (field, label, lines)) in enumerate(zip(panels, columns)):
    values = [c[field] or float('nan') for c in cells]
    bars = axes.barh(names, values, color=f'C{i}', alpha=0.8)
    labels = [f'{v:.3g}' if v == v else _speedup(c) or 'no peer' for v, c in zip(values, cells)]
    axes.bar_label(bars, labels, padding=3)
    axes.set_xscale('log')
    axes.margins(x=0.25)
    for at, color in lines.items():
      axes.axvline(at, color=color, linestyle='--', linewidth=1)
    axes.set_xlabel(label)
    axes.grid(axis='x', alpha=0.3)
  panels[0].invert_yaxis()
  figure.suptitle(title, fontsize=10)
  with atomic(path) as partial:
    figure.savefig(partial, dpi=120)
  plt.close(figure)


def _speedup(c: Mapping) -> str:
  """Over the best peer; where none comes as low, over the longest try of the quickest."""
  if c['speedup_at_least'] is not None:
    return f'> {c["speedup_at_least"]:.2f}'
  return _ratio(c['speedup_over_best_peer'])


def _sweeps(side: Mapping) -> str:
  """Of an iterative method, those it took to the error of all."""
  if 'sweeps' not in side:
    return ''
  return 'not reached' if side['sweeps'] is None else str(side['sweeps'])


def _seconds(value: float | None) -> str:
  if value is None:
    return ''
  return f'{value:.2f} s' if value >= 1 else f'{value * 1e3:.3g} ms'


def _ratio(value: float | None) -> str:
  return _number(value, '.2f')


def _number(value: float | None, form: str) -> str:
  return '' if value is None else format(value, form)


def _megabytes(value: int | None) -> str:
  return '' if value is None else f'{value / 1e6:.0f} MB'
