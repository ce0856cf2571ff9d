"""Squares cut out about people, with the room around them that augmentation needs.

Images are decoded and cut by worker processes (Grain); a set that fits is then kept in memory.
Augmentation is on the device for both: even where that is one core of a CPU, it takes about half
the time of Pillow's warp (0.12 against 0.24 ms a crop of 64 pixels, 1.9 against 3.0 ms of 256).
"""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from jax import Array
from PIL import Image

from experiments.common import classification, data, data_folder, pictures, results
from experiments.common.pictures import NOTHING, Picture
from experiments.common.progress import Progress
from experiments.common.stream import Stream, Streams, grain
from experiments.pose.augment import Augmentation, augment, heatmaps
from experiments.pose.geometry import room, to_crop, to_image, windows
from experiments.pose.people import People, Sets

_KEPT = 2**30  # bytes of canvases that are kept in memory, on every device
_AT_ONCE = 100  # images


@dataclasses.dataclass(frozen=True)
class Kept(data.Split):
  """People in memory: canvases uint8 (m, c, c, 3), and whose they are in `people`, int32 (m,)."""

  people: People


class Read(data_folder.Split):
  """People in files; batches are as those of `Kept`."""

  def __init__(self, streams: Streams, people: People):
    cutter = functools.partial(cut, windows=windows(people.boxes), side=streams.size)
    super().__init__(streams, people.files(), cutter)
    self.people = people

  def shuffled(self, size: int, seed: int) -> Stream:
    """Batches by number, in a fresh order every epoch, the remainder left out."""
    found = grain().MapDataset.source(self.files).seed(seed).shuffle().map(self._read)
    return self._folder.stream(found, size, drop_remainder=True)


