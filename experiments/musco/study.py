"""One row a network: compressed in a shot or in passes, fine-tuned by as many updates in all."""

import pathlib
import re
import time
from collections.abc import Callable, Mapping

from flax import nnx

import tnjax as tn
from experiments.classifier import study
from experiments.classifier.seeded import Seeded
from experiments.common import grid, job, results, train
from experiments.common.classification import Later, cross_entropy
from experiments.common.data_folder import Data
from experiments.musco import config, figures

_CLOSE = 0.01  # of multiply-adds: how near the rival of EVBMF has to come
_KEYS = ('study', 'value', 'passes')


class Study(study.Study):
  """A row a study, ratio and number of passes."""

  FILES = ('report.json', 'summary.csv', *figures.FILES)
  NUMBERS = ('value', 'passes', 'kernel_params_ratio', 'macs_ratio', 'accuracy', 'updates')

  def __init__(self, this: job.Job, load: Callable[[int], Data]):
    super().__init__(this, load, this.config.settings())

  def finish(self) -> None:
    """Writes the report, the summary and the figures of the rows there are."""
    rows = self.report['rows']
    self._grid.write()
    shown = [{k: v for k, v in row.items() if k not in ('path', 'ranks')} for row in rows]
    results.write_csv(self._folder / 'summary.csv', grid.summarised(shown, _KEYS))
    figures.draw(self._folder, self.report)

  def summary(self) -> str:
    """A line a row."""
    rows = grid.summarised(self.report['rows'], _KEYS)
    lines = [line(row) for row in rows]
    return '\n'.join([*lines, f'wrote {self._job.workdir}/{", ".join(self.FILES)}'])

  def _row(self, study: str, value: float, passes: int, seed: int) -> dict:
    """Compresses and fine-tunes one network."""
    seeded = self._baselines.at(seed)
    schedule = self._schedule(seeded, study, value, passes)
    name, begun = _name(study, value, passes, seed), time.monotonic()
    done = tn.compression.iterate(
      seeded.model,
      schedule,
      _FineTuning(self._job, seeded, len(schedule.steps), name),
      lambda model: seeded.accuracy(model, seeded.dataset.validation),
      input_shape=seeded.dataset.image_shape,
      checkpoint=self._state(name),
      on_step=lambda row: self._told(name, row),
    )
    found = self._facts(seeded, done, schedule)
    return found | {'train_seconds': round(time.monotonic() - begun, 3)}

  def _schedule(
    self, seeded: Seeded, study: str, value: float, passes: int
  ) -> tn.compression.Schedule:
    """What a row does."""
    groups = self._config.groups
    if study == 'rate':
      return config.gradual(groups, value, passes)
    if passes:
      return config.evbmf(groups, value, passes)
    own = {'study': study, 'value': value, 'seed': seeded.seed}
    before = next(row for row in self._grid.rows if own.items() <= row.items())
    image, ratio = seeded.dataset.image_shape, before['macs_ratio']
    rules = rules_for(seeded.model, tuple(before['ranks']), image, ratio)
    return config.shot(groups, rules)

  def _facts(
    self, seeded: Seeded, done: tn.compression.Iteration, schedule: tn.compression.Schedule
  ) -> dict:
    """Sizes of the last network beside those before compression, accuracies, and the way there."""
    before, after = tn.compression.walk(seeded.model), tn.compression.walk(done.model)
    groups = re.compile('|'.join(self._config.groups))
    own = [path for path in before if groups.fullmatch(path)]
    stored = sum(after[path].stored for path in own)
    places = {path: after[path] for path in own if after[path].factorised}
    first, last = done.steps[0].report, done.steps[-1].report
    return {
      'params': last.params,
      'kernel_params': stored,
      'kernel_params_ratio': stored / sum(before[path].stored for path in own),
      'params_ratio': last.params / first.dense_params,
      'macs_ratio': last.macs / first.dense_macs,
      'ranks': {path: list(place.layer.parametrization.ranks) for path, place in places.items()},
      'accuracy': seeded.accuracy(done.model, seeded.dataset.test),
      'accuracy_validation': done.steps[-1].accuracy,
      'updates': sum(
        len(config.share(self._config.updates, len(schedule.steps), s.step.index))
        for s in done.steps
        if s.step.paths
      ),
      'steps_not_tuned': sum(not s.tuned and bool(s.step.paths) for s in done.steps),
      'path': [point(s) for s in done.steps],
    }

  def _told(self, name: str, row: tn.compression.StepReport) -> None:
    self._job.progress.print(
      f'{name}: pass {row.step.repetition + 1}, {row.step.group}: {len(row.step.paths)} layers, '
      f'{row.report.params:,} parameters, validation {row.accuracy_before:.2%} -> '
      f'{row.accuracy_compressed:.2%} -> {row.accuracy:.2%}'
    )

  def _done(self, row: Mapping) -> None:
    name = _name(row['study'], row['value'], row['passes'], row['seed'])
    self._state(name).unlink(missing_ok=True)  # the row is saved
    self._job.progress.print(line(row))

  def _state(self, name: str) -> pathlib.Path:
    return self._folder / 'state' / f'{name}.safetensors'


