"""ImageNet, or any images in class folders: which files there are, and batches of them."""

import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from experiments.common import pictures, results
from experiments.common.data import Dataset, halves, stratified
from experiments.common.pictures import Files
from experiments.common.stream import Streams, grain

SIZE = 224
_HELD_OUT = 10_000  # of ImageNet's training images: ten a class
_AT_ONCE = 100  # images in evaluation


class Folder(Streams):
  """Images in files, with what jobs use of `data.Dataset`.

  Args:
    root: folder of the files.
    num_classes: how many classes there are.
    splits: the files for training, validation and test.
    size, workers, tell: see `stream.Streams`.
  """

  scale = 255.0

  def __init__(
    self,
    root: str,
    num_classes: int,
    splits: Sequence[Files],
    size: int,
    workers: int,
    tell: Callable[[str], None],
  ):
    super().__init__(root, size, workers, tell)
    self.num_classes = num_classes
    read = functools.partial(pictures.evaluated, size=size)
    self.train, self.validation, self.test = (Split(self, files, read) for files in splits)

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of one image."""
    return self.size, self.size, 3

  @property
  def streams(self) -> Streams:
    """What reads the files, and knows which it skipped."""
    return self

  def held_out(self, seed: int) -> 'Folder':
    """See `data.Dataset.held_out`."""
    test = self.test.files
    splits = (self.train.files, *(test.part(index) for index in halves(test.labels, seed)))
    return Folder(self._root, self.num_classes, splits, self.size, self._workers, self._tell)

  def fingerprint(self) -> str:
    """Digest of all names and sizes of files, as they are split; their content is not read."""
    splits = (self.train.files, self.validation.files, self.test.files)
    return results.fingerprint(*(a for files in splits for a in (files.names, files.sizes)))


Data = Dataset | Folder  # in memory, or in files


class Split:
  """Some files of a folder.

  Args:
    folder: whose workers read them.
    files: which.
    read: makes a `pictures.Picture` of (path, label), as networks are measured with it.
  """

  def __init__(self, folder: Streams, files: Files, read: Callable):
    self.files = files
    self._folder, self._read = folder, read
    self._streams = {}

  def __len__(self) -> int:
    """Number of files."""
    return len(self.files)

  def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images uint8 and labels int32, in order; see `data.Split.batches`. At most 100 at once.

    The workers stay, and read on for the next time.
    """
    size = min(size, _AT_ONCE, len(self))
    if size not in self._streams:
      found = grain().MapDataset.source(self.files).map(self._read)
      self._streams[size] = self._folder.stream(found, size)
    stream, count = self._streams[size], -(-len(self) // size)
    start = -(-stream.next // count) * count  # a pass that was broken off is not gone on with
    for number in range(start, start + count):
      yield stream(number)


class Batches:
  """The training split, decoded and augmented by the workers; see `train.Batches`.

  Args:
    folder: its training split is used.
    batch_size: images per update, all of them if there are fewer.
    seed: of the order of images, fresh every epoch, the remainder left out; and of augmentation.
  """

  constants = ()

  def __init__(self, folder: Folder, batch_size: int, seed: int):
    self.size = min(batch_size, len(folder.train))
    self._count, self._scale = len(folder.train), folder.scale
    found = grain().MapDataset.source(folder.train.files).seed(seed).shuffle()
    found = found.random_map(functools.partial(pictures.augmented, size=folder.size))
    self._stream = folder.stream(found, self.size, drop_remainder=True)

  def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 and labels int32 of a step: a function of seed and step alone."""
    return self._stream(step)

  def steps(self, epochs: int) -> int:
    """Number of updates in so many epochs."""
    return epochs * (self._count // self.size)

  def prepare(self, constants: object, batch: tuple, key: object) -> tuple:
    """Images in [0, 1], their labels, and which of them are images."""
    del constants, key
    images, labels = batch
    return images.astype('float32') / self._scale, labels, labels != pictures.NOTHING


def imagenet(
  data_dir: str,
  seed: int,
  size: int = SIZE,
  workers: int | None = None,
  tell: Callable[[str], None] = print,
) -> Folder:
  """Images in `train/<class>` and `val/<class>`; a tenth of the former, 10,000 at most, validates.

  Classes are numbered in the order of their names, as torchvision does.

  Args:
    data_dir: the folder of `train` and `val`.
    seed: of the stratified validation split; the test part is `val`.
    size, workers, tell: see `Folder`; by default a worker for every core.

  Raises:
    FileNotFoundError: there is no such folder.
    ValueError: the two have other classes, or a class has too few images; or Grain is missing.
  """
  grain()  # or its error
  root = pathlib.Path(data_dir)
  classes = _same_classes(root)
  train, test = (_files(root / part, classes) for part in ('train', 'val'))
  few = np.flatnonzero(np.bincount(train.labels) < 2)
  if few.size:
    raise ValueError(
      f'--data_dir: {root / "train" / classes[few[0]]} has one image; it needs another, as '
      'validation takes one of every class'
    )
  validation, rest = stratified(train.labels, min(0.1, _HELD_OUT / len(train)), seed)
  splits = (train.part(rest), train.part(validation), test)
  workers = os.cpu_count() if workers is None else workers
  return Folder(data_dir, len(classes), splits, size, workers, tell)


def _same_classes(root: pathlib.Path) -> list[str]:
  found = []
  for part in ('train', 'val'):
    if not (root / part).is_dir():
      raise FileNotFoundError(
        f'--data_dir={root} has no folder {part!r}; it needs train/CLASS/*.JPEG and '
        'val/CLASS/*.JPEG, a folder for every class'
      )
    found.append(sorted(entry.name for entry in os.scandir(root / part) if entry.is_dir()))
  for train, val in itertools.zip_longest(*found):
    if train != val:
      name, part = min((n, p) for n, p in ((train, 'train'), (val, 'val')) if n is not None)
      other = 'val' if part == 'train' else 'train'
      raise ValueError(f'--data_dir={root} has the class {name!r} in {part}, but not in {other}')
  if not found[0]:
    raise ValueError(f'--data_dir: {root / "train"} has no class folders')
  return found[0]


def _files(folder: pathlib.Path, classes: Sequence[str]) -> Files:
  """The images of every class, in the order of their names."""
  names, sizes, labels = [], [], []
  for label, name in enumerate(classes):
    before = len(names)
    for base, _, files in sorted(os.walk(folder / name, followlinks=True)):
      paths = [
        os.path.join(base, f) for f in sorted(files) if f.lower().endswith(pictures.SUFFIXES)
      ]
      names += [os.fsencode(os.path.relpath(path, folder.parent)) for path in paths]
      sizes += [os.stat(path).st_size for path in paths]
    if len(names) == before:
      kinds = ', '.join(pictures.SUFFIXES)
      raise ValueError(f'--data_dir: {folder / name} has no image in it ({kinds})')
    labels += [label] * (len(names) - before)
  return Files(
    str(folder.parent), np.array(names), np.array(labels, 'int32'), np.array(sizes, 'int64')
  )
