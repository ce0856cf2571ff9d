"""Training for any loss: pure pytrees under one jitted, donated step."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from experiments.common import mesh as devices
from experiments.common.checkpoint import Checkpoint
from experiments.common.metrics import Metrics
from experiments.common.progress import Progress

_CHECK_EVERY = 20  # steps between looks at the loss, each of which waits for the device

Loss = Callable[[nnx.Module, object, Array], tuple[Array, dict[str, Array]]]


class Batches(Protocol):
  """Where batches come from: the host picks or loads, the device prepares.

  Attributes:
    constants: arrays to keep on every device, such as a whole data set; () for none.
    size: of a batch.
  """

  constants: object
  size: int

  def __call__(self, step: int) -> object:
    """Host arrays of one step, batch first: data, or indices of it. A function of the step alone,
    so that a resumed run sees what it would have seen.
    """

  def prepare(self, constants: object, batch: object, key: Array) -> object:
    """What the loss is given; traced."""


class Optimizer(NamedTuple):
  """An optax transformation, and the learning rate of a step, for the record."""

  transform: optax.GradientTransformation
  rate: Callable[[int], Array]


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to train.

  Attributes:
    steps: number of updates.
    optimizer: see `adamw` for one.
    seed: of the keys that preparation and loss are given.
    trainable: nnx filter of the variables that are updated by gradients; of the others, those that
      the loss sets in its model (batch statistics) are kept.
  """

  steps: int
  optimizer: Optimizer
  seed: int
  trainable: object = nnx.Param


def adamw(steps: int, learning_rate: float, weight_decay: float) -> Optimizer:
  """AdamW, gradients clipped to norm 1.

  Args:
    steps: number of updates.
    learning_rate: peak, after a linear warm-up over a twentieth of the steps, with cosine decay to
      zero.
    weight_decay: decoupled, on arrays of order two and more.
  """
  warmup = max(1, steps // 20)
  rate = optax.warmup_cosine_decay_schedule(
    learning_rate / warmup, learning_rate, warmup, max(warmup + 1, steps)
  )

  def matrices(params: nnx.State) -> nnx.State:
    return jax.tree.map(lambda a: a.ndim > 1, params)

  transform = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=weight_decay, mask=matrices)
  )
  return Optimizer(transform, rate)


def fit(
  model: nnx.Module,
  loss: Loss,
  batches: Batches,
  settings: Settings,
  progress: Progress,
  name: str,
  checkpoint: Checkpoint | None = None,
  metrics: Metrics | None = None,
  mesh: Mesh | None = None,
  on_step: Callable[[Callable[[], nnx.Module]], object] | None = None,
) -> float:
  """Trains `model` in place; returns seconds spent.

  Args:
    model: handed to the loss.
    loss: loss(model, batch, key) -> (scalar, metrics); it decides whether the model trains or
      evaluates, and the batch is what `batches.prepare` gives.
    batches: see `Batches`.
    settings: see `Settings`.
    progress: shows the steps.
    name: of the task shown, and of the phase in `metrics`.
    checkpoint: where to save now and then, and to resume from.
    metrics: where to write loss, metrics and learning rate now and then.
    mesh: devices that share every batch.
    on_step: called after every update with a function that gives the model as it is then.

  Raises:
    FloatingPointError: the loss is not finite; `model` is then unchanged.
  """
  start = time.monotonic()
  graph, params, rest = nnx.split(nnx.clone(model, arrays=True), settings.trainable, ...)
  state = (params, rest, settings.optimizer.transform.init(params))
  first = 0
  if checkpoint is not None:
    state, first = checkpoint.restore(state)
    first = devices.agree(first)
  if metrics is not None:
    start -= metrics.resume(name, first)
  state = state if mesh is None else devices.replicate(mesh, state)
  constants = devices.replicate(mesh, batches.constants)
  key = devices.replicate(mesh, jax.random.key(settings.seed))
  step = make_step(graph, loss, batches.prepare, settings, mesh)
  note = ''
  with progress.task(name, settings.steps, first) as advance:
    advance(0, 'compiling')
    for i in range(first, settings.steps):
      state, *facts = step(state, constants, devices.shard(mesh, batches(i)), key, i)
      if i % _CHECK_EVERY == 0 or i + 1 == settings.steps:
        values = _values(*facts, i, name)
        note = f'loss {values["loss"]:.3f}'
        if metrics is not None:
          values['learning_rate'] = float(settings.optimizer.rate(i))
          metrics.append(name, i, **values, seconds=round(time.monotonic() - start, 3))
        if checkpoint is not None and i + 1 < settings.steps:
          checkpoint.save_if_due(state, i + 1)
      if on_step is not None:
        now = devices.local(mesh, state[:2])
        on_step(functools.partial(nnx.merge, graph, *now, copy=True))
      advance(1, note)
  params, rest, _ = devices.local(mesh, state)
  nnx.update(model, params, rest)
  return time.monotonic() - start


def make_step(
  graph: nnx.GraphDef,
  loss: Loss,
  prepare: Callable,
  settings: Settings,
  mesh: Mesh | None = None,
) -> Callable:
  """One update, compiled: step(state, constants, batch, key, count) -> (state, loss, metrics, size
  of the update); the state is (parameters, other variables, moments), and is given away.
  """
  optimizer = settings.optimizer.transform

  def value(params: nnx.State, rest: nnx.State, batch: object, key: Array) -> tuple:
    model = nnx.merge(graph, params, rest, copy=True)
    found, metrics = loss(model, batch, key)
    _, _, rest = nnx.split(model, settings.trainable, ...)
    return found, (rest, metrics)

  whole = None if mesh is None else devices.replicated(mesh)

  # For few steps the compiler's last optimisations take longer than they save. Who has asked for
  # fewer still keeps that.
  fewer = jax.config.read('jax_disable_most_optimizations')
  short = jax.default_backend() == 'cpu' and settings.steps < 100 and not fewer
  options = {'xla_backend_optimization_level': 1} if short else None

  @functools.partial(jax.jit, donate_argnums=0, out_shardings=whole, compiler_options=options)
  def step(state: tuple, constants: object, batch: object, key: Array, count: Array) -> tuple:
    params, rest, moments = state
    key = jax.random.fold_in(key, count)
    batch = prepare(constants, batch, key)
    grad = jax.value_and_grad(value, has_aux=True)
    (found, (rest, metrics)), gradient = grad(params, rest, batch, jax.random.fold_in(key, 1))
    updates, moments = optimizer.update(gradient, moments, params)
    size = jnp.sqrt(sum(jnp.vdot(u, u) for u in jax.tree.leaves(updates)))
    return (optax.apply_updates(params, updates), rest, moments), found, metrics, size

  return step


def _values(loss: Array, metrics: dict, update: Array, step: int, name: str) -> dict[str, float]:
  """Checks and returns: the loss tells of the parameters before the step, the update of those
  after it.
  """
  if not (np.isfinite(float(loss)) and np.isfinite(float(update))):
    raise FloatingPointError(
      f'{name}: the loss is {float(loss)} and the update {float(update)} at step {step}; lower '
      'the learning rate'
    )
  return {'loss': float(loss), **{key: float(value) for key, value in metrics.items()}}
