"""A layer as a labelled network: the input, the factors of the kernel, and the output's labels."""

import dataclasses
import functools
import math
from collections.abc import Iterable

from tnjax.contraction._conv import Geometry
from tnjax.contraction._network import Network


@dataclasses.dataclass(frozen=True)
class Problem:
  """What a plan is made for, all static and hashable.

  Operand 0 is the input, operand i the i-th factor of `network`. A set of operands is the integer
  whose bits are its members.

  Attributes:
    network: the factors of the kernel. A spatial label is carried by one of them.
    inputs, outputs: labels of the channel modes going in and coming out.
    geometry: strides, padding and dilation of the spatial labels; none for a matrix.
    batch: number of inputs (product of all leading axes).
    spatial: sizes of the input's spatial axes.
  """

  network: Network
  inputs: tuple[str, ...]
  outputs: tuple[str, ...]
  geometry: Geometry = Geometry()
  batch: int = 1
  spatial: tuple[int, ...] = ()

  @property
  def names(self) -> tuple[str, ...]:
    """Names of all operands; the input is 'x'."""
    return ('x', *self.network.names)

  @functools.cached_property
  def operands(self) -> tuple[frozenset[str], ...]:
    """Labels of every operand, the spatial axes of the input left out."""
    return (frozenset(self.inputs), *(frozenset(labels) for labels in self.network.labels))

  @functools.cached_property
  def sizes(self) -> dict[str, int]:
    """Size of every label."""
    return dict(self.network.sizes)

  def size(self, labels: Iterable[str]) -> int:
    """Product of the sizes of some labels."""
    return math.prod(self.sizes[x] for x in labels)

  def labels(self, members: int) -> frozenset[str]:
    """Labels that are left once some operands have been contracted with one another.

    A spatial label stays until its factor meets the input.
    """
    if members & (members - 1) == 0:
      return self.operands[members.bit_length() - 1]
    inside = frozenset().union(*(f for i, f in enumerate(self.operands) if members >> i & 1))
    outside = frozenset(self.outputs).union(
      *(f for i, f in enumerate(self.operands) if not members >> i & 1)
    )
    taps = frozenset(self.geometry.spatial)
    return inside & outside - taps if members & 1 else inside & (outside | taps)

  def positions(self, members: int) -> tuple[int, ...]:
    """Sizes of the spatial axes of the input once it has met the factors among `members`."""
    met = frozenset().union(*(f for i, f in enumerate(self.operands) if i and members >> i & 1))
    return tuple(
      self.geometry.output_size(a, n) if a in met else n
      for a, n in zip(self.geometry.spatial, self.spatial)
    )

  def floats(self, members: int) -> int:
    """Number of entries of what contracting some operands gives."""
    count = self.size(self.labels(members))
    return count * self.batch * math.prod(self.positions(members)) if members & 1 else count

  @functools.cached_property
  def unused(self) -> tuple[str, ...]:
    """Spatial labels that no factor carries: those of a 1x1 kernel, which only subsamples."""
    return tuple(a for a in self.geometry.spatial if a not in self.sizes)

  @functools.cached_property
  def subsampled(self) -> 'Problem':
    """The layer that is left when the unused spatial modes have been strided, before any work."""
    spatial = tuple(
      self.geometry.output_size(a, n) if a in self.unused else n
      for a, n in zip(self.geometry.spatial, self.spatial)
    )
    geometry = self.geometry.without(self.unused)
    return dataclasses.replace(self, geometry=geometry, spatial=spatial)

  @property
  def dense_macs(self) -> int:
    """Multiply-adds of the dense layer."""
    everything = (1 << len(self.operands)) - 1
    layer = self.subsampled
    taps = [x for x in layer.geometry.spatial if x in layer.sizes]
    kernel = layer.size((*taps, *layer.inputs, *layer.outputs))
    return kernel * layer.batch * math.prod(layer.positions(everything))