class _FineTuning:
  """`fine_tune` of `iterate`: an equal part of the updates after every step."""

  def __init__(self, this: job.Job, seeded: Seeded, steps: int, name: str):
    self._job, self._seeded, self._steps, self._name = this, seeded, steps, name

  def __call__(self, model: nnx.Module, step: tn.compression.Step) -> nnx.Module:
    """The model, trained on."""
    own = config.share(self._job.config.updates, self._steps, step.index)
    optimizer = self._seeded.optimizer(len(own), self._job.config.learning_rate)
    settings = train.Settings(len(own), optimizer, self._seeded.seed)
    batches = Later(self._seeded.batches, own.start)
    train.fit(model, cross_entropy, batches, settings, self._job.progress, self._name)
    return model


def rules_for(
  model: nnx.Module, paths: tuple[str, ...], input_shape: tuple[int, ...], macs_ratio: float
) -> tuple[tuple[str, tn.schemes.Scheme], ...]:
  """Rules of one shot on these layers whose network takes `macs_ratio` of the multiply-adds (1 %).

  A rate is found by bisection. Ranks are whole numbers, and of one rate all layers of a shape have
  the same, so the next larger ones are given to as many layers as come nearest, from the first on.

  Raises:
    ValueError: none comes as near as that.
  """

  def rules(low: float, high: float, count: int) -> tuple:
    rates = [high] * count + [low] * (len(paths) - count)
    return tuple((re.escape(p), tn.schemes.tk(rate=rate)) for p, rate in zip(paths, rates))

  def off(given: tuple) -> float:
    return tn.compression.plan(model, given, input_shape=input_shape).macs_ratio / macs_ratio - 1

  low, high = 1e-6, 1.0
  for _ in range(30):
    rate = (low + high) / 2
    low, high = (rate, high) if off(rules(rate, rate, 0)) < 0 else (low, rate)
  best = min((rules(low, high, k) for k in range(len(paths) + 1)), key=lambda r: abs(off(r)))
  if abs(off(best)) > _CLOSE:
    raise ValueError(
      f'no ranks of one shot take {macs_ratio:.4f} of the multiply-adds within {_CLOSE:.0%}; the '
      f'nearest are {abs(off(best)):.1%} off'
    )
  return best


def _name(study: str, value: float, passes: int, seed: int) -> str:
  return f'{study}_{value:g}_{passes}_seed{seed}'


def point(row: tn.compression.StepReport) -> dict:
  """A step on the way, as the report has it."""
  report = row.report
  return {
    'pass': row.step.repetition + 1,
    'group': row.step.group,
    'layers': len(row.step.paths),
    'params': report.params,
    'macs': report.macs,
    'accuracy_before': row.accuracy_before,
    'accuracy_compressed': row.accuracy_compressed,
    'accuracy': row.accuracy,
    'tuned': row.tuned,
  }


def line(row: Mapping) -> str:
  """A row in one line."""
  how = f'{row["passes"]} passes' if row['passes'] else 'one shot'
  what = f'{row["value"]:g}x' if row['study'] == 'rate' else f'EVBMF {row["value"]:g}'
  spread = f' ± {row["accuracy_std"]:.2%}' if 'accuracy_std' in row else ''
  return (
    f'{what:>9} {how:>8}: {row["kernel_params_ratio"]:6.1%} of the kernels, '
    f'{row["macs_ratio"]:6.1%} of the multiply-adds, accuracy {row["accuracy"]:.2%}{spread}'
  )
