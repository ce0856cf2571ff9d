"""The paper's figures with ours and its own points, which are marked by how sure they are."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.common import grid, plots
from experiments.tensornet import paper
from experiments.tensornet.paper import Printed
from experiments.tensornet.shapes import FIGURE1, MATRIX_RANK

_MARKERS = dict(zip((*FIGURE1, MATRIX_RANK), 'osD^v*'))


def draw(folder: pathlib.Path, rows: Sequence[Mapping]) -> None:
  """Writes a figure of every study that has rows to draw, means over seeds."""
  for study, figure in _FIGURES.items():
    own = [row for row in rows if row['study'] == study]
    if own:
      figure(folder / f'{study}.png', grid.summarised(own, ('cell', 'rank')))


def _mnist(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
  """Figure 1: error against weights of the first layer; beside it, both layers as trains."""
  figure, (left, right) = plots.pyplot().subplots(
    1, 2, figsize=(12, 5), sharey=True, width_ratios=(2, 1), layout='constrained'
  )
  left.set(title='first layer as a train (Figure 1)', xlabel='weights of the first layer')
  right.set(title='both layers as trains', xlabel='all parameters')
  for i, cell in enumerate(_MARKERS):
    found = sorted((r for r in rows if r['cell'] == cell), key=lambda r: r['rank'])
    if found:
      _ours(left, [(r['first_layer_weights'], r) for r in found], cell, f'C{i}', _MARKERS[cell])
  for row in [r for r in rows if r['cell'] == 'dense']:
    _ours(left, [(row['first_layer_weights'], row)], 'dense', 'black', 'X')
  found = [(r['params'], r) for r in rows if r['cell'] == 'both']
  _ours(right, found, 'ours, ranks 8 and 6', 'C1', 's')
  _printed(left, [(paper.MNIST_DENSE_WEIGHTS, paper.MNIST_DENSE)], 'dense')
  points = [(paper.MNIST_BOTH_PARAMS[rank], paper.MNIST_BOTH[rank]) for rank in (8, 6)]
  _printed(right, points, 'ranks 8 and 6')
  _printed(right, [(paper.HASHED_NET_PARAMS, paper.HASHED_NET)], 'HashedNet', 'd')
  for axes in (left, right):
    axes.set(xscale='log', yscale='log')
    axes.set_yticks([0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1])
    axes.minorticks_off()
  right.set_xticks([7_000, 8_000, 10_000, 12_000], ['7,000', '8,000', '10,000', '12,000'])
  _finish(figure, path, left, right)


def _quick(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
  """Error against parameters of the whole network."""
  figure, axes = plots.pyplot().subplots(figsize=(7, 5), layout='constrained')
  axes.set(title='CIFAR-10, quick network', xlabel='all parameters')
  for row, marker, color in zip(rows, 'Xso', ('black', 'C0', 'C1')):
    cell = row['cell']
    _ours(axes, [(row['params'], row)], f'ours, {cell}', color, marker)
    _printed(axes, [(row['params'], paper.QUICK[cell])], cell, marker)
  _finish(figure, path, axes)


def _wide(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
  """Error against rank, and what a training step takes."""
  figure, (left, right) = plots.pyplot().subplots(1, 2, figsize=(12, 5), layout='constrained')
  left.set(title='CIFAR-10, wide network', xlabel='TT-rank of both layers')
  _printed(left, [(r, paper.error('wide', 'train', r)) for r in paper.WIDE],
           f'{paper.WIDE_STEPS:,} steps', line=True)  # fmt: skip
  value, tag = paper.WIDE_ERROR
  left.axhline(value, color='grey', ls=':', label=f'paper, rank unknown [{tag}]')
  trained = [r for r in rows if r['cell'] == 'train']
  if trained:
    label = f'ours, {trained[0]["hidden"]:,} hidden units, {trained[0]["steps"]:,} steps'
    _ours(left, [(r['rank'], r) for r in trained], label, 'C0', 'o')
  right.set(title='one training step, batch 100', xlabel='TT-rank of both layers')
  right.set_ylabel('seconds', color='C0')
  steps = sorted((r for r in rows if r['cell'] == 'step'), key=lambda r: r['rank'])
  if steps:
    ranks = [r['rank'] for r in steps]
    right.plot(ranks, [r['step_ms'] / 1e3 for r in steps], 'C0o-')
    memory = right.twinx()
    memory.set_ylabel('GiB of the process', color='C1')
    memory.plot(ranks, [r['memory']['process_bytes'] / 2**30 for r in steps], 'C1s--')
    for axes in (right, memory):
      axes.set_ylim(0)
  for axes in (left, right):
    axes.set_xticks(list(paper.WIDE))
  _finish(figure, path, left)


def _inference(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
  """Table 3: how many times as fast the train is."""
  figure, axes = plots.pyplot().subplots(figsize=(7, 5), layout='constrained')
  axes.set(title='25088 x 4096 at TT-rank 4', ylabel='time of dense / time of train', yscale='log')
  batches = [row['cell'] for row in rows]
  axes.plot(batches, [row['speedup'] for row in rows], 'C0o', label='ours')
  for device, marker in (('cpu', 's'), ('gpu', '^')):
    ratios = [Printed(row[f'speedup_paper_{device}'], 'unverified') for row in rows]
    _printed(axes, list(zip(batches, ratios)), device.upper(), marker)
  axes.axhline(1, color='grey', lw=0.8)
  axes.margins(x=0.4)
  axes.legend(fontsize=8)
  plots.save(figure, path)


def _ours(
  axes: object, points: Sequence[tuple[float, Mapping]], label: str, color: str, marker: str
) -> None:
  """Errors of rows, with bars of one standard deviation where they are means."""
  x, found = [x for x, _ in points], [row for _, row in points]
  spread = [row.get('error_std', 0.0) for row in found]
  axes.errorbar(
    x, [row['error'] for row in found], spread if any(spread) else None,
    label=label, color=color, marker=marker, capsize=2, lw=1.2, ms=6,
  )  # fmt: skip


def _printed(
  axes: object,
  points: Sequence[tuple[object, Printed]],
  label: str,
  marker: str = 's',
  line: bool = False,
) -> None:
  """Points of the paper: filled where they are sure, hollow where they are not."""
  tag = points[0][1].tag
  sure = tag != 'unverified'
  axes.plot(
    [x for x, _ in points], [p.value for _, p in points], marker, color='dimgrey', ms=10,
    mfc='dimgrey' if sure else 'none', ls='--' if line else 'none', label=f'paper, {label} [{tag}]',
  )  # fmt: skip


def _finish(figure: object, path: pathlib.Path, *panels: object) -> None:
  """Errors in percent, legends, and the file."""
  panels[0].set_ylabel('test error')
  for axes in panels:
    axes.yaxis.set_major_formatter(lambda value, _: f'{100 * value:.4g}%')
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
  plots.save(figure, path)


_FIGURES = {'inference': _inference, 'mnist': _mnist, 'quick': _quick, 'wide': _wide}
