"""The path of accuracy on the way, and what is left of it at the end."""

import pathlib
from collections.abc import Mapping

from experiments.common import grid, plots

FILES = ('path.png', 'accuracy.png')


def draw(folder: pathlib.Path, report: Mapping) -> None:
  """Writes both figures."""
  title = f'{report["model"]} on {report["dataset"]}'
  _path(folder / FILES[0], report, title)
  _accuracy(folder / FILES[1], report, title)


def _path(path: pathlib.Path, report: Mapping, title: str) -> None:
  """Validation accuracy against parameters, step by step: compressed, then fine-tuned; seed by seed
  in one panel a study and value.
  """
  rows, dense = report['rows'], report['baseline']
  kinds = list(dict.fromkeys((row['study'], row['value']) for row in rows))
  figure, panels = plots.pyplot().subplots(
    1, max(1, len(kinds)), figsize=(5 * max(1, len(kinds)), 4), squeeze=False, layout='constrained'
  )
  for axes, kind in zip(panels[0], kinds):
    own = [row for row in rows if (row['study'], row['value']) == kind]
    for row in own:
      xs, ys = [dense['params']], [dense['accuracy_validation']]
      for point in row['path']:
        xs += [point['params'], point['params']]
        ys += [point['accuracy_compressed'], point['accuracy']]
      label = f'{row["passes"]} pass{"es" * (row["passes"] > 1)}' if row['passes'] else 'one shot'
      label = label if row['seed'] == own[0]['seed'] else None
      axes.plot(xs, ys, 'o-', color=f'C{row["passes"]}', ms=3, lw=1, label=label)
    axes.set(title=f'{title}\n{kind[0]} {kind[1]:g}', xlabel='parameters')
    axes.invert_xaxis()
    axes.xaxis.set_major_locator(plots.pyplot().MaxNLocator(6))
    axes.xaxis.set_major_formatter(lambda size, _: f'{size / 1000:,.0f}k')
    axes.legend(fontsize=8)
  panels[0, 0].set_ylabel('validation accuracy')
  plots.save(figure, path)


def _accuracy(path: pathlib.Path, report: Mapping, title: str) -> None:
  """Test accuracy at the end against the number of passes, 0 for one shot."""
  rows = grid.summarised(report['rows'], ('study', 'value', 'passes'))
  figure, axes = plots.pyplot().subplots(figsize=(6, 4), layout='constrained')
  for i, kind in enumerate(dict.fromkeys((row['study'], row['value']) for row in rows)):
    own = sorted(
      (r for r in rows if (r['study'], r['value']) == kind), key=lambda row: row['passes']
    )
    bars = [row.get('accuracy_std', 0.0) for row in own]
    size = own[0]['kernel_params_ratio']
    axes.errorbar(
      [row['passes'] for row in own],
      [row['accuracy'] for row in own],
      bars,
      marker='o',
      color=f'C{i}',
      capsize=2,
      label=f'{kind[0]} {kind[1]:g} ({size:.0%} of the kernels)',
    )
  axes.xaxis.set_major_locator(plots.pyplot().MultipleLocator(1))
  if report['baseline'] is not None:
    axes.axhline(report['baseline']['accuracy'], color='black', ls='--', lw=0.8, label='dense')
  axes.set(title=title, xlabel='passes over all groups (0: one shot)', ylabel='test accuracy')
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize=8)
  plots.save(figure, path)
