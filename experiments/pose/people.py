"""Annotated people: where their joints are, in which image, and what kinds of joints there are."""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.common import results
from experiments.common.pictures import Files

_AROUND = 1.25  # side of a person's square over the extent of the joints
_LARGEST = 8192  # pixels; a square that is larger, or that far off, is of joints that are wrong


@dataclasses.dataclass(frozen=True)
class Layout:
  """The joints of a data set.

  Attributes:
    names: of the joints, in their order; those with a side begin with 'left ' or 'right '.
    bones: pairs of joints that a picture connects.
    unscored: joints that a mean over joints leaves out.
  """

  names: tuple[str, ...]
  bones: tuple[tuple[int, int], ...]
  unscored: tuple[str, ...] = ()

  @property
  def mirror(self) -> tuple[int, ...]:
    """For every joint of a mirrored person, the joint that it was.

    >>> LSP.mirror
    (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13)
    """
    sides = {'left': 'right', 'right': 'left'}
    words = [name.partition(' ') for name in self.names]
    return tuple(self.index(sides.get(side, side) + gap + rest) for side, gap, rest in words)

  @property
  def scored(self) -> np.ndarray:
    """Which joints a mean over joints takes in, bool (J,)."""
    return np.array([name not in self.unscored for name in self.names])

  def index(self, name: str) -> int:
    """Place of a joint."""
    return self.names.index(name)


_LEGS = ('right ankle', 'right knee', 'right hip', 'left hip', 'left knee', 'left ankle')
_ARMS = ('right wrist', 'right elbow', 'right shoulder',
         'left shoulder', 'left elbow', 'left wrist')  # fmt: skip
LSP = Layout(
  (*_LEGS, *_ARMS, 'neck', 'head top'),
  ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11),
   (12, 13), (2, 8), (3, 9)),
)  # fmt: skip
MPII = Layout(
  (*_LEGS, 'pelvis', 'thorax', 'neck', 'head top', *_ARMS),
  ((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (10, 11), (11, 12),
   (12, 7), (7, 13), (13, 14), (14, 15)),
  unscored=('pelvis', 'thorax'),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class People:
  """n people, one a row. Positions are in pixels of their images: x to the right, y down, 0 at the
  edge of the image, so that the middle of its first pixel is at 0.5.

  Attributes:
    layout: their J joints.
    joints: x and y, float32 (n, J, 2); 0 where there is no annotation.
    annotated: which joints have a place, bool (n, J). These are trained and measured.
    visible: which of them are not marked as occluded, bool (n, J).
    boxes: the square that a network is shown: x and y of its middle, and its side, float32 (n, 3).
    heads: size of the head as PCKh has it, 0.6 of its box's diagonal, float32 (n,); NaN where there
      is no such box. None: the data set has none.
    root: folder of the images.
    names: of the images, from there, bytes (n,).
    sizes: of these files in bytes, int64 (n,).
  """

  layout: Layout
  joints: np.ndarray
  annotated: np.ndarray
  visible: np.ndarray
  boxes: np.ndarray
  heads: np.ndarray | None
  root: str
  names: np.ndarray
  sizes: np.ndarray

  def __len__(self) -> int:
    """Number of people."""
    return len(self.joints)

  def part(self, index: np.ndarray) -> 'People':
    """Some of them, in that order."""
    arrays = ('joints', 'annotated', 'visible', 'boxes', 'heads', 'names', 'sizes')
    found = {name: getattr(self, name) for name in arrays}
    return dataclasses.replace(
      self, **{name: None if a is None else a[index] for name, a in found.items()}
    )

  def files(self) -> Files:
    """Their images, labelled by their places in this record."""
    return Files(self.root, self.names, np.arange(len(self), dtype='int32'), self.sizes)

  def fingerprint(self) -> str:
    """Digest of annotations, and of names and sizes of files; their content is not read."""
    heads = () if self.heads is None else (self.heads,)
    arrays = (self.joints, self.annotated, self.visible, self.boxes, self.names, self.sizes)
    return results.fingerprint(*arrays, *heads)


class Sets(NamedTuple):
  """What a reader finds.

  Attributes:
    train, validation: people to learn from, and others to measure with.
    left_out: how many could be neither, as their annotations tell no place and size: those without
      a joint, or with a single one where the joints have to tell, or with a square that no image
      holds.
  """

  train: People
  validation: People
  left_out: int


def around(joints: np.ndarray, annotated: np.ndarray) -> np.ndarray:
  """Squares about people, a quarter larger than the extent of their annotated joints.

  Where a data set says nothing else of where a person is, this is how crops are made, for
  training as well as for validation: the network is told place and size by the truth.

  Args:
    joints: (n, J, 2).
    annotated: bool (n, J).

  Returns:
    See `People.boxes`; the side is 0 with fewer than two joints.

  >>> around(np.array([[[2.0, 3.0], [4.0, 11.0], [99.0, 0.0]]]), np.array([[True, True, False]]))
  array([[ 3.,  7., 10.]], dtype=float32)
  """
  some = annotated.any(1)[:, None]
  low = np.where(annotated[..., None], joints, np.inf).min(1)
  high = np.where(annotated[..., None], joints, -np.inf).max(1)
  low, high = np.where(some, low, 0), np.where(some, high, 0)
  side = _AROUND * (high - low).max(1, keepdims=True)
  return np.concatenate([(low + high) / 2, side], 1).astype('float32')


def divided(people: People, validation: np.ndarray, source: object) -> Sets:
  """Those with an annotated joint and a box, by what is for validation, bool (n,).

  Raises:
    ValueError: one of both would be empty; `source` says of what.
  """
  inside = (np.abs(people.boxes) <= _LARGEST).all(1) & (people.boxes[:, 2] > 0)
  placed = people.annotated.any(1) & inside
  parts = [people.part(np.flatnonzero(placed & part)) for part in (~validation, validation)]
  if not all(map(len, parts)):
    raise ValueError(
      f'--data_dir: {source} has {len(parts[0])} people with joints to train with and '
      f'{len(parts[1])} to validate with; it needs both'
    )
  return Sets(*parts, int((~placed).sum()))


def sizes_of(root: str, names: Sequence[bytes]) -> np.ndarray:
  """Sizes of files in bytes, int64 (n,).

  Raises:
    FileNotFoundError: one is missing.
  """
  known, missing = {}, []
  for name in dict.fromkeys(names):
    try:
      known[name] = os.stat(os.path.join(os.fsencode(root), name)).st_size
    except FileNotFoundError:
      missing.append(os.fsdecode(name))
  if missing:
    more = f', and {len(missing) - 1:,} others of {len(known) + len(missing):,}'
    raise FileNotFoundError(
      f'--data_dir: {os.path.join(root, missing[0])} is missing{more if missing[1:] else ""}'
    )
  return np.array([known[name] for name in names], 'int64')
