"""The pictures of a run: skeletons, curves, and accuracy against compression beside the paper's."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common import grid
from experiments.common import plots as common
from experiments.common.pictures import NOTHING
from experiments.pose import metrics, paper, plots, report
from experiments.pose.augment import middle
from experiments.pose.config import CONTROL, KEYS
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
  joints = {
    label: [np.load(folder / one['predictions']) for one in rows]
    for label, rows in _networks(found).items()
  }
  words = 'rendered stick figures' if found['dataset'] == 'figures' else f'{found["dataset"]} crops'
  _skeletons(folder / 'skeletons.png', joints, data, words)
  _curves(folder / 'pck.png', joints, found, data, words)
  title = f'{found["metric"].upper()}, {words}'
  for study, theirs, name in (
    ('methods', paper.METHODS, 'accuracy_vs_compression.png'),
    ('modes', paper.MODES, 'modes.png'),
  ):
    own = [r for r in found['comparisons'] if (r['study'], r['against']) == (study, CONTROL)]
    _against_size(folder / name, own, theirs, title)


def _networks(found: Mapping) -> dict[str, Sequence[Mapping]]:
  """Those of the methods; the dense ones if there are none."""
  networks = {}
  for (study, *_), rows in report.grouped(found['rows']).items():
    if study == 'methods':
      rows = [*rows.values()]
      (mean,) = grid.summarised(rows, KEYS)
      networks[f'{report.name(mean)} {1 / mean["params_ratio"]:.2f}x'] = rows
  return networks or {'dense': [one for one in found['baselines'] if 'accuracy' in one]}


def _skeletons(
  path: pathlib.Path, joints: Mapping[str, Sequence[np.ndarray]], data: Crops, title: str
) -> None:
  batches = data.validation.batches(_SHOWN)
  canvases, person = next(batch for batch in batches if (batch[1] != NOTHING).any())
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
  own: Sequence[Mapping],
  theirs: Mapping[str, Sequence[tuple[float, float]]],
  title: str,
) -> None:
  """Ours at the left, the paper's at the right, both less the dense network's; bars hold 95 % of
  what other images would give. Ours, of equal size, are drawn apart, by half a percent each.
  """
  figure, panels = common.pyplot().subplots(1, 2, figsize=(10, 4), layout='constrained')
  colours = {name: f'C{i}' for i, name in enumerate(dict.fromkeys([*theirs, 'scratch']))}
  for i, name in enumerate(dict.fromkeys(r['method'] for r in own)):
    points = sorted(
      (r['ratio'], *(100 * r[part] for part in ('difference', 'low', 'high')))
      for r in own
      if r['method'] == name
    )
    x, y, low, high = np.transpose(points)
    bars = np.maximum(0, [y - low, high - y])
    style = {'color': colours[name], 'marker': 'o', 'capsize': 2, 'label': name}
    panels[0].errorbar(x * 1.005**i, y, bars, **style)
  for name, points in theirs.items():
    x, y = zip(*points)
    panels[1].plot(
      x, [one - paper.DENSE for one in y], 'o--', color=colours[name], mfc='white', label=name
    )
  panels[0].set(title=f'ours: {title}', ylabel='points, less the dense network trained as long')
  panels[1].set(title=f'the paper: PCKh, MPII (dense {paper.DENSE} %)')
  for axes in panels:
    axes.axhline(0, color='black', linestyle='--', linewidth=0.8)
    axes.plot(1, 0, 'k*', label=CONTROL)
    axes.set_xlabel('how many times smaller the network is')
    axes.title.set_fontsize(9)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
  common.save(figure, path)
