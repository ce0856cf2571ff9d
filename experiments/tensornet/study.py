"""The grid over all studies: one report row a cell, a table and a figure a study."""

from collections.abc import Mapping

from experiments.common import grid, job, mesh, plots, results
from experiments.common.metrics import Metrics
from experiments.tensornet import counts, figures, inference, mnist, quick, table, wide_rows
from experiments.tensornet.config import DATA, STUDIES, Config
from experiments.tensornet.lab import BATCH, Lab, named
from experiments.tensornet.store import Store

_KINDS = dict(zip(STUDIES, (counts, inference, mnist, quick, wide_rows)))
_UNSEEDED = ('counts', 'inference')


def settings(config: Config) -> list[dict]:
  """What to run, in this order; rows that no seed decides have none.

  >>> len(settings(Config(study=('counts', 'inference')).resolved()))
  13
  """
  found = []
  for study in [name for name in STUDIES if name in config.study]:
    for seed in config.seeds:
      for cell, rank in _KINDS[study].cells(config):
        free = study in _UNSEEDED or cell == 'step'
        one = {'study': study, 'cell': cell, 'rank': rank, 'seed': None if free else seed}
        if one not in found:
          found.append(one)
  return found


class Study:
  """Runs the rows of a configuration; see `job.Work`.

  Args:
    this: the job; data are loaded before its folder is opened.

  Raises:
    ValueError, FileNotFoundError: data are missing or damaged, or the folder has results that this
      run cannot go on with.
  """

  def __init__(self, this: job.Job):
    self._job, config = this, this.config
    this.check()
    mesh.check_batch(this.mesh, BATCH)
    store = Store(config, this.progress)
    for name in dict.fromkeys(DATA[study] for study in config.study if study in DATA):
      store.get(name, config.seed)
    self._folder = this.open()
    about = this.provenance() | {'settings': config.json()}
    self._grid = grid.Grid(settings(config), self._folder, about, {'data': {}})
    table.check(self._folder / 'report.json', self._grid.report)
    store.agree(self._grid.report['data'])
    self._lab = Lab(this, self._folder, store)

  def run(self) -> None:
    """Runs all rows that are not done."""
    self._grid.run(self._row, self._job.progress, self._done)

  def finish(self) -> None:
    """Writes the report, and of every study that has rows a table and a figure."""
    self._grid.write()
    for study in STUDIES:
      rows = [row for row in self._grid.rows if row['study'] == study]
      if rows:
        results.write_csv(self._folder / f'{study}.csv', rows)
    figures.draw(self._folder, self._grid.rows)
    plots.curves(self._folder / 'loss.png', Metrics(self._folder / 'metrics.jsonl').read(), 'loss')

  def state(self) -> str:
    """How far it came."""
    return self._grid.state()

  def summary(self) -> str:
    """The rows beside the paper's figures."""
    return f'{table.text(self._grid.rows)}\nwrote {self._job.workdir}/'

  def _row(self, study: str, cell: str, rank: int | None, seed: int | None) -> dict:
    return _KINDS[study].row(self._lab, cell, rank, seed)

  def _done(self, row: Mapping) -> None:
    if row['study'] in DATA and row['cell'] != 'step':
      self._lab.forget(named(row['study'], row['cell'], row['rank']), row['seed'])
    self._job.progress.print(table.line(row))