@dataclasses.dataclass(frozen=True)
class Crops:
  """People to learn from and to measure with, as networks are shown them.

  Attributes:
    train, validation: the two parts.
    size: rows and columns of a crop; canvases are a quarter larger.
    streams: of the files; see its `skipped`. None: there are none.
    left_out: people who are in neither part; see `people.Sets`.
  """

  train: Kept | Read
  validation: Kept | Read
  size: int
  streams: Streams | None = None
  left_out: int = 0

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of one crop."""
    return self.size, self.size, 3

  def fingerprint(self) -> str:
    """Digest of who there is; of pixels, those of people who are in no file."""
    parts = [part.people.fingerprint() for part in (self.train, self.validation)]
    drawn = () if self.streams is not None else (self.train.images, self.validation.images)
    return results.fingerprint(np.array(parts), *drawn)

  def close(self) -> None:
    """Ends the workers."""
    if self.streams is not None:
      self.streams.close()


def load(
  sets: Sets, size: int, workers: int, tell: Callable[[str], None], progress: Progress
) -> Crops:
  """Crops of people in files, kept in memory up to a GiB of them.

  Args:
    sets: see the readers.
    size: rows and columns of a crop, a multiple of 8.
    workers: processes that decode; 0 for this one alone.
    tell: is given a line for every file that is skipped.
    progress: shows how far decoding is.

  Raises:
    OSError: no file of a part holds an image.
    ValueError: the size is no multiple of 8; or Grain is missing.
  """
  streams = Streams(sets.train.root, room(size), workers, tell)
  grain()  # or its error
  train, validation = (Read(streams, people) for people in (sets.train, sets.validation))
  if (len(train) + len(validation)) * 3 * room(size) ** 2 <= _KEPT:
    try:
      train, validation = (_kept(part, room(size), progress) for part in (train, validation))
    finally:
      streams.close()
  return Crops(train, validation, size, streams, sets.left_out)


class Batches:
  """Crops for training, augmented on the device; see `train.Batches`.

  Args:
    crops: its training part is used.
    batch_size: people per update, all of them if there are fewer.
    seed: of their order, fresh every epoch, the remainder left out.
    resolution: of the heatmaps.
    sigma: of the heatmaps, in their pixels.
    augmentation: how far it goes.
  """

  def __init__(
    self,
    crops: Crops,
    batch_size: int,
    seed: int,
    resolution: int,
    sigma: float = 1.0,
    augmentation: Augmentation = Augmentation(),
  ):
    part, people = crops.train, crops.train.people
    self.size = min(batch_size, len(part))
    self.constants = to_crop(people.boxes, people.joints, crops.size), people.annotated
    if isinstance(part, Kept):
      self._source = classification.Batches(crops, batch_size, seed)
      self.constants += self._source.constants
    else:
      self._source = part.shuffled(self.size, seed)
    self._count = len(part)
    self._mirror = people.layout.mirror
    self._crop, self._resolution, self._sigma = crops.size, resolution, sigma
    self._augmentation = augmentation

  def __call__(self, step: int) -> object:
    """Of a step: indices, or canvases and whose they are; a function of seed and step alone."""
    return self._source(step)

  def steps(self, epochs: int) -> int:
    """Number of updates in so many epochs."""
    return epochs * (self._count // self.size)

  def prepare(
    self, constants: tuple[Array, ...], batch: object, key: Array
  ) -> tuple[Array, Array, Array]:
    """Images in [0, 1] (b, s, s, 3), heatmaps (b, r, r, J), and which of the maps count, bool
    (b, J): of joints that are annotated and in the crop, in files that hold an image.
    """
    joints, annotated, *kept = constants
    canvases, person = (array[batch] for array in kept) if kept else batch
    counted = annotated[person] & (person != NOTHING)[:, None]
    crops, places, counted = augment(
      canvases, joints[person], counted, key, self._crop, self._mirror, self._augmentation
    )
    return crops, heatmaps(places, self._crop, self._resolution, self._sigma), counted


def predictions(
  predict: Callable[[np.ndarray], Array],
  part: Kept | Read,
  size: int,
  batch_size: int,
  progress: Progress,
) -> tuple[People, np.ndarray]:
  """The people whose images could be read, and their joints as predicted, in pixels of the image.

  Args:
    predict: canvases uint8 (b, c, c, 3) -> joints in pixels of the crop (b, J, 2); see
      `augment.middle` and `metrics.decode`.
    part: of `Crops`.
    size: of a crop.
    batch_size: canvases at once.
    progress: shows how far it is.

  Raises:
    OSError: no file holds an image.
  """
  whose, found = [], []
  with progress.task('evaluate', len(part)) as advance:
    for canvases, person in part.batches(batch_size):
      real = person != NOTHING
      whose.append(person[real])
      found.append(np.asarray(predict(canvases))[real])
      advance(int(real.sum()))
  people = part.people.part(np.concatenate(whose))
  if not len(people):
    raise OSError(f'none of {len(part)} files holds an image')
  return people, to_image(people.boxes, np.concatenate(found), size)


def cut(file: tuple[str, int], windows: np.ndarray, side: int) -> Picture:
  """A person's canvas, `side` pixels high and wide, black where it leaves the image."""

  return pictures.read(file, lambda image: canvas(image, windows[file[1]], side))


def canvas(image: Image.Image, window: np.ndarray, side: int) -> Image.Image:
  """What a window shows of an image, `side` pixels high and wide, black outside of it."""
  found = image.crop(tuple(window.tolist()))
  return found.resize((side, side), Image.Resampling.BILINEAR)


def _kept(part: Read, side: int, progress: Progress) -> Kept:
  """All canvases that could be read."""
  canvases, people, count = np.empty((len(part), side, side, 3), 'uint8'), [], 0
  with progress.task('decode images', len(part)) as advance:
    for images, person in part.batches(_AT_ONCE):
      real = person != NOTHING
      fresh = int(real.sum())
      canvases[count : count + fresh] = images[real]
      people.append(person[real])
      count += fresh
      advance(fresh)
  if not count:
    raise OSError(f'none of {len(part)} files holds an image')
  return Kept(canvases[:count], np.concatenate(people).astype('int32'), part.people)
