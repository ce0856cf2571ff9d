"""The people that the settings name, as crops."""

import contextlib
import functools
import os
from collections.abc import Callable

from experiments.common import job
from experiments.pose import crops, leeds, mpii, rendered
from experiments.pose.people import Sets
from experiments.pose.seeded import THRESHOLDS, metric

_READERS = {'lspet': leeds.lspet, 'lsp': leeds.lsp, 'mpii': mpii.mpii}


def loader(this: job.Job) -> Callable[[int], crops.Crops]:
  """Reads who there is, and gives their crops, which are the same for every seed; images are not
  decoded before they are asked for. Says what the crops are not.

  Raises:
    FileNotFoundError, ValueError: a file is missing or damaged, or there is nobody to measure.
  """
  config = this.config
  sets = None if config.dataset == 'figures' else _sets(this)

  @functools.cache
  def load() -> crops.Crops:
    if sets is None:
      this.progress.print(rendered.NOTE)
      return rendered.figures(config.figures, config.figures // 4, config.size, 0)
    workers = os.cpu_count() if config.workers is None else config.workers
    found = crops.load(sets, config.size, workers, this.progress.print, this.progress)
    return this.enter(contextlib.closing(found))

  return lambda seed: load()


def _sets(this: job.Job) -> Sets:
  found = _READERS[this.config.dataset](this.config.data_dir)
  if found.left_out:
    this.progress.print(f'left out: {found.left_out:,} people whose joints tell no place or size')
  name = metric(found.validation)
  if not (THRESHOLDS[name][0](found.validation) > 0).any():
    raise ValueError(
      f'--data_dir={this.config.data_dir}: nobody to validate with has the joints that {name} needs'
    )
  return found
