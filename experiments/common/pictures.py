"""Files of images as arrays: what worker processes do, which need nothing of jax for it.

The transforms are those that the published ImageNet networks were trained and are measured with.
"""

import io
import math
import multiprocessing
import os
import pathlib
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
NOTHING = -1  # the label of what is no image


class Files:
  """A Grain source of (path, label).

  Args:
    root: folder that the names start from.
    names: bytes (n,).
    labels: int32 (n,).
    sizes: in bytes, int64 (n,).
  """

  def __init__(self, root: str, names: np.ndarray, labels: np.ndarray, sizes: np.ndarray):
    self.root, self.names, self.labels, self.sizes = root, names, labels, sizes

  def __len__(self) -> int:
    """Number of files."""
    return len(self.names)

  def __getitem__(self, i: int) -> tuple[str, int]:
    """Path and label of one."""
    return os.path.join(self.root, os.fsdecode(self.names[i])), int(self.labels[i])

  def part(self, index: np.ndarray) -> 'Files':
    """Some of them, in that order."""
    return Files(self.root, self.names[index], self.labels[index], self.sizes[index])


class Picture(NamedTuple):
  """One file: its pixels uint8 (size, size, 3), or None and why not."""

  path: str
  label: int
  pixels: np.ndarray | None
  failure: str


def evaluated(file: tuple[str, int], size: int) -> Picture:
  """A file as networks are measured with it: see `centred`."""
  return read(file, lambda image: centred(image, size))


def augmented(file: tuple[str, int], rng: np.random.Generator, size: int) -> Picture:
  """A file as networks are trained with it: a `random_box` of it, resized, mirrored half the time.

  Grain gives the generator, of the seed and the place in the order of all epochs.
  """

  def transform(image: Image.Image) -> Image.Image:
    image = image.crop(random_box(*image.size, rng)).resize((size, size), Image.Resampling.BILINEAR)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image

  return read(file, transform)


def centred(image: Image.Image, size: int) -> Image.Image:
  """The shorter side resized to 8/7 of `size` (256 for 224), and the middle of that cut out."""
  short = size * 8 // 7
  sides = [short * side // min(image.size) for side in image.size]
  image = image.resize(sides, Image.Resampling.BILINEAR)
  left, top = (round((side - size) / 2) for side in sides)
  return image.crop((left, top, left + size, top + size))


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
  """Left, top, right and bottom of 8 to 100 % of an image, 3/4 to 4/3 as wide as high.

  Where ten draws do not fit into a long image, the middle of it.
  """
  for _ in range(10):
    area = width * height * rng.uniform(0.08, 1)
    ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
    if 0 < w <= width and 0 < h <= height:
      left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
      return left, top, left + w, top + h
  w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
  left, top = (width - w) // 2, (height - h) // 2
  return left, top, left + w, top + h


def read(file: tuple[str, int], transform: Callable) -> Picture:
  """A file, its image in RGB handed to `transform`.

  One that cannot be opened ends the run; one that holds no whole image is a failure.
  """
  path, label = file
  content = pathlib.Path(path).read_bytes()
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # odd EXIF, odd transparency: not what is wanted of them
      with Image.open(io.BytesIO(content)) as image:
        return Picture(path, label, np.asarray(transform(image.convert('RGB'))), '')
  except MemoryError:
    raise
  except Exception as error:  # each format raises kinds of its own
    return Picture(path, label, None, ' '.join(str(error).split()) or type(error).__name__)


def collected(pictures: Sequence[Picture], count: int, size: int) -> dict:
  """A batch of `count`, whatever could be read.

  Returns:
    images uint8 (count, size, size, 3), labels int32 (count,), and path and reason of files that
    are skipped. The places of these and those left over have the label NOTHING, and a neighbour's
    image, which disturbs no statistics of the batch.
  """
  found = [p for p in pictures if p.pixels is not None]
  other = found[0].pixels if found else np.zeros((size, size, 3), 'uint8')
  images = [other if p.pixels is None else p.pixels for p in pictures]
  labels = [NOTHING if p.pixels is None else p.label for p in pictures]
  rest = count - len(pictures)
  return {
    'images': np.stack(images + [other] * rest),
    'labels': np.array(labels + [NOTHING] * rest, 'int32'),
    'skipped': tuple((p.path, p.failure) for p in pictures if p.pixels is None),
  }


def begin(*_: int) -> None:
  """Starts a worker, whose end is its parent's business: a signal to the whole group is not for it,
  as it has batches in shared memory to free, and it outlives no parent that was killed.
  """
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)
