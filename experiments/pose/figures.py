"""The pictures of a run: skeletons, curves, and accuracy against compression beside the paper's."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common import grid
from experiments.common import plots as common
from experiments.common.pictures import NOTHING
from experiments.pose import metrics, paper, plots, report
from experiments.pose.augment import middle
from experiments.pose.crops import Crops
from experiments.pose.geometry import to_crop
from experiments.pose.seeded import THRESHOLDS

_SHOWN = 8  # people
_UNITS = {'pck': 'torso', 'pckh': 'head'}


def draw(folder: pathlib.Path, found: Mapping, data: Crops) -> None:
  """Writes all of them; of several seeds the curves and points are means, the skeletons the first.

  Args:
    folder: of the results.
    found: what report.json holds, of a dense network at least.
    data: the crops.
  """
  trained = [one for one in found['baselines'] if 'accuracy' in one]
  networks = {'dense': trained}
  for row in found['rows']:
    if row['study'] == 'methods':
      networks.setdefault(f'{row["method"]} {row["value"]:g}x', []).append(row)
  joints = {
    name: [np.load(folder / one['predictions']) for one in rows] for name, rows in networks.items()
  }
  dense = float(np.mean([one['accuracy'] for one in trained]))
  words = 'rendered stick figures' if found['note'] else f'{found["dataset"]} crops'
  _skeletons(folder / 'skeletons.png', joints, data, words)
  _curves(folder / 'pck.png', joints, found, data, words)
  for study, name in (('methods', 'accuracy_vs_compression.png'), ('modes', 'modes.png')):
    rows = [row for row in found['rows'] if row['study'] == study]
    theirs = paper.METHODS if study == 'methods' else paper.MODES
    title = f'{found["metric"].upper()}, {words}'
    _against_size(folder / name, rows, theirs, dense, title)


def _skeletons(
  path: pathlib.Path, joints: Mapping[str, Sequence[np.ndarray]], data: Crops, title: str
) -> None:
  canvases, person = next(iter(data.validation.batches(_SHOWN)))
  canvases, person = (a[person != NOTHING] for a in (canvases, person))
  people = data.validation.people.part(person)
  rows = {'truth': people.joints} | {name: own[0][: len(people)] for name, own in joints.items()}
  rows = {name: to_crop(people.boxes, own, data.size) for name, own in rows.items()}
  shown = [people.annotated] + [None] * len(joints)
  images = np.asarray(middle(canvases, data.size))
  plots.skeletons(path, images, people.layout, rows, shown, f'{title}, the first to validate with')


def _curves(
  path: pathlib.Path,
  joints: Mapping[str, Sequence[np.ndarray]],
  found: Mapping,
  data: Crops,
  title: str,
) -> None:
  people, name = report.measured(data, found), found['metric']
  scales, mark = THRESHOLDS[name]
  thresholds = np.linspace(0, 2.5 * mark, 51)
  pose = metrics.mean_pose(data.train.people, data.size)
  lines = {'mean pose': [metrics.posed(pose, people, data.size)], **joints}
  lines = {
    label: np.mean([metrics.curve(one, people, scales(people), thresholds) for one in own], 0)
    for label, own in lines.items()
  }
  plots.curves(path, thresholds, lines, _UNITS[name], mark, title)


def _against_size(
  path: pathlib.Path,
  rows: Sequence[Mapping],
  theirs: Mapping[str, Sequence[tuple[float, float]]],
  dense: float,
  title: str,
) -> None:
  """Ours at the left, the paper's at the right, both less the dense network's; means over seeds."""
  figure, panels = common.pyplot().subplots(1, 2, figsize=(10, 4), layout='constrained')
  means = grid.summarised(rows, ('study', 'method', 'value'))
  colours = {name: f'C{i}' for i, name in enumerate(dict.fromkeys([*theirs, 'scratch']))}
  for name in dict.fromkeys(row['method'] for row in means):
    own = sorted(
      (1 / r['params_ratio'], 100 * (r['accuracy'] - dense), 100 * r.get('accuracy_std', 0.0))
      for r in means
      if r['method'] == name
    )
    x, y, bars = zip(*own)
    style = {'color': colours[name], 'marker': 'o', 'capsize': 2, 'label': name}
    panels[0].errorbar(x, y, bars if any(bars) else None, **style)
  for name, points in theirs.items():
    x, y = zip(*points)
    panels[1].plot(
      x, [one - paper.DENSE for one in y], 'o--', color=colours[name], mfc='white', label=name
    )
  panels[0].set(title=f'ours: {title} (dense {dense:.1%})', ylabel='points, less the dense network')
  panels[1].set(title=f'the paper: PCKh, MPII (dense {paper.DENSE} %)')
  for axes in panels:
    axes.axhline(0, color='black', linestyle='--', linewidth=0.8)
    axes.set_xlabel('how many times smaller the network is')
    axes.set_xlim(1, None)
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
      axes.legend(fontsize=8)
  common.save(figure, path)
