"""The study of sizes: exact tables of two networks, by our rules and by those of the released code.

No data, no weights, no training.
"""

import pathlib

from experiments.common import grid, job, results
from experiments.spectrum_preserving import accounting, figures, paper, table
from experiments.spectrum_preserving.config import Config

_FILES = ('report.json', 'summary.csv', 'accounting.png')


def check(config: Config) -> None:
  """Raises ValueError for a rate that a scheme cannot reach."""
  for setting in _settings(config):
    found = accounting.row(**setting)
    ranks = [entry['ranks'] for entry in found['ranks'].values()]
    accounting.check_reach(setting['scheme'], setting['rate'], ranks, found['params_ratio'])


class Counting:
  """One row a network, scheme and rate; see `accounting.row`."""

  def __init__(self, this: job.Job):
    config: Config = this.config
    self._job = this
    self._folder: pathlib.Path = this.open()
    about = this.provenance() | {'study': config.study, 'meaning': paper.MEANING}
    about |= {'settings': config.json()}
    self._grid = grid.Grid(_settings(config), self._folder, about, {})

  def run(self) -> None:
    """Counts what is not in the report yet."""
    self._grid.run(accounting.row, self._job.progress, lambda row: None)

  def finish(self) -> None:
    """Writes the report, the summary and the figure."""
    rows = self._grid.rows
    self._grid.write()
    results.write_csv(
      self._folder / 'summary.csv', [{k: v for k, v in r.items() if k != 'ranks'} for r in rows]
    )
    figures.counted(self._folder / 'accounting.png', rows)

  def state(self) -> str:
    """How far it came."""
    return self._grid.state()

  def summary(self) -> str:
    """The table, and whether the notes' figures came out."""
    rows = self._grid.rows
    known = [row for row in rows if row['sheet'] is not None]
    same = sum(row['sheet'] == (row['released_params'] or row['params']) for row in known)
    return (
      f'{table.counted(rows)}\n{same} of the {len(known)} sizes that papers/spectrum_preserving.md '
      f'gives came out to the digit\nwrote {self._job.workdir}/{", ".join(_FILES)}'
    )


def _settings(config: Config) -> list[dict]:
  return grid.product(network=accounting.NETWORKS, scheme=config.schemes, rate=config.rates)
