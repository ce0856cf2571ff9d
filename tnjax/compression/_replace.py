"""Putting other layers into a copy of a model, and dense ones back."""

from collections.abc import Mapping, Sequence

import jax
from flax import nnx
from jax import Array

from tnjax import nn
from tnjax.compression._rules import Job
from tnjax.compression._walk import walk, weight_variables
from tnjax.schemes import Fit


def replace(model: nnx.Module, layers: Mapping[str, nnx.Module]) -> nnx.Module:
  """A copy of the model with other layers at some '/'-joined paths, which keep their biases.

  The nodes at these paths become the layers, whatever holds them; so Variables and layers that were
  shared still are. Weights that go are not copied before.
  """

  places = {path: place for path, place in walk(model).items() if path in layers}
  weights = {
    (*filter(None, path.split('/')), *name)
    for path, place in places.items()
    for name in weight_variables(place.layer)
  }

  def own(path: tuple, array: Array) -> Array:
    parts = tuple(str(entry.key) for entry in path if hasattr(entry, 'key'))
    return array if parts in weights else nn.copied(array)

  graphdef, state = nnx.split(model)
  made = nnx.merge(graphdef, jax.tree_util.tree_map_with_path(own, state))
  nodes = {'/'.join(map(str, p)): n for p, n in nnx.iter_graph(made) if isinstance(n, nnx.Module)}
  kernels = _heirs([(nodes[path], layer) for path, layer in layers.items()])
  for path, layer in layers.items():
    bias = {'bias': nodes[path].bias} if hasattr(nodes[path], 'bias') else {}
    _become(nodes[path], layer)
    vars(nodes[path]).update(bias)
    if isinstance(layer, nn.JointConv):
      nodes[path].kernels = kernels.get(id(layer.kernels), layer.kernels)
  return made


def _become(node: nnx.Module, other: nnx.Module) -> None:
  node.__class__ = type(other)
  held = dict(vars(other))
  vars(node).clear()
  vars(node).update(held)


def _heirs(changes: Sequence[tuple[nnx.Module, nnx.Module]]) -> dict[int, nn.JointKernels]:
  """What becomes of joint kernels whose layers change: the node for new ones, by their ids.

  A model may hold its joint kernels itself, so that they become the new ones in place; or an empty
  module, where none come in their stead.
  """
  old = {
    id(node.kernels): (node.kernels, getattr(layer, 'kernels', nnx.Module()))
    for node, layer in changes
    if isinstance(node, nn.JointConv)
  }
  found: dict[int, nn.JointKernels] = {}
  for node, new in old.values():
    first = isinstance(new, nn.JointKernels) and id(new) not in found
    _become(node, new if first else nnx.Module())
    if first:
      found[id(new)] = node
  return found


def factorised(
  jobs: Mapping[str, Job], found: Mapping[str, list[Fit]] | None = None
) -> dict[str, nnx.Module]:
  """The new layers by path; without factors, with shapes in their place.

  Layers that shared a weight share its factors.
  """
  made = {}
  for job in jobs.values():
    if job.joint:
      layers = nn.JointConv.abstract_of(job.convs, job.scheme)
      if found is not None:
        layers[job.joint[0][0]].kernels.store(found[job.path][0].factors)
      made |= {place.path: layers[at] for at, place in job.joint}
      continue
    for place in (job.place, *job.shared):
      layer = place.kind.abstract(place.layer, job.scheme)
      if found is not None:
        layer.fill(place.layer, found[job.path])
      if place is not job.place:
        layer.share_factors(made[job.path])
      made[place.path] = layer
  return made


def to_dense(model: nnx.Module) -> nnx.Module:
  """A copy of the model with every factorised layer rebuilt, as what it was before.

  Layers that share factors share the rebuilt weight. A `JointKernels` that the model holds itself,
  beside its layers, becomes an empty `nnx.Module`.

  >>> import jax.numpy as jnp, tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> small, _ = tn.compress(model, (('layers/0', tn.schemes.svd(ranks=2)),))
  >>> dense, x = to_dense(small), jnp.ones((3, 8))
  >>> type(dense.layers[0]), bool(jnp.allclose(dense(x), small(x), atol=1e-5))
  (<class 'flax.nnx.nn.linear.Linear'>, True)
  """
  layers = {}
  for path, place in walk(model).items():
    if not place.factorised:
      continue
    if place.abstract:
      raise ValueError(f'{path}: its factors are abstract; give a model with values')
    shared = layers.get(place.leader)
    layers[path] = place.layer.to_dense(shared and getattr(shared, place.kind.WEIGHT))
  return replace(model, layers)
