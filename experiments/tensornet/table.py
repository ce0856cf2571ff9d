"""A report as text for the terminal, and whether its rows are whole."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.common import grid
from experiments.tensornet import counts, paper

_NEEDED = {
  'counts': ('ranks', 'weights', 'weights_left_capped', 'weights_paper'),
  'inference': ('dense_ms', 'tt_ms', 'speedup', 'dense_temporary_mib', 'tt_temporary_mib'),
  'mnist': ('first_layer_weights', 'params', 'error', 'steps', 'seconds'),
  'quick': ('params', 'error', 'steps', 'seconds'),
  'step': ('step_ms', 'memory'),
  'wide': ('params', 'hidden', 'error', 'steps', 'seconds', 'memory'),
}


def check(path: pathlib.Path, report: Mapping) -> None:
  """Raises ValueError if an entry that tables and figures need is missing from a report."""
  if not isinstance(report['data'], dict):
    raise ValueError(f'{path} is damaged: its data are no mapping')
  for row in report['rows']:
    needed = _NEEDED.get('step' if row['cell'] == 'step' else row['study'])
    if needed is None:
      raise ValueError(f'{path} is damaged: it has a row of the study {row["study"]!r}')
    for name in needed:
      value = row.get(name)
      if value is None or isinstance(value, str):
        raise ValueError(f'{path} is damaged: row {_name(row)} has {name} {value!r}')


def line(row: Mapping) -> str:
  """A row in one line, the paper's figures beside it.

  >>> both = next(row for row in counts.rows() if row['cell'] == 'quick, both')
  >>> line({'study': 'counts', 'rank': None} | both)
  'counts quick, both: network 1.66x smaller (paper: 1.7x)'
  """
  study, cell, rank = row['study'], row['cell'], row['rank']
  if study == 'counts':
    known = [(a, b) for a, b in zip(row['weights_left_capped'], row['weights_paper']) if b]
    agree = sum(a == b for a, b in known)
    told = [f'{agree} of {len(known)} counts are those of the paper'] if known else []
    if 'network_ratio' in row:
      ours, theirs = row['network_ratio'], row['network_ratio_paper']
      told.append(f'network {ours:.3g}x smaller (paper: {theirs:.3g}x)')
    return f'{_name(row)}: {", ".join(told)}'
  if study == 'inference':
    return (
      f'{_name(row)}: dense {row["dense_ms"]:.3g} ms, train {row["tt_ms"]:.3g} ms, '
      f'{row["speedup"]:.2f}x as fast (paper: CPU {row["speedup_paper_cpu"]:.2f}x, GPU '
      f'{row["speedup_paper_gpu"]:.2f}x, unverified)'
    )
  if cell == 'step':
    peak = row['memory']['process_bytes'] / 2**30
    return f'{_name(row)}: {row["step_ms"]:,.0f} ms a step, process {peak:.2f} GiB'
  narrow = study == 'wide' and row['hidden'] != paper.WIDE_HIDDEN  # another network
  told = None if narrow else paper.error(study, cell, rank)
  beside = f' (paper: {told.value:.2%}, {told.tag})' if told else ''
  spread = f' ± {row["error_std"]:.2%}' if 'error_std' in row else ''
  return (
    f'{_name(row)}: {row["params"]:,} parameters, error {row["error"]:.2%}{spread}{beside}, '
    f'{row["steps"]:,} steps in {row["seconds"]:,.0f} s'
  )


def text(rows: Sequence[Mapping]) -> str:
  """All rows, means over seeds, study by study."""
  parts = [counts.table([r for r in rows if r['study'] == 'counts'])]
  parts += [
    line(r) for r in grid.summarised(rows, ('study', 'cell', 'rank')) if r['study'] != 'counts'
  ]
  return '\n'.join(filter(None, parts))


def _name(row: Mapping) -> str:
  rank = '' if row['rank'] is None else f' rank {row["rank"]}'
  return f'{row["study"]} {row["cell"]}{rank}'
