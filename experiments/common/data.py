"""Image classification in memory: the embedded digits, and CIFAR-10 in its official layout."""

import dataclasses
import hashlib
import http.client
import pathlib
import pickle
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from experiments.common import results
from experiments.common.pictures import NOTHING
from experiments.common.progress import Progress

CIFAR_URL = 'https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz'
CIFAR_MD5 = 'c58f30108f718f92721af3b95e74349a'
CIFAR_FOLDER = 'cifar-10-batches-py'
_CIFAR_FILES = (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch')


@dataclasses.dataclass(frozen=True)
class Split:
  """Images (n, height, width, channels) uint8, labels (n,) int32."""

  images: np.ndarray
  labels: np.ndarray

  def __len__(self) -> int:
    """Number of images."""
    return len(self.labels)

  def part(self, index: np.ndarray) -> 'Split':
    """Some of them, in that order."""
    return Split(self.images[index], self.labels[index])

  def batches(self, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and labels in order, `size` at once, all of them if there are fewer. The last batch
    is filled with the last image, whose label is then NOTHING.
    """
    count, size = len(self), min(size, len(self))
    for i in range(0, count, size):
      index = np.arange(i, i + size)
      part = np.minimum(index, count - 1)
      yield self.images[part], np.where(index < count, self.labels[part], NOTHING)


@dataclasses.dataclass(frozen=True)
class Dataset:
  """Three disjoint splits; nothing is ever chosen on `test`.

  Attributes:
    train, validation, test: the splits. A run trains on the first and measures on the other two:
      whoever chooses settings chooses on `validation`.
    scale: pixel value of white; images / scale is in [0, 1].
    crop: augmentation pads by this many pixels and crops back at random.
    flip: whether augmentation mirrors left and right.
    num_classes: how many classes there are.
  """

  train: Split
  validation: Split
  test: Split
  scale: float
  crop: int
  flip: bool
  num_classes: int = 10
  streams: ClassVar[None] = None  # it is of no files

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of one image."""
    return self.train.images.shape[1:]

  def held_out(self, seed: int) -> 'Dataset':
    """With half of `test` for `validation`, on whose images others may have trained a network."""
    validation, test = (self.test.part(index) for index in halves(self.test.labels, seed))
    return dataclasses.replace(self, validation=validation, test=test)

  def fingerprint(self) -> str:
    """Digest of all images and labels, in their order."""
    splits = (self.train, self.validation, self.test)
    return results.fingerprint(*(a for split in splits for a in (split.images, split.labels)))


def digits(seed: int) -> Dataset:
  """The 1,797 real 8x8 digits inside scikit-learn, split 60 / 20 / 20, stratified and seeded."""
  from sklearn.datasets import load_digits

  bunch = load_digits()
  images, labels = bunch.images[..., None].astype('uint8'), bunch.target.astype('int32')
  test, rest = stratified(labels, 0.2, seed)
  validation, train = stratified(labels[rest], 0.25, seed + 1)
  parts = [rest[train], rest[validation], test]
  splits = [Split(images[p], labels[p]) for p in parts]
  return Dataset(*splits, scale=16.0, crop=1, flip=False)


def cifar10(data_dir: str, seed: int) -> Dataset:
  """CIFAR-10 from the official Python batches; a tenth of the training part is for validation.

  Args:
    data_dir: the folder `cifar-10-batches-py`, or the one that holds it.
    seed: of the stratified validation split; the test part is the official one.

  Raises:
    FileNotFoundError: a batch file is missing.
    ValueError: a file is truncated or not a CIFAR-10 batch.
  """
  folder = _cifar_folder(pathlib.Path(data_dir))
  batches = [_cifar_batch(folder / name) for name in _CIFAR_FILES]
  images = np.concatenate([b.images for b in batches[:5]])
  labels = np.concatenate([b.labels for b in batches[:5]])
  validation, train = stratified(labels, 0.1, seed)
  splits = [Split(images[p], labels[p]) for p in (train, validation)]
  return Dataset(*splits, batches[5], scale=255.0, crop=4, flip=True)


def download_cifar10(data_dir: str, progress: Progress, url: str = CIFAR_URL) -> None:
  """Fetches and unpacks the official archive into `data_dir`, unless it is there already.

  Raises:
    ValueError: the download failed, or its md5 is not that of the official archive.
  """
  target = pathlib.Path(data_dir)
  target = target.parent if target.name == CIFAR_FOLDER else target
  try:
    _cifar_folder(target)
    return
  except FileNotFoundError:
    target.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(dir=target, prefix='.download-') as scratch:
    path = pathlib.Path(scratch) / 'cifar-10-python.tar.gz'
    digest = fetch(url, path, 'CIFAR-10', progress)
    if digest != CIFAR_MD5:
      raise ValueError(
        f'--download: the archive has md5 {digest}; the official one has {CIFAR_MD5}'
      )
    try:
      with tarfile.open(path) as archive:
        archive.extractall(scratch, filter='data')
    except (tarfile.TarError, EOFError, zlib.error) as error:
      raise ValueError(f'--download: the archive cannot be unpacked: {error}') from None
    (target / CIFAR_FOLDER).mkdir(exist_ok=True)
    for file in (pathlib.Path(scratch) / CIFAR_FOLDER).iterdir():
      file.replace(target / CIFAR_FOLDER / file.name)


def fetch(url: str, path: pathlib.Path, what: str, progress: Progress) -> str:
  """Writes `what` from `url` to `path`; returns its md5.

  Raises:
    ValueError: it cannot be fetched, or not as a whole.
  """
  digest = hashlib.md5()
  try:
    with urllib.request.urlopen(url, timeout=60) as response, path.open('wb') as file:
      size = response.headers.get('Content-Length', '')
      total = int(size) if size.isdecimal() else 0
      with progress.task(f'download {what} (MiB)', total >> 20) as advance:
        while chunk := response.read(1 << 20):
          file.write(chunk)
          digest.update(chunk)
          advance(1)
      if file.tell() < total:
        raise OSError(f'it was cut after {file.tell():,} of {total:,} bytes')
  except (OSError, http.client.HTTPException) as error:
    text = str(error) or type(error).__name__
    raise ValueError(f'--download: {url} cannot be fetched: {text}') from error
  return digest.hexdigest()


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Sorted indices of a part with `fraction` of every class, at least one, and of the rest."""
  rng = np.random.default_rng(seed)
  chosen = [
    rng.permutation(np.flatnonzero(labels == c))[: max(1, round(fraction * np.sum(labels == c)))]
    for c in np.unique(labels)
  ]
  mask = np.zeros(len(labels), bool)
  mask[np.concatenate(chosen)] = True
  return np.flatnonzero(mask), np.flatnonzero(~mask)


def halves(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """`stratified`, half and half.

  Raises:
    ValueError: a class with one image.
  """
  few = [c for c in np.unique(labels) if np.sum(labels == c) < 2]
  if few:
    raise ValueError(
      f'the test part has one image of class {few[0]}; it needs another, as half of it validates'
    )
  return stratified(labels, 0.5, seed)


def _cifar_folder(path: pathlib.Path) -> pathlib.Path:
  for folder in (path, path / CIFAR_FOLDER):
    missing = [name for name in _CIFAR_FILES if not (folder / name).is_file()]
    if not missing:
      return folder
    if len(missing) < len(_CIFAR_FILES):
      raise FileNotFoundError(f'--data_dir: {folder / missing[0]} is missing')
  raise FileNotFoundError(
    f'--data_dir={path} holds no {CIFAR_FOLDER}; --download fetches it where there is a network'
  )


class _ArrayUnpickler(pickle.Unpickler):
  """Unpickles plain containers and NumPy arrays, and refuses anything that could run code."""

  def find_class(self, module: str, name: str) -> object:
    """Only what NumPy arrays are pickled with."""
    if module.split('.')[0] == 'numpy' and name in ('_reconstruct', 'ndarray', 'dtype'):
      return super().find_class(module, name)
    raise pickle.UnpicklingError(f'{module}.{name} does not belong in a CIFAR-10 batch')


def _cifar_batch(path: pathlib.Path) -> Split:
  try:
    with path.open('rb') as file:
      batch = _ArrayUnpickler(file, encoding='latin1').load()
    pixels, labels = np.asarray(batch['data']), np.asarray(batch['labels'])
  except Exception as error:
    raise ValueError(f'--data_dir: {path} is truncated or no CIFAR-10 batch: {error}') from error
  if pixels.shape != (10000, 3072) or pixels.dtype != np.uint8 or labels.shape != (10000,):
    raise ValueError(
      f'--data_dir: {path} has data {pixels.dtype}{pixels.shape} and labels {labels.shape}; it '
      'needs uint8(10000, 3072) and (10000,)'
    )
  whole = labels.dtype.kind in 'iu'
  strange = labels[(labels < 0) | (labels > 9)] if whole else labels
  if strange.size:
    raise ValueError(
      f'--data_dir: {path} has the label {strange[0]!r} in labels; they must be whole numbers 0..9'
    )
  images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
  return Split(images, labels.astype('int32'))
