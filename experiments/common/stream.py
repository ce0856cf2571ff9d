"""Batches that worker processes make, by their number: Grain's part in reading images."""

import concurrent.futures
import functools
import os
from collections.abc import Callable

import numpy as np
from absl import flags

from experiments.common import pictures

_AHEAD = 2  # batches that a worker has ready


def grain() -> object:
  """The package, imported late: it takes seconds.

  Raises:
    ValueError: it is not installed.
  """
  try:
    import grain
  except ImportError as error:
    raise ValueError(
      f"--dataset: images in files need the package {error.name}: pip install 'tnjax[experiments]'"
    ) from None
  return grain


class Stream:
  """Batches by number, endlessly: epoch after epoch. Asked for in order, they are read ahead.

  Args:
    batches: a `grain.MapDataset` of what `pictures.collected` gives, one epoch.
    workers: processes that make them; 0 for this one alone.
    skip: is told path and reason of files that hold no image.

  Attributes:
    next: number of the batch that is read ahead.
  """

  def __init__(self, batches: object, workers: int, skip: Callable[[str, str], None]):
    self.next = 0
    self._batches, self._workers, self._skip = batches.repeat(), workers, skip
    self._iterator = None

  def __call__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels.

    Raises:
      OSError: a file is gone, or a worker.
    """
    if number != self.next or self._iterator is None:
      self.close()
      self._iterator = self._from(number)
    try:
      batch = next(self._iterator)
    except RuntimeError as error:  # how Grain tells of it
      raise OSError(
        f'a worker that decodes images is gone ({error}); in a container, /dev/shm may be too '
        'small for their batches: give it more, or take fewer --workers'
      ) from error
    self.next = number + 1
    for path, failure in batch['skipped']:
      self._skip(path, failure)
    return np.array(batch['images']), np.array(batch['labels'])  # frees the memory that is shared

  def close(self) -> None:
    """Ends the workers; asking for more would start others."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None

  def _from(self, number: int) -> object:
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()  # Grain asks for flags of its own, which nobody sets
    alone = grain().ReadOptions(num_threads=0, prefetch_buffer_size=0)
    found = self._batches.slice(slice(number, None)).to_iter_dataset(alone)
    several = grain().MultiprocessingOptions(self._workers, per_worker_buffer_size=_AHEAD)
    return iter(found.mp_prefetch(several, worker_init_fn=pictures.begin))


class Streams:
  """The streams over the files of one folder, and what they skipped.

  Args:
    root: folder of the files.
    size: rows and columns of an image once it is cut.
    workers: processes that decode; 0 for this one alone.
    tell: is given a line for every file that is skipped.

  Attributes:
    skipped: names of the files that hold no whole image, as far as they were met. They count for
      nothing: not in a loss, nor in a metric.
  """

  def __init__(self, root: str, size: int, workers: int, tell: Callable[[str], None]):
    self.size = size
    self.skipped = []
    self._root, self._workers, self._tell = root, workers, tell
    self._streams = []

  def stream(self, found: object, size: int, drop_remainder: bool = False) -> Stream:
    """Batches of so many from a `grain.MapDataset` of `pictures.Picture`."""
    collect = functools.partial(pictures.collected, count=size, size=self.size)
    found = found.batch(size, drop_remainder=drop_remainder, batch_fn=collect)
    self._streams.append(Stream(found, self._workers, self._skip))
    return self._streams[-1]

  def close(self) -> None:
    """Ends the workers; reading on would start others."""
    with concurrent.futures.ThreadPoolExecutor() as pool:  # each waits for its workers
      list(pool.map(Stream.close, self._streams))

  def _skip(self, path: str, failure: str) -> None:
    name = os.path.relpath(path, self._root).encode(errors='replace').decode()
    if name not in self.skipped:
      self.skipped.append(name)
      self._tell(f'skipped {name}: {failure}')
