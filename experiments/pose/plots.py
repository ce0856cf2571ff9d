"""Pictures: skeletons over the images, as predicted and as annotated; and curves of PCK."""

import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.common import plots
from experiments.pose.people import Layout


def skeletons(
  path: pathlib.Path,
  images: np.ndarray,
  layout: Layout,
  rows: Mapping[str, np.ndarray],
  drawn: Sequence[np.ndarray | None],
  title: str,
) -> None:
  """Crops with skeletons over them, a column a person and a row a kind of skeleton, such as the
  truth and what networks predict. Right limbs are red, left ones blue.

  Args:
    path: of the picture.
    images: crops in [0, 1] or uint8, (n, s, s, 3).
    layout: of the joints.
    rows: name of the row -> joints in pixels of the crops, (n, J, 2).
    drawn: for every row which joints it shows, bool (n, J), or None for all.
    title: over it all.
  """
  count = len(images)
  figure, panels = plots.pyplot().subplots(
    len(rows), count, squeeze=False, layout='constrained',
    figsize=(1.6 * count + 0.4, 1.6 * len(rows) + 0.5),
  )  # fmt: skip
  figure.suptitle(title, fontsize=9)
  for line, (name, joints), shown in zip(panels, rows.items(), drawn):
    shown = np.ones(joints.shape[:2], bool) if shown is None else shown
    line[0].set_ylabel(name, fontsize=8)
    for axes, image, places, seen in zip(line, images, joints, shown):
      _person(axes, image, layout, places, seen)
  plots.save(figure, path)


def person(path: pathlib.Path, image: np.ndarray, layout: Layout, joints: np.ndarray) -> None:
  """One image with a skeleton over it, as large as it is, but for 400 pixels at least.

  Args:
    path: of the picture.
    image: (h, w, 3), in [0, 1] or uint8.
    layout: of the joints.
    joints: in pixels of the image, (J, 2).
  """
  height, width = image.shape[:2]
  scale = max(1, -(-400 // max(height, width)))
  figure = plots.pyplot().figure(figsize=(width * scale / 120, height * scale / 120))
  axes = figure.add_axes((0, 0, 1, 1))
  _person(axes, image, layout, joints, np.ones(len(joints), bool))
  axes.axis('off')
  plots.save(figure, path)


def curves(
  path: pathlib.Path,
  thresholds: np.ndarray,
  lines: Mapping[str, np.ndarray],
  scale: str,
  mark: float,
  title: str,
) -> None:
  """PCK against its threshold.

  Args:
    path: of the picture.
    thresholds: (T,).
    lines: name -> fractions (T,); see `metrics.curve`.
    scale: what a threshold is a part of, such as 'torso'.
    mark: the threshold that is reported.
    title: over it.
  """
  figure, axes = plots.pyplot().subplots(figsize=(6, 4), layout='constrained')
  for name, fractions in lines.items():
    axes.plot(thresholds, fractions, label=name, lw=1.2)
  axes.axvline(mark, color='0.6', linewidth=1, linestyle='--')
  axes.set(xlabel=f'threshold / {scale}', ylabel='joints that are right', ylim=(0, 1))
  axes.set_title(title, fontsize=9)
  axes.yaxis.set_major_formatter('{x:.0%}')
  axes.grid(alpha=0.3)
  axes.legend(fontsize=8)
  plots.save(figure, path)


def _person(
  axes: object, image: np.ndarray, layout: Layout, places: np.ndarray, seen: np.ndarray
) -> None:
  height, width = image.shape[:2]
  axes.imshow(image, extent=(0, width, height, 0))  # the first pixel has its middle at 0.5
  for bone in layout.bones:
    if seen[list(bone)].all():
      axes.plot(*places[list(bone)].T, color=_colour(layout, bone), linewidth=1.5)
  axes.plot(*places[seen].T, 'o', color='white', markersize=1.5)
  axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])


def _colour(layout: Layout, bone: tuple[int, int]) -> str:
  sides = {layout.names[joint].partition(' ')[0] for joint in bone} & {'left', 'right'}
  return {'left': 'tab:blue', 'right': 'tab:red'}[sides.pop()] if len(sides) == 1 else 'gold'
