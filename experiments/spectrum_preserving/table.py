"""Reports as text for the terminal."""

from collections.abc import Iterable, Mapping, Sequence

NAMES = {'e2e': 'E2E', 'seq': 'Seq', 'seq_e2e': 'Seq, E2E'}


def answered(report: Mapping) -> str:
  """Accuracy at equal true size, and as training goes on."""
  found = report['question']
  schemes = list(dict.fromkeys(s for entry in found['at_equal_size'] for s in entry['schemes']))
  groups = ('plain', 'reshaped', 'gain')
  lines = [('method', 'size', *schemes, *groups)]
  for entry in found['at_equal_size']:
    cells = [entry['schemes'].get(s) for s in schemes] + [entry[name] for name in groups]
    lines.append((NAMES[entry['method']], f'{entry["size"]:.0%}', *map(spread, cells)))
  along = [('method', 'updates', 'cost / E2E', 'plain', 'reshaped')]
  for entry in found['convergence']:
    cost = '-' if entry['cost'] is None else f'{entry["cost"]:.0%}'
    cells = map(spread, (entry['plain'], entry['reshaped']))
    along.append((NAMES[entry['method']], f'{entry["fraction"]:.0%}', cost, *cells))
  return (
    f'Test accuracy at equal true size; gain: reshaped minus plain, of the same seed.\n'
    f'{_aligned(lines)}\n\nAs training goes on, at 10% of the kernels; cost: updates x trained '
    f'parameters.\n{_aligned(along)}'
  )


def counted(rows: Sequence[Mapping]) -> str:
  """Parameters by our rules and by the released ones where they differ, and multiply-adds."""
  lines = [('network', 'scheme', 'rate', 'params', 'true size', 'released', 'true size', 'MACs')]
  for row in rows:
    theirs = '-', '-'
    if row['released_params'] is not None:
      theirs = f'{row["released_params"]:,}', f'{row["released_ratio"]:.1%}'
    ours = f'{row["params"]:,}', f'{row["params_ratio"]:.1%}'
    head = row['network'], row['scheme'], f'{row["rate"]:.0%}'
    lines.append((*head, *ours, *theirs, f'{row["macs_ratio"]:.1%}'))
  return _aligned(lines)


def spread(found: Mapping | None) -> str:
  """A mean, and its deviation where there are several seeds.

  >>> spread({'mean': 0.91, 'std': 0.004, 'seeds': 3}), spread(None)
  ('91.00% ± 0.40%', '-')
  """
  if found is None:
    return '-'
  deviation = f' ± {found["std"]:.2%}' if found['seeds'] > 1 else ''
  return f'{found["mean"]:.2%}{deviation}'


def _aligned(lines: Sequence[Iterable[str]]) -> str:
  lines = [tuple(line) for line in lines]
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  text = ['  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines]
  return '\n'.join([text[0], '-' * len(text[0]), *text[1:]])
