"""How long a layer takes before and after, expected and measured on this device."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from flax import nnx

from tnjax.compression._walk import Place
from tnjax.nn import compute_dtype
from tnjax.schemes import Parametrization, Scheme

_BATCH = 32
_ROUNDS = 5
_ENOUGH = 0.3  # seconds: quick layers take more turns


class Times:
  """Seconds that the calls of a layer take with a batch of 32, now and as a scheme would store it.

  Args:
    measure: whether to run them too, with random values: of what is stored shapes are enough.
  """

  def __init__(self, measure: bool):
    self._measure = measure
    self._known: dict[tuple, list[float]] = {}

  def of(
    self,
    place: Place,
    scheme: Scheme | None,
    bound: Parametrization,
    calls: Mapping[tuple[int, ...], float] | None,
  ) -> dict[str, float]:
    """The fields of a `LayerReport`, as far as they are known.

    Nothing where the calls, or how many they are, are not; nothing of look-ups, whose time the
    planner does not know; nothing measured of a stack, which is no layer to be called, nor without
    a scheme of the layer's own.
    """
    layer, kind = place.layer, place.kind
    if not calls or math.inf in calls.values():
      return {}
    forecasts = {shape: kind.forecast(layer, bound, shape) for shape in calls}
    if any(found.seconds is None for found in forecasts.values()):
      return {}
    before = {shape: found.dense_seconds for shape, found in forecasts.items()}
    if place.factorised:
      own = layer.parametrization
      before = {shape: kind.forecast(layer, own, shape).seconds for shape in calls}
    found = {
      'seconds': sum(n * forecasts[shape].seconds for shape, n in calls.items()),
      'dense_seconds': sum(n * before[shape] for shape, n in calls.items()),
    }
    if self._measure and scheme is not None and not kind.stack_shape(layer):
      both = [self._seconds((kind.abstract(layer, scheme), layer), shape) for shape in calls]
      found['measured_seconds'], found['measured_dense_seconds'] = (
        sum(n * seconds[i] for n, seconds in zip(calls.values(), both)) for i in range(2)
      )
    return found

  def _seconds(self, layers: Sequence[nnx.Module], call: Sequence[int]) -> list[float]:
    """As `measure`; layers that are alike are measured once."""
    split = [nnx.split(layer) for layer in layers]
    arrays = [(a.shape, str(a.dtype)) for a in jax.tree.leaves([state for _, state in split])]
    key = (*(graphdef for graphdef, _ in split), *arrays, *call)
    if key not in self._known:
      self._known[key] = measure(layers, call)
    return self._known[key]


def measure(layers: Sequence[nnx.Module], call: Sequence[int]) -> list[float]:
  """Seconds of a forward pass of each layer, compiled, with a batch of 32 inputs of shape `call`.

  The layers take turns, and of each the shortest is taken, of five or more.
  """
  rng = np.random.default_rng(0)
  runs = [_run(layer, (_BATCH * call[0], *call[1:]), rng) for layer in layers]
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
