"""One kernel of a tensor that holds several: the architecture's modes contracted once for all."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jax import Array, lax

from tnjax.contraction import Network, contract, select, work
from tnjax.ops import HIGHEST
from tnjax.schemes._fold import Fold
from tnjax.schemes._parametrization import Parametrization, turn


@dataclasses.dataclass(frozen=True)
class Part:
  """Factors without channels that hang together, contracted with one another for all kernels.

  Attributes:
    name: of the result.
    operands: their names.
    stack: labels of the architecture that it has, in front.
    labels: the others: its open bonds and spatial modes.
  """

  name: str
  operands: tuple[str, ...]
  stack: tuple[str, ...]
  labels: tuple[str, ...]

  def of(self, joint: Parametrization) -> Network:
    """The operands with their labels."""
    net = joint.network
    own = tuple(net.labels[net.names.index(name)] for name in self.operands)
    return Network(self.operands, own, net.sizes)


@dataclasses.dataclass(frozen=True)
class Kernel(Parametrization):
  """A kernel of a joint tensor, as a layer applies it.

  Its factors are those with channels, which all kernels share, and the kernel's own slices of the
  parts; what they are contracted with one another, layer by layer, is planned as for any factors.

  Attributes:
    joint: the parametrization of the whole tensor.

  >>> import jax, jax.numpy as jnp, tnjax as tn
  >>> p = tn.schemes.joint(ranks=(2, 2, 4, 5, 3, 3)).bind((3, 2, 3, 3, 8, 8))
  >>> factors, kernel = p.init(jax.random.key(0)), Kernel.of(p)
  >>> kernel.network.names, len(expand(p, factors))
  (('factor_2', 'part_0', 'factor_3'), 6)
  >>> third = kernel.dense(expand(p, factors)[2])  # of indices (1, 0)
  >>> bool(jnp.allclose(third, p.dense(factors)[1, 0], atol=1e-5))
  True
  """

  joint: Parametrization

  @classmethod
  def of(cls, joint: Parametrization) -> 'Kernel':
    """That of any index: all have the same shapes."""
    axes = tuple((x, n) for x, n in joint.fold.axes if x not in joint.fold.stack)
    fold = Fold(tuple(n for _, n in axes), axes, tuple((x,) for x, _ in axes))
    return cls(fold, joint.format, joint.ranks, joint.free, joint.solver, joint)

  @property
  def network(self) -> Network:
    """The factors with input channels, the parts, those with output channels."""
    return _network(self.joint)

  @property
  def arrays_network(self) -> Network:
    """The same: of one kernel there is no record."""
    return self.network


def stack_shape(joint: Parametrization) -> tuple[int, ...]:
  """Sizes of the architecture's modes."""
  return joint.fold.shape[: len(joint.fold.stack)]


def expand(joint: Parametrization, factors: Mapping[str, Array]) -> list[dict[str, Array]]:
  """The factors of every kernel, in the row-major order of their indices.

  Here the architecture's modes are contracted, once for all kernels; 16 bits by way of float32.
  """
  stack = stack_shape(joint)
  kernels = [_shared(joint, factors) for _ in range(math.prod(stack))]
  wide, dtype = joint.widened(factors)
  for part in _parts(joint):
    full = contract(part.of(joint), wide, (*part.stack, *part.labels), HIGHEST).astype(dtype)
    sizes = full.shape[: len(part.stack)]
    full = full.reshape(math.prod(sizes), *full.shape[len(part.stack) :])
    slices = [a[0] for a in lax.split(full, (1,) * len(full))]  # whose gradient is one array again
    axes = [int(x[1:]) for x in part.stack]
    for at, kernel in zip(np.ndindex(stack), kernels):
      place = np.ravel_multi_index([at[k] for k in axes], sizes) if axes else 0
      kernel[part.name] = slices[int(place)]
  return kernels


def pick(
  joint: Parametrization, factors: Mapping[str, Array], index: Sequence[int]
) -> dict[str, Array]:
  """The factors of one kernel, as `expand` has them; nothing is contracted of the others."""
  wide, dtype = joint.widened(factors)
  at, kernel = dict(zip(joint.fold.stack, index)), _shared(joint, factors)
  for part in _parts(joint):
    own = {x: at[x] for x in part.stack}
    cut = contract(*select(part.of(joint), wide, own), part.labels, HIGHEST)
    kernel[part.name] = cut.astype(dtype)
  return kernel


def expansion(joint: Parametrization, dtype: str = 'float32') -> tuple[int, float]:
  """Multiply-adds of `expand`, and the seconds that it is expected to take on this device."""
  found = [work(p.of(joint), (*p.stack, *p.labels), dtype) for p in _parts(joint)]
  return sum(macs for macs, _ in found), sum(seconds for _, seconds in found)


def _shared(joint: Parametrization, factors: Mapping[str, Array]) -> dict[str, Array]:
  """The factors that all kernels have in common."""
  cut = {name for part in _parts(joint) for name in part.operands}
  return {name: factors[name] for name in joint.network.names if name not in cut}


@functools.lru_cache(maxsize=256)
def _parts(joint: Parametrization) -> tuple[Part, ...]:
  net, axes = joint.network, joint.fold.labels
  own = {name: set(labels) for name, labels in zip(net.names, net.labels)}
  channels = {*joint.fold.inputs, *joint.fold.outputs}
  groups: list[set[str]] = []
  for name, labels in own.items():
    if labels & channels:
      continue
    near = [g for g in groups if any(labels & own[other] for other in g)]
    groups = [g for g in groups if g not in near] + [{name}.union(*near)]
  parts = []
  for i, group in enumerate(groups):
    inside = set().union(*(own[name] for name in group))
    outside = set().union(*(labels for name, labels in own.items() if name not in group))
    stack = tuple(x for x in joint.fold.stack if x in inside)
    rest = [x for x, _ in net.sizes if x in inside and (x in axes or x in outside)]
    operands = tuple(name for name in net.names if name in group)
    parts.append(Part(f'part_{i}', operands, stack, tuple(x for x in rest if x not in stack)))
  return tuple(parts)


@functools.lru_cache(maxsize=256)
def _network(joint: Parametrization) -> Network:
  net, parts = joint.network, _parts(joint)
  cut = {name for part in parts for name in part.operands}
  labels = {name: own for name, own in zip(net.names, net.labels) if name not in cut}
  labels |= {part.name: part.labels for part in parts}
  names = sorted(labels, key=lambda name: turn(labels[name]))
  used = {x for own in labels.values() for x in own}
  sizes = tuple((x, n) for x, n in net.sizes if x in used)
  return Network(tuple(names), tuple(labels[name] for name in names), sizes)
