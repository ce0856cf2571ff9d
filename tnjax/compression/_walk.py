"""Which layers a model has, by path, those that share a weight included."""

import dataclasses
import functools
import math

import jax
from flax import nnx
from jax import Array

from tnjax import nn

_WEIGHTS = ('kernel', 'embedding')


@dataclasses.dataclass(frozen=True)
class Place:
  """One layer with a weight.

  Attributes:
    path: '/'-joined NNX path, the first one of a layer that has several.
    layer: dense or factorised.
    leader: path of the first layer with the very same weight Variable; its own where it is that.
    tie: why that Variable has to stay, '' if it may go.
  """

  path: str
  layer: nnx.Module
  leader: str
  tie: str

  @property
  def kind(self) -> type[nn.Factorised] | None:
    """The factorised class of the layer; None where there is none."""
    return nn.factorised_kind(self.layer)

  @property
  def factorised(self) -> bool:
    """Whether it is that already."""
    return isinstance(self.layer, nn.Factorised)

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape of the weight, or of the stack of weights, in which flax stores it."""
    if self.factorised:
      return *self.layer.stacked, *self.kind.array_shape(self.layer)
    return tuple(_weight(self.layer).shape)

  @property
  def copies(self) -> int:
    """Number of weights in a stack; 1 for one layer."""
    return math.prod(self.shape) // math.prod(self.kind.array_shape(self.layer)) if self.kind else 1

  @property
  def stored(self) -> int:
    """Entries of the weight as it is stored now."""
    if self.factorised:
      return self.copies * self.layer.parametrization.num_params
    return math.prod(self.shape)

  @property
  def abstract(self) -> bool:
    """Whether the weight has a shape alone."""
    held = jax.tree.leaves(nnx.state(self.layer))
    return any(isinstance(a, jax.ShapeDtypeStruct) for a in held)

  @functools.cached_property
  def weights(self) -> list[Array]:
    """The weight, or those of a stack; of a factorised layer, rebuilt."""
    return self.kind.weights(self.layer)


def walk(model: nnx.Module) -> dict[str, Place]:
  """Every layer with a weight, dense or factorised, in the model's order."""
  layers, holders = {}, {}
  for parts, node in nnx.iter_graph(model):
    if not isinstance(node, nnx.Pytree):
      continue
    weight = _variable(node) if isinstance(node, nnx.Module) else None
    path = '/'.join(map(str, parts))
    if weight is not None:
      layers[path] = (node, weight)
    for name, value in vars(node).items():
      if isinstance(value, nnx.Variable) and value is not weight:
        holders.setdefault(id(value), f'{path}/{name}'.lstrip('/'))
  found: dict[str, Place] = {}
  leaders: dict[int, str] = {}
  for path, _ in nnx.iter_modules(model):
    path = '/'.join(map(str, path))
    if path not in layers:
      continue
    layer, weight = layers[path]
    tie = f'its weight is {holders[id(weight)]} too' if id(weight) in holders else ''
    if not isinstance(weight, nnx.Param):
      tie = f'its weight is a {type(weight).__name__}, no nnx.Param, so nothing would train factors'
    found[path] = Place(path, layer, leaders.setdefault(id(weight), path), tie)
  return found


def _variable(module: nnx.Module) -> nnx.Variable | None:
  """What tells whether two layers share their weight."""
  if isinstance(module, nn.Factorised):
    return getattr(module, module.parametrization.network.names[0])
  held = (vars(module).get(name) for name in _WEIGHTS)
  return next((v for v in held if isinstance(v, nnx.Variable)), None)


def _weight(layer: nnx.Module) -> nnx.Variable:
  return next(getattr(layer, name) for name in _WEIGHTS if hasattr(layer, name))
