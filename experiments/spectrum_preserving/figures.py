"""Figures laid out as the paper's table, its own points beside ours, hollow where unverified."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments.common import grid, plots
from experiments.spectrum_preserving import paper
from experiments.spectrum_preserving.config import PLAIN, RESHAPED
from experiments.spectrum_preserving.table import NAMES, spread

FILES = ('accuracy_vs_size.png', 'convergence.png', 'equal_size.png')
_NAMES = PLAIN + RESHAPED
_COLORS = {scheme: f'C{i}' for i, scheme in enumerate(_NAMES)}
_STYLES = {'e2e': ('C0', 'o'), 'seq': ('C1', 's'), 'seq_e2e': ('C2', '^')}
_RATE = 0.1  # nominal, of the curves


def draw(folder: pathlib.Path, report: Mapping) -> None:
  """Writes all `FILES` of a report with accuracies."""
  rows = grid.summarised(report['rows'], ('scheme', 'rate', 'method'))
  title = f'{report["model"]} on {report["dataset"]}'
  _accuracies(folder / FILES[0], rows, report, title)
  _convergence(folder / FILES[1], report['rows'], title)
  _equal_size(folder / FILES[2], report['question'], title)


def counted(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
  """True size and multiply-adds against the nominal rate, of either network."""
  networks = list(dict.fromkeys(row['network'] for row in rows))
  figure, panels = plots.pyplot().subplots(
    2, max(1, len(networks)), figsize=(11, 9), squeeze=False, layout='constrained'
  )
  for column, network in zip(panels.T, networks):
    for scheme in dict.fromkeys(row['scheme'] for row in rows):
      own = [r for r in rows if (r['network'], r['scheme']) == (network, scheme)]
      rates, color = [r['rate'] for r in own], _COLORS[scheme]
      column[0].plot(rates, [r['params_ratio'] for r in own], 'o-', color=color, label=scheme)
      column[1].plot(rates, [r['macs_ratio'] for r in own], 'o-', color=color, label=scheme)
      theirs = [r['released_ratio'] for r in own]
      if None not in theirs:
        column[0].plot(rates, theirs, 'o:', color=color, mfc='none', label=f'{scheme}, released')
    column[0].set(title=network, ylabel='true size / original')
    column[1].set(xlabel='nominal rate', ylabel='multiply-adds / original')
    for axes in column:
      axes.set(xscale='log', yscale='log')
      _percents(axes, 'both')
      axes.plot(rates, rates, color='black', lw=0.8, ls='--')
      axes.legend(fontsize=7)
  plots.save(figure, path)


def _accuracies(path: pathlib.Path, rows: Sequence[Mapping], report: Mapping, title: str) -> None:
  """A column a method: the paper's table above, against the nominal rate; ours, against the true
  size of the kernels. Of MNIST the paper's figures are not known.
  """
  kinds = 1 if report['dataset'] == 'mnist' else 2
  figure, panels = plots.pyplot().subplots(
    kinds, len(NAMES), figsize=(14, 4.5 * kinds), sharex=True, sharey='row', squeeze=False,
    layout='constrained',
  )  # fmt: skip
  for method, column in zip(NAMES, panels.T):
    if kinds == 2:
      _printed(column[0], method)
    _ours(column[-1], [row for row in rows if row['method'] == method], method, title)
    if report['baseline'] is not None:
      column[-1].axhline(report['baseline']['accuracy'], color='black', ls='--', lw=0.8)
    for axes in column:
      axes.set_xscale('log')
      _percents(axes, 'both')
      axes.tick_params(labelbottom=True)
      if not _legend(axes, fontsize=8, loc='lower right'):
        axes.text(0.5, 0.5, 'no figures', ha='center', transform=axes.transAxes, color='grey')
  for axes in panels[:, 0]:
    axes.set_ylabel('test accuracy')
  plots.save(figure, path)


def _printed(axes: object, method: str) -> None:
  """The paper's accuracies, all of them unverified."""
  axes.set_title(f'{NAMES[method]}: the paper, ResNet-32 on CIFAR-10\nhollow: [unverified]', size=9)
  axes.set_xlabel('nominal rate')
  for (scheme, kind), points in paper.ACCURACY.items():
    if kind == method:
      axes.plot(*zip(*points.items()), 'o--', color=_COLORS[scheme], mfc='none', label=scheme)
  axes.axhline(paper.BASELINE, color='grey', ls='--', lw=0.8)


def _ours(axes: object, rows: Sequence[Mapping], method: str, title: str) -> None:
  """Accuracies of a method, with one deviation to either side."""
  axes.set_title(f'{NAMES[method]}: ours, {title}', size=9)
  axes.set_xlabel('true size of the compressed kernels')
  for scheme in dict.fromkeys(row['scheme'] for row in rows):
    own = [row for row in rows if row['scheme'] == scheme]
    own.sort(key=lambda row: row['kernel_params_ratio'])
    axes.errorbar(
      [row['kernel_params_ratio'] for row in own], [row['accuracy'] for row in own],
      [row.get('accuracy_std', 0.0) for row in own], color=_COLORS[scheme], marker='o',
      capsize=2, lw=1.2, ms=5, label=scheme,
    )  # fmt: skip


