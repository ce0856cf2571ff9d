"""Which layers a model has, by path, those that share a weight included."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import jax
from flax import linen, nnx
from jax import Array

from tnjax import nn
from tnjax.schemes import Held, Parametrization

_WEIGHTS = ('kernel', 'embedding')


@dataclasses.dataclass(frozen=True)
class Place:
  """One layer with a weight.

  Attributes:
    path: '/'-joined NNX path, the first one of a layer that has several.
    layer: dense or factorised.
    leader: path of the first layer with the very same weight; its own where it is that.
    home: path of the first layer with the same Variables: the leader, but of a joint tensor, where
      all layers have the same factors and each a kernel of its own.
    tie: why that Variable has to stay, '' if it may go.
    aliases: the other paths of the layer.
  """

  path: str
  layer: nnx.Module
  leader: str
  home: str
  tie: str
  aliases: tuple[str, ...] = ()

  @property
  def kind(self) -> type[nn.Factorised] | None:
    """The factorised class of the layer; None where there is none."""
    return nn.factorised_kind(self.layer)

  @property
  def factorised(self) -> bool:
    """Whether it is that already."""
    return isinstance(self.layer, nn.Factorised)

  @property
  def refusal(self) -> str:
    """Why no scheme can serve the layer, '' if one may."""
    return self.tie or ('' if self.factorised else nn.refusal(self.layer))

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape of the weight, or of the stack of weights, in which flax stores it."""
    if self.factorised:
      return *self.layer.stacked, *self.kind.array_shape(self.layer)
    return tuple(_weight(self.layer).shape)

  @property
  def joint(self) -> Parametrization | None:
    """The joint tensor that this is the first layer of, None of any other."""
    is_first = isinstance(self.layer, nn.JointConv) and self.home == self.path
    return self.layer.kernels.parametrization if is_first else None

  @property
  def share(self) -> float:
    """What is stored of the weight, of 1 for a dense one; of a joint tensor's layers alike."""
    if isinstance(self.layer, nn.JointConv):
      whole = self.layer.kernels.parametrization
      return whole.num_params / whole.fold.size
    return self.stored / (self.copies * math.prod(self.kind.array_shape(self.layer)))

  @property
  def copies(self) -> int:
    """Number of weights in a stack; 1 for one layer."""
    return math.prod(self.shape) // math.prod(self.kind.array_shape(self.layer)) if self.kind else 1

  @property
  def stored(self) -> int:
    """Entries of the weight as it is stored now; those of a joint tensor by its first layer."""
    if self.factorised:
      return 0 if self.home != self.leader else self.copies * self.layer.num_params
    return math.prod(self.shape)

  @property
  def abstract(self) -> bool:
    """Whether the weight has a shape alone."""
    held = jax.tree.leaves(nnx.state(self.layer))
    return any(isinstance(a, jax.ShapeDtypeStruct) for a in held)

  @functools.cached_property
  def weights(self) -> list[Array | Held]:
    """The weight, or those of a stack; of a factorised layer `Held`, of a stack of them rebuilt."""
    return self.kind.weights(self.layer)


