"""What one pairwise contraction costs: work, traffic, and time on a device."""

import dataclasses
from collections.abc import Callable

from tnjax.contraction._devices import Device


@dataclasses.dataclass(frozen=True)
class Pair:
  """Sizes of the contraction of a left with a right operand; the left one may hold the input.

  Attributes:
    rows: what only the left operand has, times the batch and the output's positions.
    columns: what only the right operand has.
    depth: what is summed, kernel taps left out.
    groups: what both have and the result keeps.
    taps: kernel taps of a convolution, 1 for a product of matrices.
    left, right, out: entries of the operands and of the result.
    moved: entries that must change places in memory first.
  """

  rows: int
  columns: int
  depth: int
  groups: int
  taps: int
  left: int
  right: int
  out: int
  moved: int = 0

  @property
  def macs(self) -> int:
    """Multiply-adds: every size once, output positions times taps where there is a convolution."""
    return self.rows * self.columns * self.depth * self.groups * self.taps

  @property
  def depthwise(self) -> bool:
    """Whether nothing is summed but taps."""
    return self.taps > 1 and self.depth == self.columns == 1

  @property
  def floats(self) -> int:
    """Entries read and written."""
    return self.left + self.right + self.out + 2 * self.moved


OBJECTIVES = ('flops', 'bytes', 'time')


def cost_of(objective: str, training: bool, device: Device) -> Callable[[Pair], float]:
  """What a pair costs: flops, bytes or seconds, of the forward pass or of all three products."""
  if objective == 'time':
    if not training:
      return lambda p: seconds(p, device)
    return lambda p: seconds(p, device) + _back_seconds(p, device)
  products = 3 if training else 1  # the backward ones have the same work and operands
  if objective == 'flops':
    return lambda p: 2.0 * products * p.macs
  return lambda p: float(products * device.item * p.floats)


def seconds(pair: Pair, device: Device) -> float:
  """Estimated time of one contraction: a roofline, lower for small sizes, and what surrounds it."""
  if not pair.macs:  # an empty batch or output
    return device.launch
  moves = device.launch + 2 * device.item * pair.moved / device.moving
  moves += max(0.0, device.item * pair.out - device.cache) / device.fresh
  traffic = device.item * (pair.left + pair.right + pair.out) / device.bandwidth
  if pair.depthwise:
    return max(traffic, pair.macs / device.shifted) + moves
  if pair.taps == 1 and min(pair.rows, pair.columns) == 1:  # matrix times vector
    return traffic + moves
  rate = device.flops * pair.rows / (pair.rows + device.rows)
  columns, depth = _filled(pair.columns, device.lanes), 1.0
  if pair.taps > 1:
    rate, depth = rate * device.conv, _filled(pair.depth, device.lanes)
  rate *= columns * depth * pair.columns / (pair.columns + device.columns * columns)
  return max(traffic, 2 * pair.macs / rate) + moves


def _filled(size: int, lanes: int) -> float:
  """Share of vector lanes in use."""
  return size / (-(-size // lanes) * lanes)


def _back_seconds(pair: Pair, device: Device) -> float:
  """Estimated time of both gradients: of the left operand by one more product with the right one,
  of the right one by a sum over all rows.
  """
  if pair.depthwise:
    return pair.macs / device.shifted_back
  left = dataclasses.replace(
    pair, columns=pair.depth, depth=pair.columns, left=pair.out, out=pair.left
  )
  share = device.weights if pair.taps == 1 else device.conv_weights
  return seconds(left, device) + share * seconds(pair, device)
