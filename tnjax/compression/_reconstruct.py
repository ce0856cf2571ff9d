"""Sequential data reconstruction: a student's stages learn a teacher's outputs, one by one."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from tnjax.compression._stages import Stage, own_params, run
from tnjax.nn import copied
from tnjax.ops import integers

_ADAM = optax.adam(1e-3)
_SHORT = 1000  # updates
_AHEAD = 16  # updates that may be under way at once, each of which holds its batch


class Update(NamedTuple):
  """What `on_step` is told after an update.

  Attributes:
    stage: which one trains, from 0.
    step: updates of this stage so far.
    trained_params: entries of the parameters that it trains.
    loss: before the update, on the device: to look at it is to wait for it.
    student: gives a copy of the student as it is now; for use before the callback returns.
  """

  stage: int
  step: int
  trained_params: int
  loss: Array
  student: Callable[[], nnx.Module]


@dataclasses.dataclass(frozen=True)
class StageRecord:
  """One stage of a `Reconstruction`.

  Attributes:
    trained: '/'-joined paths of the parameters that were trained.
    trained_params: number of their entries.
    losses: before every update; NaN or infinite where training broke down.
  """

  trained: tuple[str, ...]
  trained_params: int
  losses: tuple[float, ...]

  @property
  def updates(self) -> int:
    """Number of updates."""
    return len(self.losses)


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """What `reconstruct` did, stage by stage."""

  stages: tuple[StageRecord, ...]

  @property
  def updates(self) -> int:
    """Number of updates of all stages."""
    return sum(stage.updates for stage in self.stages)

  @property
  def cost(self) -> int:
    """Sum of updates x trained parameters, by which the paper measures convergence."""
    return sum(stage.updates * stage.trained_params for stage in self.stages)


def reconstruct(
  student: nnx.Module,
  teacher: nnx.Module,
  stages: Sequence[Stage],
  batches: Iterable[Array] | Callable[[int], Array],
  steps: int | Sequence[int],
  *,
  optimizer: optax.GradientTransformation = _ADAM,
  on_step: Callable[[Update], object] | None = None,
) -> tuple[nnx.Module, Reconstruction]:
  """Trains a student's stages one after another to give a teacher's outputs; no labels.

  Stage b minimises the mean of (student's stages 0..b of x - teacher's stages 0..b of x)^2 over its
  own parameters: those it uses and no stage before it does. So what earlier stages have learnt
  feeds it and stays; whatever is no `nnx.Param`, such as the statistics of batch norm, stays too.
  A model is cut by functions of it, and need know nothing of that.

  Source: Su et al. 2018 (arXiv 1805.10352), sequential training ("Seq").

  Args:
    student: a compressed model, or any other; left unchanged.
    teacher: a model with the same stages, such as the one that was compressed; left unchanged.
    stages: functions stage(model, x) -> y, traced; the first takes inputs, every other what the
      one before gave. They evaluate: batch norm must use its moving statistics. What follows the
      last stage is not trained. The same functions again are not compiled again.
    batches: inputs, batch first, as many as there are updates: an iterable, or a function of the
      update's number, counted from 0 over all stages.
    steps: updates of every stage, or of each.
    optimizer: started afresh in each stage; default Adam at 1e-3.
    on_step: called with an `Update` after each, for a progress bar, a test, or to stop by raising.

  Returns:
    The trained student and a `Reconstruction`.

  Raises:
    ValueError: no models, no or other than such stages, stages whose outputs differ in shape or
      dtype between the two models, are no floats or use no parameters of their own, a weight that
      is not finite, an optimizer, steps or batches of another kind; all before any work. Batches
      that end early.

  >>> import tnjax as tn
  >>> teacher = nnx.Sequential(*(nnx.Linear(8, 8, rngs=nnx.Rngs(i)) for i in range(2)))
  >>> student, _ = tn.compress(teacher, (('.*', tn.schemes.svd(ranks=2)),))
  >>> stages = [lambda m, x, i=i: m.layers[i](x) for i in range(2)]
  >>> x = jax.random.normal(jax.random.key(0), (64, 8))
  >>> student, record = reconstruct(student, teacher, stages, itertools.repeat(x), 50)
  >>> [stage.losses[-1] < stage.losses[0] for stage in record.stages], record.updates
  ([True, True], 100)
  """
  stages = tuple(stages) if np.iterable(stages) else (stages,)
  if not isinstance(optimizer, optax.GradientTransformation):
    raise ValueError(f'optimizer={optimizer!r} must be of optax, such as optax.adam(1e-3)')
  steps = _steps(steps, len(stages))
  first, feed = _feed(batches)
  own = own_params(student, teacher, stages, first)
  made = _copy(*nnx.split(student))
  fixed_graph, fixed = nnx.split(teacher)
  records = []
  for index, (paths, count) in enumerate(zip(own, steps)):
    graph, params, rest = nnx.split(made, lambda path, _, paths=paths: path in paths, ...)
    step = _make_step(graph, fixed_graph, stages[: index + 1], optimizer, count < _SHORT)
    state, losses = (params, optimizer.init(params)), []
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    for i in range(count):
      state, loss = step(state, rest, fixed, _next(feed, sum(steps)))
      losses.append(loss)
      if i >= _AHEAD:
        losses[i - _AHEAD].block_until_ready()
      if on_step is not None:
        now = functools.partial(_copy, graph, state[0], rest)
        on_step(Update(index, i + 1, size, loss, now))
    nnx.update(made, state[0])
    losses = tuple(map(float, jax.device_get(losses)))
    records.append(StageRecord(_names(paths), size, losses))
  return made, Reconstruction(tuple(records))


@functools.lru_cache(maxsize=32)
def _make_step(
  student: nnx.GraphDef,
  teacher: nnx.GraphDef,
  stages: tuple[Stage, ...],
  optimizer: optax.GradientTransformation,
  short: bool,
) -> Callable:
  """The update of the last of the stages; made once for all students of the same structure."""
  # For few updates the compiler's last optimisations take longer than they save. Who has asked for
  # fewer still keeps that.
  fewer = jax.config.read('jax_disable_most_optimizations')
  quick = short and jax.default_backend() == 'cpu' and not fewer
  options = {'xla_backend_optimization_level': 1} if quick else None

  def value(params: nnx.State, rest: nnx.State, wanted: Array, inputs: Array) -> Array:
    found = run(nnx.merge(student, params, rest, copy=True), stages, inputs)
    return jnp.mean(jnp.square((found - wanted).astype(jnp.float32)))

  @functools.partial(jax.jit, donate_argnums=0, compiler_options=options)
  def step(state: tuple, rest: nnx.State, fixed: nnx.State, inputs: Array) -> tuple:
    params, moments = state
    wanted = run(nnx.merge(teacher, fixed, copy=True), stages, inputs)
    loss, gradient = jax.value_and_grad(value)(params, rest, wanted, inputs)
    updates, moments = optimizer.update(gradient, moments, params)
    return (optax.apply_updates(params, updates), moments), loss

  return step


def _steps(steps: int | Sequence[int], count: int) -> tuple[int, ...]:
  """Updates of each of `count` stages."""
  found = integers(steps, 'steps')
  found = found if np.iterable(steps) else found * count
  if len(found) != count:
    raise ValueError(f'steps={found} has {len(found)} entries; there are {count} stages')
  return found


def _feed(batches: Iterable[Array] | Callable[[int], Array]) -> tuple[Array, Iterator[Array]]:
  """The first batch, and all of them."""
  if not (callable(batches) or isinstance(batches, Iterable)):
    raise ValueError(
      f'batches is a {type(batches).__name__}; it must be an iterable of inputs, or a function of '
      "the update's number"
    )
  feed = map(batches, itertools.count()) if callable(batches) else iter(batches)
  first = next(feed, None)
  if not isinstance(first, jax.Array | np.ndarray):
    raise ValueError(f'batches gives a {type(first).__name__} first; it must give arrays of inputs')
  return first, itertools.chain([first], feed)


def _next(feed: Iterator[Array], total: int) -> Array:
  found = next(feed, None)
  if found is None:
    raise ValueError(f'batches ended early; {total} updates need as many (itertools.cycle repeats)')
  return found


def _copy(graph: nnx.GraphDef, *states: nnx.State) -> nnx.Module:
  return nnx.merge(graph, *jax.tree.map(copied, states))


def _names(paths: Sequence[tuple]) -> tuple[str, ...]:
  return tuple('/'.join(map(str, path)) for path in paths)
