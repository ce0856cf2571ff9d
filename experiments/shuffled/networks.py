"""The dense networks that rows start from: one for each kind of images and seed."""

import dataclasses
import pathlib
import re

import jax
import numpy as np

import tnjax as tn
from experiments.classifier import config as classifier
from experiments.classifier.seeded import Seeded
from experiments.common import job
from experiments.common.data import Dataset
from experiments.shuffled import images
from experiments.shuffled.spectra import spectra


def home(dataset: str, block: int) -> str:
  """Name of the folder of a network's files."""
  return f'{dataset}_block{block}' if block else dataset


class Networks:
  """Loads data and trains networks when they are asked for; holds the latest.

  Args:
    this: the job, its settings a `Config` of this binary.

  Raises:
    ValueError, OSError: data or weights that are missing, damaged or do not fit.
  """

  def __init__(self, this: job.Job):
    self._config = config = this.config
    self._jobs = {config.dataset: this}
    if 'cifar10' in config.studies:
      self._jobs['cifar10'] = dataclasses.replace(this, config=config.beside())
    self._loaders = {name: classifier.loader(one) for name, one in self._jobs.items()}
    self._untrained = {
      name: classifier.untrained(one, self._loaders[name]) for name, one in self._jobs.items()
    }
    for name, one in self._jobs.items():
      classifier.check_batch(one, self._loaders[name])
    self._latest = None, None

  def plan(self, dataset: str, rules: tuple) -> tn.compression.Report:
    """The sizes of a row, before any work."""
    return tn.compression.plan(self._untrained[dataset], rules)

  def data(self, dataset: str, block: int, seed: int) -> Dataset:
    """The images of rows.

    Raises:
      ValueError, OSError: damaged files.
    """
    found, config = self._loaders[dataset](seed), self._config
    if dataset != config.dataset:
      found = images.first(found, config.cifar10_images)
    return images.permuted(found, block, seed)

  def get(self, dataset: str, block: int, seed: int, folder: pathlib.Path) -> Seeded:
    """Data and trained network; its files go into a folder of its own inside `folder`."""
    wanted = dataset, block, seed
    if self._latest[0] != wanted:
      self._latest = None, None  # frees its memory first
      place = folder / home(dataset, block)
      place.mkdir(exist_ok=True)
      with job.one_line(ValueError):  # the data were damaged since the run began
        data = self.data(dataset, block, seed)
      self._latest = wanted, Seeded(self._jobs[dataset], place, data, seed)
    return self._latest[1]

  def facts(self, seeded: Seeded) -> dict:
    """What the report says of a network: accuracy, size, spectra of its kernels, its images."""
    layers = tn.compression.walk(seeded.model).items()
    named = [place for path, place in layers if re.fullmatch(seeded.config.layers, path)]
    kernels = [np.asarray(place.weights[0]) for place in named if len(place.shape) == 4]
    return {
      'data_sha256': seeded.dataset.fingerprint(),
      'similarity': images.similarity(seeded.dataset.train.images),
      **seeded.facts(),
      'spectra': spectra(kernels, jax.random.key(seeded.seed)),
    }
