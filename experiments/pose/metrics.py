"""Joints of heatmaps, and how many of them are right: PCK and PCKh."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import Array

from experiments.pose.geometry import to_crop, to_image
from experiments.pose.people import People


def decode(heatmaps: Array, size: int) -> Array:
  """The place of each map's largest entry, moved by a quarter of a pixel in x, and in y, towards
  the larger of its two neighbours; not at the border, where there is one.

  Args:
    heatmaps: (n, r, r, J).
    size: of the crops.

  Returns:
    Joints in pixels of the crops, (n, J, 2).

  >>> maps = jnp.zeros((1, 4, 4, 1)).at[0, 2, 1, 0].set(1.0).at[0, 2, 2, 0].set(0.5)
  >>> decode(maps, 16)  # pixel (1, 2) has its middle at (1.5, 2.5); x moves to 1.75
  Array([[[ 7., 10.]]], dtype=float32)
  """
  n, r, _, count = heatmaps.shape
  flat = heatmaps.reshape(n, r * r, count)
  best = flat.argmax(1)[:, None]
  places = []
  for stride, place in ((1, best % r), (r, best // r)):
    near = (jnp.clip(best + step, 0, r * r - 1) for step in (-stride, stride))
    before, after = (jnp.take_along_axis(flat, index, 1) for index in near)
    shift = jnp.where((place > 0) & (place < r - 1), 0.25 * jnp.sign(after - before), 0)
    places.append(place + 0.5 + shift)
  return jnp.stack(places, -1)[:, 0] * (size / r)


def torsos(people: People) -> np.ndarray:
  """Distances from left shoulder to right hip, (n,); NaN where one of the two has no place."""
  i, j = people.layout.index('left shoulder'), people.layout.index('right hip')
  distance = np.hypot(*(people.joints[:, i] - people.joints[:, j]).T)
  return np.where(people.annotated[:, i] & people.annotated[:, j], distance, np.nan)


def heads(people: People) -> np.ndarray:
  """Sizes of heads, (n,), NaN where there is no box of a head."""
  return np.full(len(people), np.nan) if people.heads is None else people.heads


@dataclasses.dataclass(frozen=True)
class Score:
  """Fractions of joints that are right.

  Attributes:
    joints: of each kind of joint, (J,); NaN where none was to be found.
    mean: of those that the data set's mean takes in.
    counted: people of whom a joint counts.
    left_out: people whose joints do not count, because nothing tells how large the person is.
  """

  joints: np.ndarray
  mean: float
  counted: int
  left_out: int


def marks(
  predicted: np.ndarray,
  people: People,
  scales: np.ndarray,
  threshold: float,
  visible: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Which joints are right, and which count, bool (n, J); the arguments are those of `pck`."""
  if predicted.shape != people.joints.shape:
    raise ValueError(f'predicted has shape {predicted.shape}; it needs {people.joints.shape}')
  counted = (people.visible if visible else people.annotated) & (scales > 0)[:, None]  # not NaN
  return counted & (_errors(predicted, people, scales) < threshold), counted


def pck(
  predicted: np.ndarray,
  people: People,
  scales: np.ndarray,
  threshold: float,
  visible: bool = False,
) -> Score:
  """Percentage of correct keypoints, as fractions: a joint is right if it is off by less than
  `threshold` times its person's scale.

  PCK@0.2 is `pck(predicted, people, torsos(people), 0.2)`, and PCKh@0.5
  `pck(predicted, people, heads(people), 0.5)`. Joints outside the crop count too, though a network
  cannot find them.

  Args:
    predicted: in pixels of the images, (n, J, 2).
    people: the truth.
    scales: (n,); whoever has none above zero is left out.
    threshold: in scales.
    visible: only joints that are not occluded count, not all that are annotated.

  >>> from experiments.pose.people import LSP
  >>> joints = np.zeros((1, 14, 2), 'float32')
  >>> joints[0, 9, 0] = 10  # the left shoulder, 10 pixels from the right hip
  >>> all_of_them = np.ones((1, 14), bool)
  >>> one = People(LSP, joints, all_of_them, all_of_them, np.array([[0, 0, 9.0]]), None, '',
  ...              np.array([b'']), np.array([0]))
  >>> off = joints.copy()
  >>> off[0, :7, 1] = 1.9  # seven joints are nearer than 0.2 torsos,
  >>> off[0, 7:, 1] = 2.1  # seven are not
  >>> pck(off, one, torsos(one), 0.2).mean
  0.5
  """
  right, counted = marks(predicted, people, scales, threshold, visible)
  with np.errstate(invalid='ignore'):
    joints = right.sum(0) / counted.sum(0)
  found = joints[people.layout.scored & ~np.isnan(joints)]
  mean = float(found.mean()) if found.size else float('nan')
  return Score(joints, mean, int(counted.any(1).sum()), int((~(scales > 0)).sum()))


def curve(
  predicted: np.ndarray, people: People, scales: np.ndarray, thresholds: np.ndarray
) -> np.ndarray:
  """Means of `pck` at several thresholds, (T,)."""
  return np.array([pck(predicted, people, scales, t).mean for t in thresholds])


def mean_pose(people: People, size: int) -> np.ndarray:
  """The mean place of every joint in the crops of `people`, (J, 2): the baseline that looks at no
  image. A joint that nobody has is put in the middle.
  """
  places, counted = to_crop(people.boxes, people.joints, size), people.annotated[..., None]
  count = counted.sum(0)
  total = np.where(counted, places, 0).sum(0)
  return np.where(count, total / np.maximum(count, 1), size / 2).astype('float32')


def posed(pose: np.ndarray, people: People, size: int) -> np.ndarray:
  """One pose (J, 2) in everybody's crop, in pixels of the images, (n, J, 2)."""
  return to_image(people.boxes, np.broadcast_to(pose, people.joints.shape), size)


def _errors(predicted: np.ndarray, people: People, scales: np.ndarray) -> np.ndarray:
  """In scales, (n, J); infinite for who has none."""
  distance = np.hypot(*np.moveaxis(predicted - people.joints, -1, 0))
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.where((scales > 0)[:, None], distance / scales[:, None], np.inf)
