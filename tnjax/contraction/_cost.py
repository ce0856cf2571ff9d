"""What one pairwise contraction costs: work, traffic, and time on a device."""

import dataclasses
from collections.abc import Callable

import jax


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


@dataclasses.dataclass(frozen=True)
class Device:
  """Rates of a kind of device, for float32 (TF32 where the default precision uses it).

  Attributes:
    flops: of a large matrix product, per second.
    bandwidth: of memory, bytes per second, reads and writes together.
    fresh: of results larger than `cache`, whose memory is new to the process at every call.
    cache: bytes.
    moving: bytes per second of a transposition.
    launch: seconds that any step takes.
    rows, columns: with so many, a product reaches half of that rate.
    lanes: of a vector: columns, and channels of a convolution, count in multiples of it.
    conv: rate of a convolution over that of a matrix product.
    shifted: entries per second of a depthwise convolution, counted once per tap.
    shifted_back: the same of its two gradients together.
    weights, conv_weights: time of the right operand's gradient, a sum over all rows, over that of
      the result, for a product and a convolution.
    source: where the figures are from.
  """

  flops: float
  bandwidth: float
  fresh: float
  cache: float
  moving: float
  launch: float
  rows: float
  columns: float
  lanes: int
  conv: float
  shifted: float
  shifted_back: float
  weights: float
  conv_weights: float
  source: str


def _accelerator(
  flops: float, bandwidth: float, launch: float, small: float, source: str
) -> Device:
  """By the roofline alone: flops and bandwidth of the data sheet, the rest supposed."""
  return Device(
    flops=flops,
    bandwidth=bandwidth,
    fresh=bandwidth,
    cache=0.0,
    moving=bandwidth / 2,
    launch=launch,
    rows=small,
    columns=small / 4,
    lanes=8,
    conv=0.7,
    shifted=bandwidth / 8,
    shifted_back=bandwidth / 16,
    weights=1.0,
    conv_weights=1.0,
    source=source,
  )


_CPU = Device(
  flops=3.5e11,
  bandwidth=3.0e10,
  fresh=2.5e9,
  cache=3.2e7,
  moving=6.0e9,
  launch=9e-6,
  rows=104.0,
  columns=6.0,
  lanes=16,
  conv=0.6,
  shifted=1.3e10,
  shifted_back=4.0e8,
  weights=2.5,
  conv_weights=3.5,
  source='2 cores of an Intel Xeon: fitted to 1,350 timed steps, then rounded by hand',
)
DEVICES = {
  'cpu': _CPU,
  'A100': _accelerator(1.56e14, 2.04e12, 5e-6, 64.0, 'NVIDIA A100 80GB SXM data sheet, TF32'),
  'H100': _accelerator(4.95e14, 3.35e12, 5e-6, 64.0, 'NVIDIA H100 SXM data sheet, TF32'),
  'TPU v4': _accelerator(2.75e14, 1.23e12, 2e-6, 128.0, 'Google Cloud TPU v4, bf16'),
  'TPU v5e': _accelerator(1.97e14, 8.19e11, 2e-6, 128.0, 'Google Cloud TPU v5e, bf16'),
  'TPU v5p': _accelerator(4.59e14, 2.77e12, 2e-6, 128.0, 'Google Cloud TPU v5p, bf16'),
}
_KINDS = {'v5 lite': 'TPU v5e', 'v5e': 'TPU v5e', 'v5': 'TPU v5p', 'v4': 'TPU v4', 'h100': 'H100'}
_DEFAULTS = {'gpu': 'A100', 'tpu': 'TPU v4'}

OBJECTIVES = ('flops', 'bytes', 'time')
_ITEM = 4  # bytes of a float32


def current_device() -> str:
  """The entry of `DEVICES` for jax's default back end; the nearest one where it has none."""
  kind = jax.devices()[0].device_kind.lower()
  platform = jax.default_backend()
  found = (name for part, name in _KINDS.items() if part in kind and platform != 'cpu')
  return next(found, _DEFAULTS.get(platform, 'cpu'))


def device_of(name: str) -> Device:
  """An entry of `DEVICES`, or an error that lists them."""
  if name not in DEVICES:
    raise ValueError(f'device={name!r} must be one of {", ".join(DEVICES)}')
  return DEVICES[name]


def cost_of(objective: str, training: bool, device: Device) -> Callable[[Pair], float]:
  """What a pair costs: flops, bytes or seconds, of the forward pass or of all three products."""
  if objective == 'time':
    if not training:
      return lambda p: seconds(p, device)
    return lambda p: seconds(p, device) + _back_seconds(p, device)
  products = 3 if training else 1  # the backward ones have the same work and operands
  if objective == 'flops':
    return lambda p: 2.0 * products * p.macs
  return lambda p: float(products * _ITEM * p.floats)


def seconds(pair: Pair, device: Device) -> float:
  """Estimated time of one contraction: a roofline, lower for small sizes, and what surrounds it."""
  if not pair.macs:  # an empty batch or output
    return device.launch
  moves = device.launch + 2 * _ITEM * pair.moved / device.moving
  moves += max(0.0, _ITEM * pair.out - device.cache) / device.fresh
  traffic = _ITEM * (pair.left + pair.right + pair.out) / device.bandwidth
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
