"""Plots of results."""

import math
import pathlib
import types
from collections.abc import Mapping, Sequence

from experiments.common.results import atomic

_MARKERS = 'osD^vP*Xh'


def accuracy_vs_compression(
  path: pathlib.Path, rows: Sequence[Mapping], baseline: float | None, title: str
) -> None:
  """Accuracy against the true size of the compressed kernels, one line a scheme.

  One panel after fine-tuning, where there was any, and one before; the dashed line is the network
  as it was. Bars are one standard deviation to each side where the rows have one, being means over
  seeds.
  """
  kinds = {'accuracy_finetuned': 'fine-tuned', 'accuracy_decomposed': 'decomposed, not fine-tuned'}
  if rows and all(row['accuracy_finetuned'] is None for row in rows):
    del kinds['accuracy_finetuned']
  width = 5.0 * len(kinds)
  figure, panels = pyplot().subplots(1, len(kinds), figsize=(width, 5), sharey=True, squeeze=False)
  figure.subplots_adjust(0.8 / width, 0.11, 1 - 0.8 / width, 0.88, wspace=0.25)  # room for names
  figure.suptitle(title, fontsize=11)
  for axes, (name, words) in zip(panels[0], kinds.items()):
    axes.set_title(words, fontsize=10)
    axes.set_xlabel('size of the compressed kernels (original = 100%)')
    _percents(axes, [row['kernel_params_ratio'] for row in rows])
    if baseline is not None:
      axes.axhline(baseline, color='black', linestyle='--', linewidth=1)
      axes.annotate(
        'uncompressed', (0, baseline), (3, 3), xycoords=('axes fraction', 'data'),
        textcoords='offset points', fontsize=8,
      )  # fmt: skip
    label_ends(axes, _lines(axes, rows, name))
  panels[0, 0].set_ylabel('test accuracy')
  save(figure, path)


def _lines(axes: object, rows: Sequence[Mapping], name: str) -> list[tuple[str, tuple, str]]:
  """Draws a line a scheme; returns the schemes, where their lines end, and their colors."""
  ends = []
  for i, scheme in enumerate(dict.fromkeys(row['scheme'] for row in rows)):
    found = [r for r in rows if r['scheme'] == scheme and r[name] is not None]
    found.sort(key=lambda r: r['kernel_params_ratio'])
    if not found:
      continue
    x, y = zip(*((r['kernel_params_ratio'], r[name]) for r in found))
    spread = [r.get(f'{name}_std', 0.0) for r in found]
    style = {'color': f'C{i}', 'marker': _MARKERS[i % len(_MARKERS)], 'markersize': 5}
    axes.errorbar(x, y, spread if any(spread) else None, capsize=2, linewidth=1.2, **style)
    ends.append((scheme, (x[-1], y[-1]), f'C{i}'))
  return ends


def _percents(axes: object, sizes: Sequence[float]) -> None:
  """Percent on both axes, sizes on a logarithmic one, with few labels, far from each other."""
  from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

  axes.set_xscale('log')
  if sizes:
    low, high = min(sizes) / 1.3, max(sizes) * 1.3
    axes.set_xlim(low, high)
    leading = (1, 2, 5) if high > 4 * low else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
    round_ones = [m * 10.0**e for e in range(-7, 3) for m in leading]
    axes.xaxis.set_major_locator(FixedLocator(round_ones))
  axes.xaxis.set_minor_locator(NullLocator())
  axes.xaxis.set_major_formatter(lambda value, _: f'{value:.6%}'.rstrip('0%').rstrip('.') + '%')
  axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
  axes.grid(alpha=0.3)


def label_ends(
  axes: object, ends: Sequence[tuple[str, tuple, str]], points: float = 11.0, size: float = 8
) -> None:
  """Names lines right of the axes, each at the height of its end or, where that is taken, near.

  Args:
    axes: with all that is drawn in them.
    ends: label, (x, y) of the end, color.
    points: least distance between labels.
    size: of the font.
  """
  if not ends:
    return
  step = points / (axes.bbox.height * 72 / axes.figure.dpi)
  ends = sorted(ends, key=lambda end: end[1][1])
  to_axes = axes.transData + axes.transAxes.inverted()
  axes.autoscale_view()
  wanted = [to_axes.transform(end)[1] for _, end, _ in ends]
  for (label, end, color), height in zip(ends, _spread(wanted, step)):
    axes.annotate(
      label, end, (1.06, height), textcoords='axes fraction', color=color, fontsize=size,
      va='center', annotation_clip=False,
      arrowprops={'arrowstyle': '-', 'color': color, 'linewidth': 0.5, 'alpha': 0.4},
    )  # fmt: skip


def _spread(wanted: Sequence[float], step: float) -> list[float]:
  """Sorted places at least `step` apart and as near to the sorted ones that are wanted as groups
  of neighbours, each about its mean, can be; within [0, 1] where there is room.

  >>> _spread([0.5, 0.5, 0.9], 0.1)
  [0.45, 0.55, 0.9]
  """
  groups = []  # of how many, and the center
  for place in wanted:
    groups.append((1, place))
    while True:
      count, center = groups[-1]
      half = (count - 1) * step / 2
      center = max(half, min(1 - half, center))
      groups[-1] = (count, center)
      if len(groups) == 1:
        break
      before, middle = groups[-2]
      if middle + (before - 1) * step / 2 + step <= center - half + 1e-9:
        break
      whole = before + count
      groups[-2:] = [(whole, (before * middle + count * center) / whole)]
  return [
    round(center + (i - (count - 1) / 2) * step, 6)
    for count, center in groups
    for i in range(count)
  ]


def curves(path: pathlib.Path, lines: Sequence[Mapping], name: str) -> None:
  """A number of `metrics.jsonl` against the step, one curve a phase, named at its end."""
  phases = {}
  for line in lines:
    value = line.get(name)
    if isinstance(value, (int, float)) and math.isfinite(value):
      phases.setdefault(line['phase'], []).append((line['step'], value))
  height = max(5.0, 1.5 + 0.13 * len(phases))
  figure, axes = pyplot().subplots(figsize=(9, height))
  figure.subplots_adjust(0.11, 0.5 / height, 0.85, 1 - 0.2 / height)
  if all(value > 0 for points in phases.values() for _, value in points):
    axes.set_yscale('log')
  colors = pyplot().get_cmap('turbo')
  ends = []
  for i, (phase, points) in enumerate(phases.items()):
    color = colors((i + 0.5) / len(phases))
    axes.plot(*zip(*points), color=color, linewidth=1, marker='.', markersize=3)
    ends.append((phase, points[-1], color))
  axes.set_xlabel('step')
  axes.set_ylabel(name)
  axes.grid(alpha=0.3)
  label_ends(axes, ends, points=9, size=6)
  save(figure, path)


def pyplot() -> types.ModuleType:
  """Matplotlib's, drawing into files; imported late, as it takes a second."""
  import matplotlib

  matplotlib.use('agg')
  from matplotlib import pyplot

  return pyplot


def save(figure: object, path: pathlib.Path) -> None:
  """Writes a figure, whole or not at all, and closes it."""
  with atomic(path) as partial:
    figure.savefig(partial, dpi=120)
  pyplot().close(figure)