def _convergence(path: pathlib.Path, rows: Sequence[Mapping], title: str) -> None:
  """A column a scheme, at the rate nearest 10 %: accuracy against updates, and against cost."""
  schemes = list(dict.fromkeys(row['scheme'] for row in rows)) or ['none']
  figure, panels = plots.pyplot().subplots(
    2, len(schemes), figsize=(2.6 * len(schemes) + 1, 6.5), sharex='row', sharey=True,
    squeeze=False, layout='constrained',
  )  # fmt: skip
  rate = min({row['rate'] for row in rows}, key=lambda r: abs(r - _RATE), default=_RATE)
  figure.suptitle(f'{title}, at a nominal {rate:.0%}; start: decomposed', fontsize=10)
  for column, scheme in zip(panels.T, schemes):
    column[0].set(title=scheme, xlabel='updates')
    column[1].set(xlabel='updates x trained\nparameters, millions')
    for method in NAMES:
      setting = {'scheme': scheme, 'method': method, 'rate': rate}
      own = [row for row in rows if setting.items() <= row.items()]
      for axes, name, unit in zip(column, ('updates', 'cost'), (1, 1e6)):
        _curve(axes, own, name, unit, method)
    for axes in column:
      _percents(axes, 'y')
  for axes in panels[:, 0]:
    axes.set_ylabel('test accuracy')
  _legend(panels[0, 0], fontsize=7)
  plots.save(figure, path)


def _curve(axes: object, rows: Sequence[Mapping], name: str, unit: float, method: str) -> None:
  """Means over seeds, and one deviation to either side."""
  if not rows:
    return
  points = [
    grid.summarised([p | {'seed': seed} for seed, p in enumerate(column)], ('updates',))[0]
    for column in zip(*(row['curve'] for row in rows))
  ]
  start = sum(row['accuracy_decomposed'] for row in rows) / len(rows)
  x, y = [0, *(p[name] / unit for p in points)], [start, *(p['accuracy'] for p in points)]
  spread = [0.0, *(p.get('accuracy_std', 0.0) for p in points)]
  color, marker = _STYLES[method]
  axes.plot(x, y, color=color, marker=marker, ms=3, lw=1.2, label=NAMES[method])
  low, high = zip(*((a - s, a + s) for a, s in zip(y, spread)))
  axes.fill_between(x, low, high, color=color, alpha=0.2, lw=0)


def _equal_size(path: pathlib.Path, question: Mapping, title: str) -> None:
  """A panel a true size: every scheme's accuracy, the groups' means, and what reshaping gains."""
  sizes = list(dict.fromkeys(entry['size'] for entry in question['at_equal_size'])) or [_RATE]
  figure, panels = plots.pyplot().subplots(
    1, len(sizes), figsize=(5 * len(sizes), 5), sharey=True, squeeze=False, layout='constrained'
  )
  figure.suptitle(f'{title}: accuracy at equal true size', fontsize=10)
  for axes, size in zip(panels[0], sizes):
    words = [f'{size:.0%} of the kernels']
    for i, entry in enumerate(e for e in question['at_equal_size'] if e['size'] == size):
      label = NAMES[entry['method']]
      _compared(axes, entry, label, 0.2 * i - 0.2)
      words.append(f'{label}: reshaped - plain {spread(entry["gain"])}')
    axes.set_title('\n'.join(words), fontsize=9)
    axes.set_xticks(range(len(_NAMES)), _NAMES)
    axes.set_xlim(-0.5, len(_NAMES) - 0.5)
    axes.axvline(len(PLAIN) - 0.5, color='grey', lw=0.8, ls=':')
    _percents(axes, 'y')
  panels[0, 0].set_ylabel('test accuracy')
  for axes in panels[0]:
    _legend(axes, fontsize=8, loc='lower left')
  plots.save(figure, path)


def _compared(axes: object, entry: Mapping, label: str, shift: float) -> None:
  """One method at one size: a point a scheme, and a line at the mean of either group."""
  color, marker = _STYLES[entry['method']]
  found = [(i + shift, entry['schemes'].get(scheme)) for i, scheme in enumerate(_NAMES)]
  found = [(x, f['mean'], f['std']) for x, f in found if f is not None]
  if found:
    axes.errorbar(*zip(*found), color=color, marker=marker, ls='none', capsize=2, label=label)
  middle, end = len(PLAIN) - 0.5, len(_NAMES) - 0.5
  for group, span in (('plain', (-0.5, middle)), ('reshaped', (middle, end))):
    if entry[group] is not None:
      axes.hlines(entry[group]['mean'], *span, color=color, lw=1)


def _legend(axes: object, **options: object) -> bool:
  """Names what is drawn, and says whether anything is."""
  drawn = bool(axes.get_legend_handles_labels()[0])
  if drawn:
    axes.legend(**options)
  return drawn


def _percents(axes: object, which: str) -> None:
  """Percent on one axis or both, and a grid."""
  from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

  axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
  if which == 'both':
    axes.xaxis.set_major_locator(FixedLocator((0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 1.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f'{100 * value:g}%')
  axes.grid(alpha=0.3)
