"""Seq, E2E, and one after the other: a compressed network trained for so many updates."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import optax
from flax import nnx
from jax import Array

import tnjax as tn
from experiments.classifier.seeded import Seeded
from experiments.common import job, train
from experiments.common.classification import Batches, Later, cross_entropy
from experiments.spectrum_preserving.config import Config

_CHECK_EVERY = 20  # updates between looks at Seq's loss, each of which waits for the device


class Plan(NamedTuple):
  """Updates of a method: of Seq for each stage, none where it has no such part; then of E2E."""

  stages: tuple[int, ...]
  e2e: int

  @property
  def updates(self) -> int:
    """All of them."""
    return sum(self.stages) + self.e2e


def plan(config: Config, method: str, stages: int, epoch: int) -> Plan:
  """How a method spends the updates.

  Args:
    config: the settings.
    method: 'e2e', 'seq' or 'seq_e2e'.
    stages: of the network.
    epoch: updates in an epoch.

  Raises:
    ValueError: too few for every part to have one.

  >>> [plan(Config(updates=12), method, 3, 16) for method in ('e2e', 'seq', 'seq_e2e')]
  [Plan(stages=(), e2e=12), Plan(stages=(4, 4, 4), e2e=0), Plan(stages=(2, 2, 2), e2e=6)]
  """
  whole = config.updates
  first = {'e2e': 0, 'seq': whole, 'seq_e2e': whole // 2}[method]
  dealt = tuple(first // stages + (b < first % stages) for b in range(stages))
  rest = whole - first
  if config.stage_epochs is not None:
    dealt = (config.stage_epochs * epoch,) * stages
  if config.e2e_epochs is not None:
    rest = config.e2e_epochs * epoch
  found = Plan(() if method == 'e2e' else dealt, 0 if method == 'seq' else rest)
  if not all(found.stages) or found.updates == 0:
    raise ValueError(
      f'--updates={whole} leaves a part of --methods={method} without any; with {stages} stages it '
      f'needs at least {stages * (2 if method == "seq_e2e" else 1)}'
    )
  return found


def stages(model: nnx.Module) -> tuple[Callable, ...]:
  """The stages that Seq trains: those of a residual network, or hidden layers."""
  parts = next((p for p in ('stages', 'layers') if hasattr(model, p)), None)
  return _cut(type(model), len(getattr(model, parts)) if parts else 1)


@functools.cache
def _cut(kind: type[nnx.Module], count: int) -> tuple[Callable, ...]:
  """The same functions for every network of a kind, as Seq's programs are kept by them."""
  return tuple(functools.partial(kind.stage, index=b) for b in range(count))


class Curve:
  """Accuracy as training goes on, against updates and against updates x trained parameters.

  Args:
    updates: in all.
    points: how many to measure, at equal distances, the last at the end.
    measure: accuracy of a network.

  Attributes:
    points: what was measured.
  """

  def __init__(self, updates: int, points: int, measure: Callable[[nnx.Module], float]):
    self.points: list[dict] = []
    self._at = {math.ceil(updates * k / points) for k in range(1, points + 1)}
    self._measure = measure
    self._updates = self.cost = 0

  def step(self, trained: int, model: Callable[[], nnx.Module]) -> None:
    """Counts an update of so many parameters, and measures if it is time."""
    self._updates += 1
    self.cost += trained
    if self._updates in self._at:
      accuracy = self._measure(model())
      self.points.append({'updates': self._updates, 'cost': self.cost, 'accuracy': accuracy})


def run(
  this: job.Job, seeded: Seeded, student: nnx.Module, spent: Plan, curve: Curve, name: str
) -> tuple[nnx.Module, list[dict]]:
  """Trains a compressed network; it is left unchanged.

  Returns:
    The trained one, and of every phase its updates, trained parameters, first and last loss.

  Raises:
    FloatingPointError: the loss is not finite.
  """
  phases = []
  if spent.stages:
    student, record = _seq(this, seeded, student, spent.stages, curve, name)
    for stage in record.stages:
      losses = stage.losses[0], stage.losses[-1]
      phases.append(_phase('seq', stage.updates, stage.trained_params, *losses))
  if spent.e2e:
    student = nnx.clone(student)
    trained = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(student, nnx.Param)))
    batches = Later(seeded.batches, sum(spent.stages))
    _e2e(
      this, seeded.seed, batches, student, spent.e2e, functools.partial(curve.step, trained), name
    )
    phases.append(_phase('e2e', spent.e2e, trained))
  return student, phases


def _phase(
  method: str, updates: int, trained: int, first: float | None = None, last: float | None = None
) -> dict:
  return {
    'method': method, 'updates': updates, 'trained_params': trained, 'loss_first': first,
    'loss_last': last,
  }  # fmt: skip


def _seq(
  this: job.Job,
  seeded: Seeded,
  student: nnx.Module,
  steps: tuple[int, ...],
  curve: Curve,
  name: str,
) -> tuple[nnx.Module, tn.compression.Reconstruction]:
  with this.progress.task(f'{name} seq', sum(steps)) as advance:

    def on_step(update: tn.compression.Update) -> None:
      note = ''
      if update.step % _CHECK_EVERY == 0 or update.step == steps[update.stage]:
        loss = float(update.loss)
        if not math.isfinite(loss):
          raise FloatingPointError(
            f'{name}: the loss of stage {update.stage} is {loss}; lower --learning_rate'
          )
        note = f'stage {update.stage} loss {loss:.4f}'
      curve.step(update.trained_params, update.student)
      advance(1, note)

    return tn.compression.reconstruct(
      student,
      seeded.model,
      stages(student),
      _images(seeded.batches, seeded.seed),
      steps,
      optimizer=_adam(this.config.learning_rate).transform,
      on_step=on_step,
    )


def _e2e(
  this: job.Job,
  seed: int,
  batches: train.Batches,
  model: nnx.Module,
  steps: int,
  on_step: Callable[[Callable[[], nnx.Module]], object],
  name: str,
) -> None:
  config = this.config
  adam = config.optimizer == 'adam'
  optimizer = _adam(config.learning_rate) if adam else _sgd(steps, batches.size)
  settings = train.Settings(steps, optimizer, seed)
  train.fit(model, cross_entropy, batches, settings, this.progress, f'{name} e2e', on_step=on_step)


@functools.cache
def _adam(rate: float) -> train.Optimizer:
  """One object for one rate, as Seq's programs are kept by it."""
  return train.Optimizer(optax.adam(rate), lambda step: rate)


def _sgd(steps: int, batch: int) -> train.Optimizer:
  """The paper's for E2E: its 250 epochs fall to a tenth after 100, 150 and 200."""
  falls = {round(steps * part): 0.1 for part in (0.4, 0.6, 0.8)}
  rate = optax.piecewise_constant_schedule(0.1 * batch / 128, falls)
  transform = optax.chain(optax.add_decayed_weights(2e-4), optax.sgd(rate, momentum=0.9))
  return train.Optimizer(transform, rate)


@functools.lru_cache(maxsize=3)
def _images(batches: Batches, seed: int) -> Callable[[int], Array]:
  """Augmented images of an update, without their labels; what E2E's first updates would see too."""
  constants = jax.device_put(batches.constants)

  @jax.jit
  def prepare(constants: object, batch: Array, step: Array) -> Array:
    key = jax.random.fold_in(jax.random.key(seed), step)
    return batches.prepare(constants, batch, key)[0]

  return lambda step: prepare(constants, batches(step), step)
