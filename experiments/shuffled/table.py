"""The report as text for the terminal and the README."""

from collections.abc import Iterator, Mapping, Sequence

from experiments.shuffled.stability import MEASURES, means

_SIDES = {'td': 'TD', 'rstd': 'RsTD', 'rstd_shared': 'RsTD, shared'}


def text(report: Mapping) -> str:
  """All tables, and what they say of the two claims."""
  parts = [
    f'Accuracies on test images: {report["definition"]}.',
    _table(_accuracy_lines(report['rows'])),
    *([_table(_steady_lines(report['stability']))] if report['stability'] else []),
    *([_table(_gap_lines(report))] if report['gaps'] else []),
    *claimed(report['claims']),
    *(skipped(point) for point in report['out_of_reach']),
  ]
  return '\n\n'.join(parts)


def claimed(claims: Mapping) -> Iterator[str]:
  """The two claims, as sentences with numbers."""
  lines = []
  for one in claims['survives']:
    where = f'{one["dataset"]}, {one["mode"]}, {one["format"]}'
    if one['ratio'] is None:
      lines.append(f'  {where}: at no ratio (dense {one["dense"]:.2%})')
    else:
      lines.append(
        f'  {where}: up to {one["ratio"]:.1f}x, {one["accuracy"]:.2%} (dense {one["dense"]:.2%})'
      )
  head = 'Claim 1, strong compression survives shuffling. RsTD within 2 points of dense:'
  yield '\n'.join([head, *(lines or ['  no rows to tell from'])])
  lines = [
    f'  {one["dataset"]}, {one["mode"]}, {MEASURES[one["measure"]]}: TD {one["td"]:.2%}, RsTD '
    f'{one["rstd"]:.2%}; RsTD smaller in {one["rstd_smaller_in"]} of {one["formats"]} formats'
    for one in claims['steadier']
  ]
  head = 'Claim 2, RsTD is steadier than TD over the ratios (means over formats):'
  yield '\n'.join([head, *(lines or ['  no rows to tell from: it takes several ratios'])])


def skipped(point: Mapping) -> str:
  """A ratio that some layer cannot reach."""
  return (
    f'skipped: {point["format"]} at {point["ratio"]:g}x on {point["dataset"]} is out of reach, '
    f'rank 0 in {", ".join(point["layers"])}'
  )


def _accuracy_lines(rows: Sequence[Mapping]) -> Iterator[tuple[str, ...]]:
  yield 'data', 'mode', 'format', 'entries', 'ratio', 'true', 'with index', 'network', 'accuracy'
  found = means(rows, 'dataset', 'mode', 'format', 'entries', 'ratio')
  sizes = {(r['dataset'], r['format'], r['entries'], r['ratio']): r for r in rows}
  for key in sorted(found):
    dataset, mode, format, entries, ratio = key
    row = sizes[dataset, format, entries, ratio]
    ratios = (row.get(name) for name in ('realised_ratio', 'ratio_with_index', 'network_ratio'))
    side = 'dense' if format == 'dense' else _SIDES[entries]
    cells = (dataset, mode, format, side, f'{ratio:g}', *map(_times, ratios))
    yield *cells, f'{found[key]["accuracy"]:.2%} ± {found[key]["std"]:.2%}'


def _steady_lines(measured: Sequence[Mapping]) -> Iterator[tuple[str, ...]]:
  yield 'data', 'mode', 'format', 'entries', 'std of seeds', 'range of ratios', 'std', 'lowest'
  for one in sorted(measured, key=lambda one: (one['dataset'], one['mode'], one['format'])):
    numbers = (one[name] for name in ('seed_std', 'ratio_range', 'ratio_std', 'lowest'))
    cells = one['dataset'], one['mode'], one['format'], _SIDES[one['entries']]
    yield *cells, *(f'{number:.2%}' for number in numbers)


def _gap_lines(report: Mapping) -> Iterator[tuple[str, ...]]:
  yield 'data', 'pixels permuted in', 'neighbours', 'mode', 'TD', 'RsTD', 'TD - RsTD'
  alike = {}
  for one in report['networks']:
    alike.setdefault((one['dataset'], one['block']), []).append(one['similarity'])
  for one in report['gaps']:
    values = alike[one['dataset'], one['block']]
    block = f'blocks of {one["block"]}' if one['block'] else 'none, augmented'
    cells = one['dataset'], block, f'{sum(values) / len(values):.2f}', one['mode']
    gap = f'{100 * one["gap"]:+.2f} ± {100 * one["gap_std"]:.2f}'
    yield *cells, f'{one["td"]:.2%}', f'{one["rstd"]:.2%}', gap


def _times(value: float | None) -> str:
  return '-' if value is None else f'{value:.2f}'


def _table(lines: Iterator[tuple[str, ...]]) -> str:
  lines = list(lines)
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  rows = ['  '.join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines]
  return '\n'.join([rows[0], '-' * len(rows[0]), *rows[1:]])
