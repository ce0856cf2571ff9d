"""A job of nothing but rows that take their time, to be sent signals."""

import dataclasses
import time

from experiments.common import config, grid, job, results


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(config.Config):
  """As many rows as asked for."""

  rows: int = config.field(3, 'Rows.', config.at_least(1), resume='free')
  wait: float = config.field(0.0, 'Seconds a row, the first apart.', resume='free')
  fail: str = config.field('', 'How the second row fails.', resume='free')


class Work:
  """One number a row."""

  def __init__(self, this):
    self.this = this
    self.folder = this.open()
    settings = [{'row': i, 'seed': 0} for i in range(this.config.rows)]
    self.grid = grid.Grid(settings, self.folder, this.provenance(), {})

  def row(self, row, seed):
    """Waits a while, the first row apart."""
    ticks = round(self.this.config.wait / 0.05) if row else 0
    with self.this.progress.task('wait', ticks) as advance:
      for _ in range(ticks):
        time.sleep(0.05)
        advance(1)
    if row == 1 and self.this.config.fail:
      raise {'disk': OSError(28, 'No space left on device'), 'nan': FloatingPointError('is nan')}[
        self.this.config.fail
      ]
    return {'value': row**2}

  def run(self):
    self.grid.run(self.row, self.this.progress, lambda row: self.this.progress.print(row['value']))

  def finish(self):
    self.grid.write()
    results.write_csv(self.folder / 'summary.csv', self.grid.rows)

  def state(self):
    return f'{len(self.grid.rows)} rows'

  def summary(self):
    return 'all done'


if __name__ == '__main__':
  job.launch(Toy, 'toy', Work)
