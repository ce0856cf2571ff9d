"""Plots of results."""

import pathlib
import types
from collections.abc import Mapping, Sequence

from experiments.common.results import atomic


def accuracy_vs_compression(
  path: pathlib.Path, rows: Sequence[Mapping], baseline: float | None, title: str
) -> None:
  """Accuracy against the true size of the compressed kernels, one line a scheme.

  Solid lines after fine-tuning, dotted before; the dashed line is the network as it was. Bars are
  one standard deviation to each side where the rows have one, being means over seeds.
  """
  plt = _pyplot()
  from matplotlib.ticker import PercentFormatter

  figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
  if baseline is not None:
    axes.axhline(baseline, color='black', linestyle='--', linewidth=1, label='uncompressed')
  markers = 'osD^vP*Xh'
  for i, scheme in enumerate(dict.fromkeys(row['scheme'] for row in rows)):
    found = sorted(
      (r for r in rows if r['scheme'] == scheme), key=lambda r: r['kernel_params_ratio']
    )
    size = [r['kernel_params_ratio'] for r in found]
    style = {'color': f'C{i}', 'marker': markers[i % len(markers)], 'markersize': 5}
    after = [r['accuracy_finetuned'] for r in found]
    spread = [r.get('accuracy_finetuned_std', 0.0) for r in found]
    axes.errorbar(size, after, spread if any(spread) else None, label=scheme, capsize=2, **style)
    before = [r['accuracy_decomposed'] for r in found]
    axes.plot(size, before, linestyle=':', linewidth=1, alpha=0.6, **style)
  axes.set_xscale('log')
  axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
  axes.xaxis.set_minor_formatter(PercentFormatter(1, decimals=0))
  axes.tick_params(axis='x', which='minor', labelsize=7)
  axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
  axes.set_xlabel('parameters of the compressed kernels, of the original (true count)')
  axes.set_ylabel('test accuracy')
  axes.set_title(f'{title}\nsolid: fine-tuned, dotted: decomposed only', fontsize=10)
  axes.grid(alpha=0.3)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(ncols=2, fontsize=8)
  _save(figure, path)


def curves(path: pathlib.Path, lines: Sequence[Mapping], name: str) -> None:
  """A number of `metrics.jsonl` against the step, one curve a phase."""
  plt = _pyplot()
  figure, axes = plt.subplots(figsize=(8, 5), layout='constrained')
  phases = {}
  for line in lines:
    if line.get(name) is not None:
      phases.setdefault(line['phase'], []).append((line['step'], line[name]))
  colors = plt.get_cmap('turbo')
  for i, (phase, points) in enumerate(phases.items()):
    color = colors((i + 0.5) / len(phases))
    axes.plot(*zip(*points), label=phase, color=color, linewidth=1, marker='.', markersize=3)
  if all(value > 0 for points in phases.values() for _, value in points):
    axes.set_yscale('log')
  axes.set_xlabel('step')
  axes.set_ylabel(name)
  axes.grid(alpha=0.3)
  if len(phases) > 1:
    figure.legend(loc='outside right upper', fontsize=6, ncols=1 + len(phases) // 40)
  _save(figure, path)


def _pyplot() -> types.ModuleType:
  """Imported late, as it takes a second."""
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot

  return pyplot


def _save(figure: object, path: pathlib.Path) -> None:
  with atomic(path) as partial:
    figure.savefig(partial, dpi=120)
  _pyplot().close(figure)
