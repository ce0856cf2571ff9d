"""A report as text for the terminal."""

import textwrap
from collections.abc import Mapping

from experiments.common import grid

_HEAD = (
  'scheme', 'rate', 'kernels', 'params', 'MACs', 'error', 'decomposed', 'fine-tuned', 'validation'
)  # fmt: skip


def table(report: Mapping) -> str:
  """The report's rows; of several seeds mean and deviation."""
  lines = [_HEAD]
  for r in grid.summarised(report['rows'], ('scheme', 'rate')):
    cells = [r['scheme'], f'{r["rate"]:.0%}', f'{r["kernel_params_ratio"]:.1%}']
    cells += [f'{r["params_ratio"]:.1%}', f'{r["macs_ratio"]:.1%}', f'{r["relative_error"]:.3f}']
    kinds = ('decomposed', 'finetuned', 'validation')
    lines.append((*cells, *(_accuracy(r, f'accuracy_{kind}') for kind in kinds)))
  widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
  text = ['  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines]
  base = report['baseline']
  foot = (
    f'uncompressed: accuracy {_accuracy(base, "accuracy")} (validation '
    f'{_accuracy(base, "accuracy_validation")}), {base["params"]:,} parameters, '
    f'{base["macs"]:,} MACs. kernels, params, MACs: compressed / original, of the compressed '
    "kernels, of the network, of the network. validation: accuracy of the row's last network on "
    'held-out images, to choose by.'
  )
  foot = textwrap.wrap(foot, len(text[0]), break_on_hyphens=False)
  return '\n'.join([text[0], '-' * len(text[0]), *text[1:], *foot])


def markdown(report: Mapping) -> str:
  """The rows as a Markdown table, shorter."""
  head = ('scheme', 'rate', 'kernels', 'MACs', 'relative error', 'decomposed', 'fine-tuned')
  lines = [head, ['---'] * len(head)]
  for r in grid.summarised(report['rows'], ('scheme', 'rate')):
    cells = [f'`{r["scheme"]}`', f'{r["rate"]:.0%}', f'{r["kernel_params_ratio"]:.1%}']
    cells += [f'{r["macs_ratio"]:.1%}', f'{r["relative_error"]:.3f}']
    lines.append([*cells, *(_accuracy(r, f'accuracy_{k}') for k in ('decomposed', 'finetuned'))])
  return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _accuracy(row: Mapping, name: str) -> str:
  if row.get(name) is None:
    return '-'
  spread = f' ± {row[f"{name}_std"]:.2%}' if f'{name}_std' in row else ''
  return f'{row[name]:.2%}{spread}'
