"""The data sets as the studies want them: loaded once, and the same as for earlier rows."""

import functools

import numpy as np

from experiments.common import data, data_mnist
from experiments.common.data import Dataset, Split
from experiments.common.progress import Progress
from experiments.tensornet.config import Config


class Store:
  """Data sets by name and seed, not augmented, MNIST padded to 32x32.

  Args:
    config: the settings.
    progress: display.

  Attributes:
    digests: of all that were loaded, by name and seed.
  """

  def __init__(self, config: Config, progress: Progress):
    self.digests: dict[str, str] = {}
    self._config = config
    self._progress = progress
    self.get = functools.lru_cache(maxsize=2)(self._get)

  def agree(self, known: dict[str, str]) -> None:
    """Takes over the digests of an earlier run, and fills them further.

    Raises:
      ValueError: what is loaded already is not the same.
    """
    for key, digest in self.digests.items():
      self._check(known.setdefault(key, digest), key, digest)
    self.digests = known

  def _get(self, name: str, seed: int) -> Dataset:
    """Raises FileNotFoundError or ValueError for missing, damaged or other data."""
    found = self._load(name, seed)
    key = f'{name}_seed{seed}'
    digest = found.fingerprint()
    self._check(self.digests.setdefault(key, digest), key, digest)
    parts = [found.train, found.validation, found.test]
    if not self._config.holdout:
      both = [(part.images, part.labels) for part in parts[:2]]
      parts[0] = Split(*(np.concatenate(arrays) for arrays in zip(*both)))
    pad = 2 if name == 'mnist' else 0
    margins = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    few = slice(self._config.images)
    parts = [Split(np.pad(part.images[few], margins), part.labels[few]) for part in parts]
    return Dataset(*parts, found.scale, crop=0, flip=False)

  def _load(self, name: str, seed: int) -> Dataset:
    folder = self._config.data_dir
    if name == 'mnist':
      if self._config.download:
        data_mnist.download_mnist(folder, self._progress)
      return data_mnist.mnist(folder, seed)
    if self._config.download:
      data.download_cifar10(folder, self._progress)
    return data.cifar10(folder, seed)

  def _check(self, known: str, key: str, digest: str) -> None:
    if known != digest:
      raise ValueError(
        f'--data_dir={self._config.data_dir} has other images for {key} than the results in '
        '--workdir were made with; choose another --workdir'
      )
