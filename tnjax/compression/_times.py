"""How long a layer takes before and after, expected and measured on this device."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from tnjax.compression._report import LayerReport, Report
from tnjax.compression._rules import Job, row_of
from tnjax.compression._trace import Calls
from tnjax.compression._walk import Place
from tnjax.nn import compute_dtype
from tnjax.schemes import Parametrization, expansion

OBJECTIVES = ('params', 'time')
_BATCH = 32
_ROUNDS = 5
_ENOUGH = 0.3  # seconds: quick layers take more turns


def check_objective(objective: str, measure: bool, input_shape: Sequence[int] | None) -> None:
  """Raises ValueError for an unknown objective, or where times would be of inputs of no shape."""
  if objective not in OBJECTIVES:
    raise ValueError(f'objective={objective!r} must be one of {", ".join(OBJECTIVES)}')
  if (measure or objective == 'time') and input_shape is None:
    what = 'measure=True' if measure else "objective='time'"
    raise ValueError(f'input_shape=None: {what} needs the shape of one input, without batch')


def timed(
  jobs: Mapping[str, Job], report: Report, calls: Calls, objective: str, measure: bool
) -> tuple[dict[str, Job], Report]:
  """The jobs that the objective leaves, and the report with the seconds of their layers.

  Args:
    jobs, report: of `make_jobs`.
    calls: as there.
    objective: for 'time', jobs whose layers would take longer, in all, go.
    measure: whether to run the layers too, with random values: of what is stored shapes are enough.
      Not those of stacks and joint tensors, which are no layers by themselves, nor look-ups.
  """
  clock, kept = _Clock(), {}
  rows = {row.path: row for row in report.layers}
  for path, job in jobs.items():
    found = {place.path: _expected(place, job, calls.get(place.path)) for place in job.places}
    if measure and not job.joint:
      for place in job.places:
        found[place.path] |= clock.seconds(place, job, calls.get(place.path))
    timed = {p: dataclasses.replace(rows[p], **seconds) for p, seconds in found.items()}
    ratio = _ratio_of(timed.values())
    if objective == 'time' and ratio is not None and ratio > 1:
      reason = f'{job.scheme.name} would take {ratio:.2f} times as long'
      for place in job.places:
        rows[place.path] = row_of(place, None, reason, calls.get(place.path))
    else:
      kept[path] = job
      rows |= timed
  saved = sum(row.dense_params - row.params for row in rows.values())
  layers = tuple(rows.values())
  return kept, Report(layers, report.dense_params - saved, report.dense_params)


def _ratio_of(rows: Iterable[LayerReport]) -> float | None:
  """Time after over before of several layers; None where that of one is not known."""
  pairs = [row.times for row in rows]
  return None if None in pairs else sum(a for a, _ in pairs) / sum(b for _, b in pairs)


def _expected(
  place: Place, job: Job, calls: Mapping[tuple[int, ...], float] | None
) -> dict[str, float]:
  """By the planner; nothing where the calls, or how many they are, are not known, or a time."""
  if not calls or math.inf in calls.values():
    return {}
  layer, kind = place.layer, place.kind
  after = {shape: kind.forecast(layer, job.of_layer, shape) for shape in calls}
  if any(found.seconds is None for found in after.values()):
    return {}
  before = {shape: found.dense_seconds for shape, found in after.items()}
  if place.factorised:
    own = layer.parametrization
    before = {shape: kind.forecast(layer, own, shape).seconds for shape in calls}
  whole = job.parametrization if job.joint and place is job.place else None
  return {
    'seconds': _once(place, whole) + sum(n * after[shape].seconds for shape, n in calls.items()),
    'dense_seconds': _once(place, place.joint) + sum(n * before[s] for s, n in calls.items()),
  }


def _once(place: Place, joint: Parametrization | None) -> float:
  """Seconds for the architecture's modes of a joint tensor, which all its layers share."""
  return expansion(joint, compute_dtype(place.layer))[1] if joint else 0.0


class _Clock:
  """Times layers; those that are alike once."""

  def __init__(self):
    self._known: dict[tuple, list[float]] = {}

  def seconds(
    self, place: Place, job: Job, calls: Mapping[tuple[int, ...], float] | None
  ) -> dict[str, float]:
    """Of all calls of a layer, now and by a job; nothing where it cannot be called by itself."""
    layer, kind = place.layer, place.kind
    if not calls or math.inf in calls.values() or kind.stack_shape(layer):
      return {}
    if kind.forecast(layer, job.parametrization, next(iter(calls))).seconds is None:
      return {}  # a look-up, which takes ids
    layers = kind.abstract(layer, job.scheme), layer
    both = [self._measured(layers, shape) for shape in calls]
    after, before = (
      sum(n * seconds[i] for n, seconds in zip(calls.values(), both)) for i in range(2)
    )
    return {'measured_seconds': after, 'measured_dense_seconds': before}

  def _measured(self, layers: Sequence[nnx.Module], call: Sequence[int]) -> list[float]:
    split = [nnx.split(layer) for layer in layers]
    arrays = [(a.shape, str(a.dtype)) for a in jax.tree.leaves([state for _, state in split])]
    key = (*(graphdef for graphdef, _ in split), *arrays, *call)
    if key not in self._known:
      self._known[key] = measured(layers, call)
    return self._known[key]


def measured(layers: Sequence[nnx.Module], call: Sequence[int]) -> list[float]:
  """Seconds of a forward pass of each layer, compiled, with a batch of 32 inputs of shape `call`.

  The layers take turns, and of each the shortest is taken, of five or more.
  """
  rng = np.random.default_rng(0)
  runs = [_run(layer, (_BATCH, *call), rng) for layer in layers]
  for run in runs:  # compiles
    run()
  turns: list[list[float]] = []
  while len(turns) < _ROUNDS or sum(map(sum, turns)) < _ENOUGH:
    turns.append([_seconds(run) for run in runs])
  return [min(own) for own in zip(*turns)]


def _run(
  layer: nnx.Module, shape: tuple[int, ...], rng: np.random.Generator
) -> Callable[[], object]:
  graphdef, state = nnx.split(layer)
  state = jax.tree.map(lambda like: _values(like, rng), state)
  x = jax.device_put(rng.standard_normal(shape, 'float32')).astype(compute_dtype(layer))
  forward = jax.jit(lambda state, x: nnx.merge(graphdef, state)(x))
  return lambda: jax.block_until_ready(forward(state, x))


def _seconds(run: Callable[[], object]) -> float:
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def _values(like: jax.Array | jax.ShapeDtypeStruct, rng: np.random.Generator) -> jax.Array:
  """Random entries; of ints a permutation, as a shuffle's index is one."""
  if np.issubdtype(like.dtype, np.integer):
    order = rng.permutation(math.prod(like.shape)).reshape(like.shape)
    return jax.device_put(order.astype(like.dtype))
  return jax.device_put(rng.standard_normal(like.shape, 'float32')).astype(like.dtype)
