"""Input sizes of every layer, from one abstract evaluation of the model."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


class _Probe(nnx.Module):
  """Stands in for a layer, notes the input's shape, and calls it."""

  def __init__(self, layer: nnx.Module, path: str, seen: dict):
    self.layer = layer
    self.path = path
    self.seen = nnx.static(seen)

  def __call__(self, x: Array, *args: object, **kwargs: object) -> Array:
    self.seen.setdefault(self.path, x.shape)
    return self.layer(x, *args, **kwargs)


def input_sizes(
  model: nnx.Module, input_shape: Sequence[int], kinds: tuple[type, ...]
) -> dict[str, tuple[int, ...]]:
  """Spatial size of the input of every layer of the given kinds, by path; nothing is computed.

  Raises:
    ValueError: the model does not take one array of shape (batch, *input_shape).
  """
  seen: dict[str, tuple[int, ...]] = {}

  def probe(parts: tuple, node: object) -> object:
    if isinstance(node, nnx.Module) and type(node) in kinds:
      return _Probe(node, '/'.join(map(str, parts)), seen)
    return node

  probed = nnx.recursive_map(probe, nnx.clone(model))
  x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
  try:
    nnx.eval_shape(lambda m, x: m(x), probed, x)
  except (TypeError, ValueError) as error:
    raise ValueError(f'input_shape={tuple(input_shape)} does not fit the model: {error}') from error
  return {path: shape[1:-1] for path, shape in seen.items()}
