"""How often every layer is called, and with what: from one abstract evaluation of the model."""

import functools
import itertools
import math
import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax import nn
from tnjax.compression._walk import weight_variables
from tnjax.ops import integers

# Per layer, the shapes (1, ...) of its inputs and how many times each; inf where that is open.
Calls = Mapping[str, Mapping[tuple[int, ...], float]]

_MARK = 'tnjax_call_'


def input_shapes(model: nnx.Module, input_shape: Sequence[int] | None) -> Calls:
  """Shapes (1, ...) of the inputs of every layer that has a factorised form, and how many of each.

  None of a model whose input's shape is not given.

  Nothing is computed. Layers are watched through a subclass, so that the model finds all their
  attributes in place; every call leaves a mark in the traced program, where a scan repeats it by
  its length and `vmap` by its axis. In a while loop the number is open (infinite), and of the
  branches of a `cond` the one that calls a layer most often counts.

  Raises:
    ValueError: the model does not take one array of shape (batch, *input_shape).
  """
  if input_shape is None:
    return {}
  input_shape = integers(input_shape, 'input_shape')
  marks: dict[str, tuple[str, tuple[int, ...]]] = {}
  graphdef, state = nnx.split(_watched(model, marks))

  def run(state: nnx.State, x: Array) -> list[Array]:
    probed = nnx.merge(graphdef, state)
    found = probed(x), nnx.state(probed)  # what only a Variable keeps is not dropped
    return [a for a in jax.tree.leaves(found) if isinstance(a, jax.Array)]

  failures = []
  for dtype in (jnp.float32, jnp.int32):  # values, or ids for an embedding
    marks.clear()
    try:
      traced = jax.make_jaxpr(run)(state, jax.ShapeDtypeStruct((1, *input_shape), dtype))
    except (TypeError, ValueError) as error:
      failures.append(error)
      continue
    seen: dict[str, dict[tuple[int, ...], float]] = {}
    for (path, shape), times in _counted(traced.jaxpr, marks).items():
      seen.setdefault(path, {})[shape] = times
    return seen
  raise ValueError(
    f'input_shape={input_shape} does not fit the model: {failures[0]}'
  ) from failures[0]


def _watched(model: nnx.Module, marks: dict[str, tuple[str, tuple[int, ...]]]) -> nnx.Module:
  """A copy of the model whose layers mark their calls."""
  kinds, numbers = nn.kinds(), itertools.count()
  probed = nnx.clone(model)

  @functools.cache
  def recording(kind: type) -> type:
    def call(self: nnx.Module, inputs: Array, *args: object, **kwargs: object) -> Array:
      name = f'{_MARK}{next(numbers)}'
      marks[name] = self.watched_path, jnp.shape(inputs)
      weight = next((v[...] for v in weight_variables(self).values()), inputs)
      inputs = _marked(name, jnp.asarray(inputs), weight)
      return kind.__call__(self, inputs, *args, **kwargs)

    return type(kind.__name__, (kind,), {'__call__': call})

  for parts, node in list(nnx.iter_graph(probed)):
    if type(node) in kinds:
      node.watched_path = '/'.join(map(str, parts))
      node.__class__ = recording(type(node))
  return probed


def _marked(name: str, x: Array, weight: Array) -> Array:
  """x through a named function, whose result has the axes along which either is batched."""

  def mark(x: Array, weight: Array) -> Array:
    return jnp.where(weight.any(), x, x)

  mark.__name__ = name
  return jax.jit(mark)(x, weight)


def _counted(
  jaxpr: Any, marks: Mapping[str, tuple[str, tuple[int, ...]]]
) -> Counter[tuple[str, tuple[int, ...]]]:
  """How many times every (path, shape) of `marks` is called in a program."""
  found: Counter = Counter()
  for step in jaxpr.eqns:
    if (name := step.params.get('name')) in marks:
      path, shape = marks[name]
      found[path, shape] += step.outvars[0].aval.size // max(1, math.prod(shape))
      continue
    kind = step.primitive.name
    inner = [_counted(body, marks) for body in _bodies(step.params)]
    total = functools.reduce(operator.or_ if kind == 'cond' else operator.add, inner, Counter())
    times = {'scan': step.params.get('length'), 'while': math.inf}.get(kind, 1)
    for call, count in total.items():
      found[call] += times * count
  return found


def _bodies(params: Mapping[str, Any]) -> Iterator[Any]:
  """The programs among the parameters of a step."""
  for value in params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, 'jaxpr', item)
      if hasattr(item, 'eqns'):
        yield item
