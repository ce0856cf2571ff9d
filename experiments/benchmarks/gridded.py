"""What benchmarks of many rows have in common: each is written as it finishes, and resumed."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from experiments.common import config, grid, job, results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """Of benchmarks that time compilation, and so keep no compiled programs."""

  compile_cache: str | None = config.field(
    '', 'Folder that keeps compiled programs, whose compilation is then not timed.', resume='free'
  )


class Gridded:
  """A benchmark as `experiments.common.job.Work`: report.json, summary.csv and a table.

  A subclass measures a row (`row`), and says what of all rows goes into the summary (`summarised`)
  and the table (`lines`).

  Args:
    this: the job.
    settings: one for every row.

  Attributes:
    UNIT: what a row is.
    STATE: entries of the report beside its rows that a subclass changes as it goes.
  """

  UNIT: ClassVar = 'rows'
  STATE: ClassVar[Mapping] = {}

  def __init__(self, this: job.Job, settings: Sequence[Mapping]):
    self.config, self.progress = this.config, this.progress
    self._workdir, self._folder = this.workdir, this.open()
    about = self.provenance(this) | {'settings': this.config.json()}
    self.grid = grid.Grid(settings, self._folder, about, self.STATE)

  def provenance(self, this: job.Job) -> dict:
    """What the report says of where it was made."""
    return this.provenance()

  def row(self, **setting: object) -> dict:
    """What is measured at a setting."""
    raise NotImplementedError

  def summarised(self) -> list[dict]:
    """The rows of summary.csv."""
    return self.grid.rows

  def lines(self) -> list[str]:
    """The table that is printed."""
    raise NotImplementedError

  def run(self) -> None:
    """Measures what is not measured yet."""
    self.grid.run(self.row, self.progress, lambda row: None)

  def finish(self) -> None:
    """Writes the report, and the summary."""
    self.grid.write()
    results.write_csv(self._folder / 'summary.csv', self.summarised())

  def state(self) -> str:
    """How far it came."""
    return self.grid.state(self.UNIT)

  def summary(self) -> str:
    """The table, and where the files are."""
    return '\n'.join([*self.lines(), f'wrote {self._workdir}/report.json, summary.csv'])
