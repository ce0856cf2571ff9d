"""What the studies share whose rows start from trained classifiers."""

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from experiments.classifier import baselines, resume
from experiments.classifier.seeded import Seeded
from experiments.common import grid, job
from experiments.common.data_folder import Data


class Study(abc.ABC):
  """Runs the rows of a configuration and keeps `report.json` up to date after each.

  A study gives `_row` and `_done`, and `finish` and `summary` of `job.Work`.

  Args:
    this: the job; its folder is opened, and rows found in its report are not run again.
    load: gives the data set of a seed.
    settings: one a row, in the order in which they are run.

  Attributes:
    FILES: what it writes into the folder.
    NUMBERS: entries of every row; those UNFINISHED may be null.
    ABOUT: settings that the report names at its head.
    SEEDED: what the rows of a seed start from.

  Raises:
    ValueError: the folder has results that this run cannot go on with.
  """

  FILES: ClassVar[Sequence[str]]
  NUMBERS: ClassVar[Sequence[str]]
  UNFINISHED: ClassVar[Sequence[str]] = ()
  ABOUT: ClassVar[Sequence[str]] = ('dataset', 'model')
  SEEDED: ClassVar[type[Seeded]] = Seeded

  def __init__(self, this: job.Job, load: Callable[[int], Data], settings: Sequence[Mapping]):
    self._config = this.config
    self._job = this
    self._folder = this.open()
    about = this.provenance() | {name: getattr(this.config, name) for name in self.ABOUT}
    about |= {'settings': this.config.json()}
    self._grid = grid.Grid(settings, self._folder, about, baselines.empty())
    resume.check(self.report, self._folder, load, self.FILES, self.NUMBERS, self.UNFINISHED)
    self._baselines = baselines.Baselines(this, self._folder, self._grid, load, self.SEEDED)

  @property
  def report(self) -> dict:
    """What report.json holds."""
    return self._grid.report

  def run(self) -> None:
    """Runs all rows that are not done."""
    self._grid.run(self._row, self._job.progress, self._done)

  def state(self) -> str:
    """How far it came."""
    return self._grid.state()

  @abc.abstractmethod
  def _row(self, **setting: object) -> dict:
    """What a row holds beside its setting."""

  @abc.abstractmethod
  def _done(self, row: Mapping) -> None:
    """Called with a row once it is saved."""
