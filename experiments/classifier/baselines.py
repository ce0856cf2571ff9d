"""The networks that a study starts from, one a seed, and what its report says of them."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence

from experiments.classifier import resume
from experiments.classifier.seeded import Seeded
from experiments.common import grid, job
from experiments.common.data_folder import Data

_KEPT = 3  # networks with their data at once


class Baselines:
  """Data and network of every seed, trained where that was not done yet, and noted in the report.

  Args:
    this: the job, its settings a `classifier.Config`.
    folder: of the results.
    found: the study's rows, whose report starts with `empty`.
    load: gives the data set of a seed.
    kind: makes what the rows of a seed start from.
  """

  def __init__(
    self,
    this: job.Job,
    folder: pathlib.Path,
    found: grid.Grid,
    load: Callable[[int], Data],
    kind: type[Seeded],
  ):
    self._job = this
    self._folder = folder
    self._grid = found
    self._load = load
    self._kind = kind
    self.at = functools.lru_cache(_KEPT)(self._at)
    found.report['baseline'] = mean(found.report['baselines'])

  def _at(self, seed: int) -> Seeded:
    """What the rows of a seed start from."""
    with job.one_line(ValueError):  # the data were damaged since the run began
      dataset = self._load(seed)
    noted = self._noted(seed, dataset)
    seeded = self._kind(self._job, self._folder, dataset, seed)
    report = self._grid.report
    if 'accuracy' not in noted:
      noted |= seeded.facts()
      report['baseline'] = mean(report['baselines'])
      self._grid.write()
    self._job.progress.print(seeded.line(noted))
    return seeded

  def _noted(self, seed: int, dataset: Data) -> dict:
    """What the report says of a seed: at first, before any training, its data alone."""
    baselines = self._grid.report['baselines']
    found = next((b for b in baselines if b['seed'] == seed), None)
    if found is None:
      found = {'seed': seed, 'data_sha256': dataset.fingerprint()}
      baselines.append(found)
      self._grid.write()
    else:
      with job.one_line(ValueError):
        resume.check_data(found, dataset)
    if dataset.streams is not None:
      before, now = found.get('skipped', []), dataset.streams.skipped
      found['skipped'] = dataset.streams.skipped = list(dict.fromkeys([*before, *now]))
    return found


def empty() -> dict:
  """What a report says of networks before there are any."""
  return {'baseline': None, 'baselines': []}


def mean(baselines: Sequence[Mapping]) -> dict | None:
  """The network before compression; of several seeds the mean, None where none is trained yet."""
  trained = [b for b in baselines if 'accuracy' in b]
  if not trained:
    return None
  (found,) = grid.summarised(trained, ('params', 'macs'))
  names = ('accuracy', 'accuracy_std', 'accuracy_validation', 'accuracy_validation_std')
  return {name: found[name] for name in (*names, 'params', 'macs') if name in found}
