"""The people that the settings name, as crops."""

import contextlib
import functools
import os
from collections.abc import Callable

from experiments.common import job
from experiments.pose import crops, leeds, mpii, rendered
from experiments.pose.seeded import THRESHOLDS, metric

_READERS = {'lspet': leeds.lspet, 'lsp': leeds.lsp, 'mpii': mpii.mpii}


def loader(this: job.Job) -> Callable[[int], crops.Crops]:
  """Gives the crops, which are the same for every seed; says what they are not."""

  @functools.cache
  def load() -> crops.Crops:
    config = this.config
    if config.dataset == 'figures':
      this.progress.print(rendered.NOTE)
      return rendered.figures(config.figures, config.figures // 4, config.size, 0)
    sets = _READERS[config.dataset](config.data_dir)
    if sets.left_out:
      this.progress.print(f'left out: {sets.left_out:,} people whose joints tell no place or size')
    name = metric(sets.validation)
    if not (THRESHOLDS[name][0](sets.validation) > 0).any():
      raise ValueError(
        f'--data_dir={config.data_dir}: nobody to validate with has the joints that {name} needs'
      )
    workers = os.cpu_count() if config.workers is None else config.workers
    found = crops.load(sets, config.size, workers, this.progress.print, this.progress)
    return this.enter(contextlib.closing(found))

  return lambda seed: load()
