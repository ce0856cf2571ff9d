"""The order of contraction, decided at trace time from shapes alone.

Two orders are weighed today: the chain through the layer (the input meets one factor after the
other) and rebuilding the dense kernel for one dense product. A planner over all orders replaces
the body of `plan`; its callers stay as they are.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping

from jax import Array

from tnjax.contraction._conv import Geometry, meet, pad_zeros
from tnjax.contraction._network import Network, contract

# A float that travels to or from memory costs about as much time as this many multiply-adds.
_MACS_PER_FLOAT = 16


@dataclasses.dataclass(frozen=True)
class Step:
  """One contraction: the operands that meet, its multiply-adds and the floats it moves."""

  names: tuple[str, ...]
  macs: int
  floats: int


@dataclasses.dataclass(frozen=True)
class Plan:
  """Steps in order. `rebuild` says that the factors meet first and the input last."""

  rebuild: bool
  steps: tuple[Step, ...]

  @property
  def macs(self) -> int:
    """Multiply-adds of the whole plan, for the batch it was made for."""
    return sum(step.macs for step in self.steps)

  @property
  def cost(self) -> int:
    """Multiply-adds plus memory traffic at its price in multiply-adds."""
    return sum(step.macs + _MACS_PER_FLOAT * step.floats for step in self.steps)


@functools.lru_cache(maxsize=4096)
def plan(
  network: Network,
  inputs: tuple[str, ...],
  outputs: tuple[str, ...],
  geometry: Geometry,
  batch: int,
  spatial: tuple[int, ...],
) -> Plan:
  """Chooses how an input (batch, *spatial, inputs) meets the network's factors.

  Args:
    network: the factors, named in the order in which a chain takes them.
    inputs, outputs: labels of the channel modes going in and coming out.
    geometry: strides, padding and dilation of the spatial labels.
    batch: number of images (product of all leading axes).
    spatial: sizes of the input's spatial axes.
  """
  chain = Plan(
    False,
    _chain_steps(
      network,
      inputs,
      outputs,
      _early(geometry, network),
      batch,
      _subsampled(geometry, network, spatial),
    ),
  )
  dense = Plan(True, _rebuild_steps(network, inputs, outputs, geometry, batch, spatial))
  return min(chain, dense, key=lambda p: p.cost)


def execute(
  plan: Plan,
  network: Network,
  arrays: Mapping[str, Array],
  x: Array,
  inputs: tuple[str, ...],
  outputs: tuple[str, ...],
  geometry: Geometry,
  precision: object = None,
) -> Array:
  """Runs a plan on x of shape (batch, *spatial, prod of inputs); channels come out flat."""
  sizes = dict(network.sizes)
  x = _subsample(x, geometry, network)
  geometry = _early(geometry, network)
  x = x.reshape(*x.shape[:-1], *(sizes[a] for a in inputs))
  labels = inputs
  if plan.rebuild:
    kernel_labels = tuple(a for a in geometry.spatial if a in sizes) + inputs + outputs
    kernel = contract(network, arrays, kernel_labels, precision)
    operands = [(kernel, kernel_labels)]
  else:
    operands = [
      (arrays[n].reshape(s), ls) for (n, s), ls in zip(network.shapes().items(), network.labels)
    ]
  for i, (factor, factor_labels) in enumerate(operands):
    later = frozenset(outputs).union(*(ls for _, ls in operands[i + 1 :]))
    x, labels = meet(x, labels, factor, factor_labels, later, geometry, precision)
  n = 1 + len(geometry.spatial)
  x = x.transpose(*range(n), *(n + labels.index(a) for a in outputs))
  return x.reshape(*x.shape[:n], network.size(outputs))


def chain_macs(
  network: Network,
  inputs: tuple[str, ...],
  outputs: tuple[str, ...],
  geometry: Geometry,
  spatial: tuple[int, ...],
) -> int:
  """Multiply-adds of the chain for one image: the formulas of Su et al. 2018, all formats.

  A step costs the product of its channel and rank sizes times, per spatial mode, output size
  times taps where the factor convolves it, and its present size elsewhere.
  """
  steps = _chain_steps(network, inputs, outputs, geometry, 1, spatial)
  return sum(step.macs for step in steps)


def _chain_steps(
  network: Network,
  inputs: tuple[str, ...],
  outputs: tuple[str, ...],
  geometry: Geometry,
  batch: int,
  spatial: tuple[int, ...],
) -> tuple[Step, ...]:
  sizes, live, steps = dict(network.sizes), dict(zip(geometry.spatial, spatial)), []
  labels = set(inputs)
  for i, (name, factor) in enumerate(zip(network.names, network.labels)):
    later = set(outputs).union(*network.labels[i + 1 :])
    before = batch * math.prod(live.values()) * network.size(tuple(labels))
    work = batch * network.size(tuple(labels | set(factor)))  # taps are labels of the factor
    live = {a: geometry.output_size(a, m) if a in factor else m for a, m in live.items()}
    spatial_labels = set(geometry.spatial)
    labels = {
      a for a in labels | set(factor) if a not in spatial_labels and (a in later or a not in factor)
    }
    after = batch * math.prod(live.values()) * network.size(tuple(labels))
    floats = before + after + math.prod(sizes[a] for a in factor)
    steps.append(Step((name,), work * math.prod(live.values()), floats))
  return tuple(steps)


def _rebuild_steps(
  network: Network,
  inputs: tuple[str, ...],
  outputs: tuple[str, ...],
  geometry: Geometry,
  batch: int,
  spatial: tuple[int, ...],
) -> tuple[Step, ...]:
  bonds = [a for a, _ in network.sizes if a not in (*inputs, *outputs, *geometry.spatial)]
  taps = tuple(a for a, _ in network.sizes if a in geometry.spatial)
  kernel = network.size((*taps, *inputs, *outputs))
  out = [geometry.output_size(a, m) for a, m in zip(geometry.spatial, spatial)]
  positions = batch * math.prod(out)
  traffic = batch * math.prod(spatial) * network.size(inputs) + positions * network.size(outputs)
  # Merging pairwise, the last merge dominates: every kernel entry sums over the largest bond.
  merge = kernel * max([network.size(a) for a in bonds], default=1)
  return (
    Step(network.names, merge, network.num_params() + 2 * kernel),
    Step(('kernel',), positions * kernel, traffic + kernel),
  )


def _unused(geometry: Geometry, network: Network) -> list[str]:
  return [a for a in geometry.spatial if a not in dict(network.sizes)]


def _early(geometry: Geometry, network: Network) -> Geometry:
  """Geometry left after `_subsample`."""
  return geometry.without(_unused(geometry, network))


def _subsampled(geometry: Geometry, network: Network, spatial: tuple[int, ...]) -> tuple[int, ...]:
  unused = _unused(geometry, network)
  return tuple(
    geometry.output_size(a, m) if a in unused else m for a, m in zip(geometry.spatial, spatial)
  )


def _subsample(x: Array, geometry: Geometry, network: Network) -> Array:
  """Pads and strides the spatial modes that no factor carries (1x1 kernels), before any work."""
  unused = _unused(geometry, network)
  if not unused:
    return x
  pads = [p if a in unused else (0, 0) for a, p in zip(geometry.spatial, geometry.padding)]
  steps = [s if a in unused else 1 for a, s in zip(geometry.spatial, geometry.strides)]
  x = pad_zeros(x, pads)
  return x[(slice(None), *(slice(None, None, s) for s in steps), slice(None))]
