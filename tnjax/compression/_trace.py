"""Input shapes of every layer, from one abstract evaluation of the model."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from tnjax import nn
from tnjax.ops import integers


def input_shapes(
  model: nnx.Module, input_shape: Sequence[int] | None
) -> dict[str, list[tuple[int, ...]]]:
  """Shapes (1, ...) of the inputs of every layer that has a factorised form, one per call, by path.

  None of a model whose input's shape is not given.

  Nothing is computed. Layers are watched through a subclass, so that the model finds all their
  attributes in place.

  Raises:
    ValueError: the model does not take one array of shape (batch, *input_shape).
  """
  if input_shape is None:
    return {}
  input_shape = integers(input_shape, 'input_shape')
  kinds = nn.kinds()
  seen: dict[str, list[tuple[int, ...]]] = {}
  watched: dict[type, type] = {}

  def watch(parts: tuple, node: object) -> object:
    if type(node) in kinds:
      node.watched_path = '/'.join(map(str, parts))
      if type(node) not in watched:
        watched[type(node)] = _recording(type(node), seen)
      node.__class__ = watched[type(node)]
    return node

  probed = nnx.recursive_map(watch, nnx.clone(model))
  failures = []
  for dtype in (jnp.float32, jnp.int32):  # values, or ids for an embedding
    x = jax.ShapeDtypeStruct((1, *input_shape), dtype)
    try:
      nnx.eval_shape(lambda m, x: m(x), probed, x)
      return seen
    except (TypeError, ValueError) as error:
      failures.append(error)
      seen.clear()
  raise ValueError(
    f'input_shape={input_shape} does not fit the model: {failures[0]}'
  ) from failures[0]


def _recording(kind: type, seen: dict[str, list[tuple[int, ...]]]) -> type:
  """A subclass of `kind` that notes the shape of its input."""

  def call(self: nnx.Module, inputs: jax.Array, *args: object, **kwargs: object) -> jax.Array:
    seen.setdefault(self.watched_path, []).append(inputs.shape)
    return kind.__call__(self, inputs, *args, **kwargs)

  return type(kind.__name__, (kind,), {'__call__': call})
