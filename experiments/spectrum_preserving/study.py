"""Accuracy of a compressed network: every scheme, rate, seed and method, one report row each."""

import functools
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flax import nnx

import tnjax as tn
from experiments.classifier import study
from experiments.common import grid, job, results
from experiments.common.data import Dataset, Split
from experiments.spectrum_preserving import accounting, figures, table, training
from experiments.spectrum_preserving.config import Config
from experiments.spectrum_preserving.question import answer

_NESTED = ('ranks', 'phases', 'curve')
_KEYS = ('scheme', 'rate', 'method')


class Start(NamedTuple):
  """Where the methods of a scheme, rate and seed start from."""

  model: nnx.Module
  facts: dict


def check(config: Config, model: nnx.Module, epoch: int) -> None:
  """Plans every row, so that what does not fit is told before any work.

  Raises:
    ValueError: a scheme or pattern that fits no layer, a rate at which a scheme would save
      nothing or that is out of its reach, or too few updates.
  """
  for method in config.methods:
    training.plan(config, method, len(training.stages(model)), epoch)
  for scheme in config.schemes:
    for rate in config.rates:
      found = tn.compression.plan(model, _rules(config, scheme, rate))
      if not found.compressed:
        reason = next(row.reason for row in found.layers if row.reason)
        raise ValueError(f'--rates={rate:g} with {scheme} compresses no layer: {reason}')
      ranks = [layer.ranks for layer in found.compressed]
      accounting.check_reach(scheme, rate, ranks, found.kernel_params_ratio)


class Study(study.Study):
  """A row a scheme, rate, seed and method."""

  FILES = ('report.json', 'summary.csv', *figures.FILES)
  NUMBERS = ('rate', 'kernel_params_ratio', 'accuracy', 'accuracy_decomposed', 'cost', 'updates')
  ABOUT = ('study', 'dataset', 'model')

  def __init__(self, this: job.Job, load: Callable[[int], Dataset]):
    config = this.config
    # Seeds inside, so that all of them use a scheme's programs while these are at hand.
    axes = {'scheme': config.schemes, 'rate': config.rates, 'seed': config.seeds}
    super().__init__(this, load, grid.product(**axes, method=config.methods))
    self._start = functools.lru_cache(maxsize=1)(self._decomposed)

  def finish(self) -> None:
    """Writes the report with its answer, the summary and the figures of the rows there are."""
    rows = self.report['rows']
    self.report['question'] = answer(rows)
    self._grid.write()
    shown = [{k: v for k, v in row.items() if k not in _NESTED} for row in rows]
    results.write_csv(self._folder / 'summary.csv', grid.summarised(shown, _KEYS))
    figures.draw(self._folder, self.report)

  def summary(self) -> str:
    """The answer as tables, and where the files are."""
    return f'{table.answered(self.report)}\nwrote {self._job.workdir}/{", ".join(self.FILES)}'

  def _row(self, scheme: str, rate: float, seed: int, method: str) -> dict:
    """Trains a decomposed network, measuring on the way."""
    config, seeded, start = self._config, self._baselines.at(seed), self._start(scheme, rate, seed)
    epoch, parts = seeded.batches.steps(1), len(training.stages(start.model))
    spent = training.plan(config, method, parts, epoch)
    first = _first(seeded.dataset.test, config.curve_images)
    curve = training.Curve(
      spent.updates, config.points, lambda model: seeded.accuracy(model, first)
    )
    name, begun = f'{scheme}_{rate:g}_seed{seed}', time.monotonic()
    model, phases = training.run(self._job, seeded, start.model, spent, curve, name)
    return start.facts | {
      'accuracy': seeded.accuracy(model, seeded.dataset.test),
      'updates': spent.updates,
      'cost': curve.cost,
      'phases': phases,
      'curve': curve.points,
      'train_seconds': round(time.monotonic() - begun, 3),
    }

  def _decomposed(self, scheme: str, rate: float, seed: int) -> Start:
    """The network compressed, which all methods start from, and what a row says of it."""
    seeded = self._baselines.at(seed)
    rules = _rules(self._config, scheme, rate)
    model, made, seconds = seeded.compress(rules, f'{scheme}_{rate:g}')
    names = ('params', 'kernel_params', 'kernel_params_ratio', 'macs_ratio', 'relative_error')
    facts = {name: getattr(made, name) for name in names} | {
      'ranks': {layer.path: list(layer.ranks) for layer in made.compressed},
      'decompose_seconds': round(seconds, 3),
      'accuracy_decomposed': seeded.accuracy(model, seeded.dataset.test),
    }
    return Start(model, facts)

  def _done(self, row: Mapping) -> None:
    self._job.progress.print(
      f'{row["scheme"]:>5} {row["rate"]:5.1%} seed {row["seed"]} {row["method"]:>7}: '
      f'{row["kernel_params_ratio"]:6.1%} of the kernels, accuracy '
      f'{row["accuracy_decomposed"]:.2%} -> {row["accuracy"]:.2%} in {row["train_seconds"]:.0f} s'
    )


def _rules(config: Config, scheme: str, rate: float) -> tuple:
  return ((config.layers, tn.schemes.by_name(scheme, rate)),)


def _first(split: Split, count: int | None) -> Split:
  return Split(split.images[:count], split.labels[:count])
