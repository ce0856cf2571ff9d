"""One row a network: compressed in a shot or in passes, fine-tuned by as many updates in all."""

import math
import pathlib
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from flax import nnx

import tnjax as tn
from experiments.classifier import study
from experiments.classifier.seeded import Seeded
from experiments.common import grid, job, results, train
from experiments.common.classification import Later, cross_entropy
from experiments.common.data_folder import Data
from experiments.musco import config, figures

_CLOSE = 0.01  # of multiply-adds
_HALVINGS = 14  # of a rate between 1e-4 and 1
_KEYS = ('study', 'value', 'passes')


class Study(study.Study):
  """A row a study, ratio and number of passes."""

  FILES = ('report.json', 'summary.csv', *figures.FILES)
  NUMBERS = ('value', 'passes', 'kernel_params_ratio', 'macs_ratio', 'accuracy', 'updates')

  def __init__(self, this: job.Job, load: Callable[[int], Data]):
    super().__init__(this, load, this.config.settings())
    self._known = {}

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
    rival = study == 'evbmf' and not passes  # has those that steps without a change did not use
    updates = self._rival(value, seed)['updates'] if rival else self._config.updates
    self._check_state(name, seeded.model)
    done = tn.compression.iterate(
      seeded.model,
      schedule,
      _FineTuning(self._job, seeded, len(schedule.steps), name, updates),
      lambda model: seeded.accuracy(model, seeded.dataset.validation),
      input_shape=seeded.dataset.image_shape,
      checkpoint=self._state(name),
      on_step=lambda row: self._told(name, row),
    )
    found = self._facts(seeded, done, schedule, updates)
    return found | {'train_seconds': round(time.monotonic() - begun, 3)}

  def _schedule(
    self, seeded: Seeded, study: str, value: float, passes: int
  ) -> tn.compression.Schedule:
    """What a row does."""
    groups = self._config.groups
    if study == 'evbmf' and passes:
      return config.evbmf(groups, value, passes)
    if study == 'evbmf':
      rival = self._rival(value, seeded.seed)
      return config.gradual(groups, *self._near(seeded, rival['macs_ratio'], rival['ranks']), 0)
    pattern = re.compile('|'.join(groups))
    paths = [path for path in tn.compression.walk(seeded.model) if pattern.fullmatch(path)]
    return config.gradual(groups, *self._near(seeded, 1 / value, paths), passes)

  def _near(self, seeded: Seeded, macs_ratio: float, paths: Iterable[str]) -> tuple:
    """As `rules_for`, which takes seconds."""
    key = macs_ratio, tuple(paths)
    if key not in self._known:
      image = seeded.dataset.image_shape
      self._known[key] = rules_for(seeded.model, key[1], image, macs_ratio)
    return self._known[key]

  def _rival(self, value: float, seed: int) -> dict:
    """The row of passes by EVBMF, which one shot is to equal."""
    own = {'study': 'evbmf', 'value': value, 'seed': seed}
    return next(row for row in self._grid.rows if own.items() <= row.items())

  def _facts(
    self,
    seeded: Seeded,
    done: tn.compression.Iteration,
    schedule: tn.compression.Schedule,
    updates: int,
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
        len(config.share(updates, len(schedule.steps), s.step.index))
        for s in done.steps
        if s.step.paths
      ),
      'steps_not_tuned': sum(not s.tuned and bool(s.step.paths) for s in done.steps),
      'path': [point(s) for s in done.steps],
    }

  def _check_state(self, name: str, model: nnx.Module) -> None:
    """A row whose checkpoint is damaged starts over."""
    path = self._state(name)
    if path.is_file():
      try:
        tn.load(path, model=model)
      except ValueError as error:
        self._job.progress.print(f'{name} starts over: {" ".join(str(error).split())}')
        path.unlink()

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

  def __init__(self, this: job.Job, seeded: Seeded, steps: int, name: str, updates: int):
    self._job, self._seeded, self._steps, self._name = this, seeded, steps, name
    self._updates = updates

  def __call__(self, model: nnx.Module, step: tn.compression.Step) -> nnx.Module:
    """The model, trained on."""
    own = config.share(self._updates, self._steps, step.index)
    optimizer = self._seeded.optimizer(len(own), self._job.config.learning_rate)
    settings = train.Settings(len(own), optimizer, self._seeded.seed)
    batches = Later(self._seeded.batches, own.start)
    train.fit(model, cross_entropy, batches, settings, self._job.progress, self._name)
    return model


def rules_for(
  model: nnx.Module, paths: Sequence[str], input_shape: tuple[int, ...], macs_ratio: float
) -> tuple[float, tuple[tuple[str, tn.schemes.Scheme], ...]]:
  """A rate, and rules near it whose network takes `macs_ratio` of the multiply-adds.

  Of one rate all layers of a shape have the same ranks, and a step of them all is a large one. So
  from the largest rate that takes no more, single ranks are raised by one, those first that cost
  most, as long as there is room.
  """

  def planned(ranks: Mapping[str, tuple[int, ...]]) -> tn.compression.Report:
    rules = tuple((re.escape(path), tn.schemes.tk(ranks=own)) for path, own in ranks.items())
    return tn.compression.plan(model, rules, input_shape=input_shape)

  def at(rate: float) -> tn.compression.Report:
    rules = tuple((re.escape(path), tn.schemes.tk(rate=rate)) for path in paths)
    return tn.compression.plan(model, rules, input_shape=input_shape)

  low, high = 1e-4, 1.0
  for _ in range(_HALVINGS):
    rate = math.sqrt(low * high)
    low, high = (rate, high) if at(rate).macs_ratio <= macs_ratio else (low, rate)
  start = at(low)
  ranks = {row.path: row.ranks for row in start.compressed}
  before = {row.path: row.macs for row in start.layers}
  raised = []
  for more in ((1, 1), (1, 0), (0, 1)):
    wanted = {path: tuple(r + m for r, m in zip(own, more)) for path, own in ranks.items()}
    for row in planned(wanted).layers:
      if row.path in ranks and row.macs > before[row.path]:
        raised.append((row.macs - before[row.path], row.path, wanted[row.path]))
  room, done = macs_ratio * start.dense_macs - start.macs, set()
  for cost, path, own in sorted(raised, reverse=True):
    if cost <= room and path not in done:
      room, ranks[path] = room - cost, own
      done.add(path)
  return low, tuple((re.escape(path), tn.schemes.tk(ranks=own)) for path, own in ranks.items())


def reachable(config: config.Config, model: nnx.Module, input_shape: tuple[int, ...]) -> None:
  """Raises ValueError for a ratio that the layers cannot come near to by their ranks."""
  pattern = re.compile('|'.join(config.groups))
  paths = [path for path in tn.compression.walk(model) if pattern.fullmatch(path)]
  for ratio in config.ratios if 'rate' in config.studies else ():
    _, rules = rules_for(model, paths, input_shape, 1 / ratio)
    found = tn.compression.plan(model, rules, input_shape=input_shape).macs_ratio * ratio
    if abs(found - 1) > _CLOSE:
      raise ValueError(
        f'--ratios={ratio:g}: the layers of --groups cannot take the network to that; the nearest '
        f'is {ratio / found:.3g}x fewer multiply-adds'
      )


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
