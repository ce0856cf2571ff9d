"""Pictures of the study, all of our working definition."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common import plots
from experiments.shuffled.spectra import UNFOLDINGS
from experiments.shuffled.stability import MEASURES, means

_STYLES = {
  'td': {'color': 'C0', 'marker': 'o', 'label': 'TD'},
  'rstd': {'color': 'C3', 'marker': 's', 'label': 'RsTD'},
  'rstd_shared': {'color': 'C1', 'marker': '^', 'label': 'RsTD, one permutation'},
}
_OURS = 'our working definition of RsTD, not the paper’s figures'
_WORDS = {'scratch': 'from scratch', 'decompose': 'decomposed, fine-tuned'}


def accuracy(path: pathlib.Path, rows: Sequence[Mapping], dataset: str) -> None:
  """Accuracy against the realised ratio, a column a format and a row a mode; TD against RsTD.

  Bars are one standard deviation over seeds; the dashed line is the dense network.
  """
  found = means([r for r in rows if r['dataset'] == dataset], 'mode', 'format', 'entries', 'ratio')
  modes = list(dict.fromkeys(key[0] for key in found))
  formats = [name for name in dict.fromkeys(key[1] for key in found) if name != 'dense']
  if not formats:
    return
  figure, panels = _panels(len(modes), len(formats), f'{dataset}: {_OURS}')
  for line, mode in zip(panels, modes):
    for axes, format in zip(line, formats):
      _curves(axes, {key[2:]: one for key, one in found.items() if key[:2] == (mode, format)})
      dense = found.get((mode, 'dense', 'td', 1.0))
      if dense is not None:
        axes.axhline(dense['accuracy'], color='black', linestyle='--', linewidth=1, label='dense')
      axes.set_title(f'{format}, {_WORDS[mode]}', fontsize=9)
    line[0].set_ylabel('test accuracy')
  for axes in panels[-1]:
    axes.set_xlabel('true ratio of the kernels')
  labelled = {
    label: handle
    for axes in panels.flat
    for handle, label in zip(*axes.get_legend_handles_labels())
  }
  figure.legend(labelled.values(), labelled, loc='outside lower center', ncols=4)
  plots.save(figure, path)


def steadiness(path: pathlib.Path, measured: Sequence[Mapping]) -> None:
  """Both measures of stability, TD beside RsTD; smaller is steadier."""
  names = list(dict.fromkeys((one['dataset'], one['mode'], one['format']) for one in measured))
  if not names:
    return
  figure, panels = _panels(1, 2, f'smaller is steadier; {_OURS}', sharey=False)
  for axes, (measure, words) in zip(panels[0], MEASURES.items()):
    for shift, side in ((-0.2, 'td'), (0.2, 'rstd')):
      values = {
        (one['dataset'], one['mode'], one['format']): one[measure]
        for one in measured
        if one['entries'] == side
      }
      heights = [values.get(name, 0.0) for name in names]
      style = {key: _STYLES[side][key] for key in ('color', 'label')}
      axes.bar(np.arange(len(names)) + shift, heights, 0.38, **style)
    axes.set_xticks(np.arange(len(names)), [' '.join(n) for n in names], rotation=45, ha='right')
    axes.tick_params(axis='x', labelsize=7)
    axes.set_title(words, fontsize=8)
    _percent(axes)
  panels[0, 0].legend(fontsize=7)
  plots.save(figure, path)


def similarity(path: pathlib.Path, report: Mapping) -> None:
  """What permuted pixels do: to accuracies, to TD less RsTD, and to the spectra of kernels."""
  data = report['dataset']
  ours = [one for one in report['networks'] if one['dataset'] == data]
  blocks = sorted({one['block'] for one in ours} - {0})
  if not blocks:
    return
  found = [one for one in report['gaps'] if one['dataset'] == data and one['block']]
  figure, panels = _panels(1, 2 + len(UNFOLDINGS), f'{data}: {_OURS}', sharey=False)
  for mode, line in zip(_WORDS, ('-', ':')):
    points = [one for one in found if one['mode'] == mode]
    x = [one['block'] for one in points]
    for side in ('td', 'rstd'):
      style = _STYLES[side] | {'label': f'{_STYLES[side]["label"]}, {_WORDS[mode]}'}
      panels[0, 0].plot(x, [one[side] for one in points], linestyle=line, **style)
    gap, spread = ([one[name] for one in points] for name in ('gap', 'gap_std'))
    style = {'color': 'black', 'marker': 'o', 'linestyle': line, 'capsize': 2}
    panels[0, 1].errorbar(x, gap, spread, label=_WORDS[mode], **style)
  panels[0, 1].axhline(0, color='0.6', linewidth=1)
  for axes, title in zip(panels[0], ('test accuracy', 'TD less RsTD, in accuracy')):
    axes.set(xscale='log', xlabel='pixels permuted in blocks of side')
    axes.minorticks_off()
    axes.set_xticks(blocks, [f'{block}' for block in blocks])
    axes.set_title(title, fontsize=9)
    axes.legend(fontsize=6)
    _percent(axes)
  for axes, unfolding in zip(panels[0, 2:], UNFOLDINGS):
    _spectrum(axes, ours, blocks, unfolding)
  plots.save(figure, path)


def _curves(axes: object, found: Mapping[tuple[str, float], Mapping]) -> None:
  for side, style in _STYLES.items():
    points = [one for (entries, _), one in found.items() if entries == side]
    points.sort(key=lambda one: one['realised_ratio'])
    x, y, spread = ([p[name] for p in points] for name in ('realised_ratio', 'accuracy', 'std'))
    if points:
      axes.errorbar(x, y, spread, capsize=2, markersize=4, linewidth=1.2, **style)
  ticks = [2, 5, 10, 20, 50, 100]
  axes.set_xscale('log')
  axes.minorticks_off()
  axes.set_xticks(ticks, [f'{tick}x' for tick in ticks])
  _percent(axes)


def _spectrum(axes: object, networks: Sequence[Mapping], blocks: Sequence, unfolding: str) -> None:
  """Mean singular values of the natural and the most permuted images' kernels, of one shape."""
  shape = networks[0]['spectra'][-1]['shape']
  for block, color in ((blocks[0], 'C0'), (blocks[-1], 'C2'))[: len(blocks)]:
    for shuffled, line in ((False, '-'), (True, ':')):
      values = [
        one['values']
        for found in networks
        if found['block'] == block
        for one in found['spectra']
        if (one['shape'], one['unfolding'], one['shuffled']) == (shape, unfolding, shuffled)
      ]
      y = np.mean(values, axis=0)
      words = f'blocks of {block}, {"shuffled" if shuffled else "in place"}'
      axes.plot(np.arange(1, len(y) + 1), y, color=color, linestyle=line, marker='.', label=words)
  axes.set_title(f'{unfolding} of {"x".join(map(str, shape))} kernels', fontsize=8)
  axes.set(xlabel='singular value', ylim=(0, None))
  axes.legend(fontsize=6, title='pixels, kernel entries', title_fontsize=6)
  axes.grid(alpha=0.3)


def _panels(rows: int, columns: int, title: str, sharey: bool = True) -> tuple:
  size = max(6.0, 3.2 * columns + 0.6), 3.0 * rows + 0.5
  figure, panels = plots.pyplot().subplots(
    rows, columns, figsize=size, sharey=sharey, squeeze=False,
    layout='constrained',
  )  # fmt: skip
  figure.suptitle(title, fontsize=9)
  return figure, panels


def _percent(axes: object) -> None:
  axes.yaxis.set_major_formatter('{x:.0%}')
  axes.grid(alpha=0.3)