def walk(model: nnx.Module) -> dict[str, Place]:
  """Every layer with a weight, dense or factorised, in the model's order.

  Raises:
    ValueError: not an NNX model, nor a list or dictionary of such.
  """
  _check_model(model)
  nodes = dict(nnx.iter_graph(model))
  twins = nnx.find_duplicates(model)
  layers = {
    p: w for p, n in nodes.items() if isinstance(n, nnx.Module) and (w := weight_variables(n))
  }
  own: dict[tuple[int, ...], set[tuple]] = {}
  for parts, named in layers.items():
    own.setdefault(_ids(named), set()).update((*parts, *name) for name in named)
  uses, normalised = _uses(nodes, twins), _normalised(nodes)
  shared = {p for p in nodes if isinstance(nodes.get(p[:-1]), nn.JointKernels)}
  found: dict[str, Place] = {}
  leaders: dict[tuple, str] = {}
  for parts, named in layers.items():
    ids, weight = _ids(named), next(iter(named.values()))
    held = (use for v in ids for use in uses[v] if use not in own[ids] | shared)
    tie = next((f'its weight is {_joined(use)} too' for use in held), '')
    if not isinstance(weight, nnx.Param):
      tie = f'its weight is a {type(weight).__name__}, no nnx.Param, so nothing would train factors'
    tie = next((normalised[v] for v in ids if v in normalised), tie)
    path, *others = map(_joined, _aliases(parts, twins))
    layer = nodes[parts]
    home = leaders.setdefault(ids, path)
    if isinstance(layer, nn.JointConv):
      leader = leaders.setdefault((*ids, layer.position), path)
    else:
      leader = home
    found[path] = Place(path, layer, leader, home, tie, tuple(others))
  return found


def _ids(variables: Mapping[tuple[str, ...], nnx.Variable]) -> tuple[int, ...]:
  return tuple(map(id, variables.values()))


def _check_model(model: object) -> None:
  """A model of modules; what else is called one gets told what to do."""
  if any(isinstance(node, nnx.Module) for _, node in nnx.iter_graph(model)):
    return
  what, remedy = f'a {type(model).__name__} without any nnx.Module', 'give an NNX model'
  if isinstance(model, linen.Module):
    what = f'the Linen module {type(model).__name__}'
    remedy = (
      'give an NNX model, or build the Linen one with tn.nn.to_linen and fill it: '
      'scheme.bind(kernel.shape).decompose(kernel) gives the factors of a kernel by name'
    )
  elif isinstance(model, type):
    what, remedy = f'the class {model.__name__}', 'give an instance'
  elif isinstance(model, Mapping):
    remedy = (
      'give the NNX model that these parameters belong to (nnx.update(model, parameters) fills '
      'one), or decompose single arrays, scheme.bind(kernel.shape).decompose(kernel)'
    )
  raise ValueError(f'model is {what}; {remedy}')


def _uses(nodes: Mapping[tuple, object], twins: Sequence[Sequence[tuple]]) -> dict[int, list]:
  """Where every Variable stands, by its id."""
  uses = {id(node): [path] for path, node in nodes.items() if isinstance(node, nnx.Variable)}
  return uses | {id(nodes[p[0]]): list(p) for p in twins if id(nodes.get(p[0])) in uses}


def _normalised(nodes: Mapping[tuple, object]) -> dict[int, str]:
  """Why the Variables must stay that a wrapper rescales at every call, by their ids."""
  return {
    id(variable): f'nnx.{type(node).__name__} rescales its weight at every call'
    for node in nodes.values()
    if isinstance(node, nnx.WeightNorm | nnx.SpectralNorm)
    for _, variable in nnx.iter_graph(node.layer_instance)
    if isinstance(variable, nnx.Variable)
  }


def _aliases(path: tuple, twins: Sequence[Sequence[tuple]]) -> list[tuple]:
  """All paths of a node, the one given first: any part of it may be held several times."""
  found = [path]
  for known in found:
    for first, *others in twins:
      if known[: len(first)] == first and not any(o[: len(first)] == first for o in others):
        more = ((*other, *known[len(first) :]) for other in others)
        found += [p for p in more if p not in found]
  return found


def _joined(path: tuple) -> str:
  return '/'.join(map(str, path))


def weight_variables(module: nnx.Module) -> dict[tuple[str, ...], nnx.Variable]:
  """The weight of a layer, which layers may share, by its path; several of a factorised one."""
  if isinstance(module, nn.Factorised):
    return module.variables()
  held = {(name,): vars(module).get(name) for name in _WEIGHTS}
  return dict([(n, v) for n, v in held.items() if isinstance(v, nnx.Variable)][:1])


def _weight(layer: nnx.Module) -> nnx.Variable:
  return next(iter(weight_variables(layer).values()))
