"""Rates of the devices that schedules are made for."""

import dataclasses
import re
import warnings

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Device:
  """Rates of a kind of device, for float32 (TF32 where the default precision uses it).

  Attributes:
    flops: of a large matrix product, per second.
    half_flops: the same of bfloat16 or float16, summed in float32.
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
    kinds: regular expression found in jax's `device_kind`, in small letters, of such devices.
    item: bytes of an entry.
  """

  flops: float
  half_flops: float
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
  kinds: str = ''
  item: int = 4

  def at(self, dtype: str) -> 'Device':
    """The rates for entries of a dtype: their bytes, and the products of 16 bits."""
    item = jnp.dtype(dtype).itemsize
    return dataclasses.replace(self, item=item, flops=self.half_flops if item == 2 else self.flops)


def _accelerator(flops: float, half: float, bandwidth: float, kinds: str, source: str) -> Device:
  """By the roofline alone: dense TFLOP/s in 32 and 16 bits and TB/s of the data sheet, the rest
  supposed. A TPU multiplies float32, too, in bf16 by default.
  """
  tpu = kinds.startswith('tpu')
  small, bandwidth = 128.0 if tpu else 64.0, bandwidth * 1e12
  return Device(
    flops=flops * 1e12,
    half_flops=half * 1e12,
    bandwidth=bandwidth,
    fresh=bandwidth,
    cache=0.0,
    moving=bandwidth / 2,
    launch=2e-6 if tpu else 5e-6,
    rows=small,
    columns=small / 4,
    lanes=8,
    conv=0.7,
    shifted=bandwidth / 8,
    shifted_back=bandwidth / 16,
    weights=1.0,
    conv_weights=1.0,
    source=source,
    kinds=kinds,
  )


_CPU = Device(
  flops=3.5e11,
  half_flops=3.5e11,
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
  conv_weights=1.5,
  source='2 cores of an Intel Xeon: fitted to 1,350 timed steps, then rounded by hand; 16 bits not '
  'measured, as 32',
)
# NVIDIA's sheets give tensor cores with sparsity: half of it is what dense products reach.
DEVICES = {
  'cpu': _CPU,
  'A100': _accelerator(156, 312, 2.04, r'\ba100\b', 'NVIDIA A100 80GB SXM data sheet, TF32'),
  'H100': _accelerator(495, 989, 3.35, r'\bh100\b', 'NVIDIA H100 SXM data sheet, TF32'),
  'H200': _accelerator(495, 989, 4.8, r'\bh200\b', 'NVIDIA H200 SXM data sheet, TF32'),
  'B200': _accelerator(
    1100, 2250, 8.0, r'\bb200\b', 'NVIDIA Blackwell (HGX B200) data sheet, TF32'
  ),
  'L4': _accelerator(60, 121, 0.3, r'\bl4$', 'NVIDIA L4 data sheet, TF32'),
  'RTX 4090': _accelerator(
    82.6, 165.2, 1.008, r'\brtx 4090$', 'NVIDIA Ada architecture paper, TF32'
  ),
  'MI300X': _accelerator(
    163.4, 1307.4, 5.3, r'\bmi300x\b', 'AMD Instinct MI300X data sheet, FP32 matrix (not TF32)'
  ),
  'TPU v4': _accelerator(275, 275, 1.23, r'tpu v4$', 'Google Cloud TPU v4, bf16'),
  'TPU v5e': _accelerator(197, 197, 0.819, r'tpu v5( lite|e)', 'Google Cloud TPU v5e, bf16'),
  'TPU v5p': _accelerator(459, 459, 2.765, r'tpu v5p?$', 'Google Cloud TPU v5p, bf16'),
  'TPU v6e': _accelerator(918, 918, 1.638, r'tpu v6( lite|e)', 'Google Cloud TPU v6e, bf16'),
  'TPU v7x': _accelerator(
    1153.5,
    1153.5,
    3.69,
    r'tpu ?v?7x?$',
    'Google Cloud TPU7x, bf16: half a chip, which is a device of jax',
  ),
}
_DEFAULTS = {'gpu': 'A100', 'tpu': 'TPU v4'}


def current_device() -> str:
  """The entry of `DEVICES` for jax's default back end; of one it lacks, a warning and another."""
  platform, kind = jax.default_backend(), jax.devices()[0].device_kind
  if platform == 'cpu':
    return 'cpu'
  for name, device in DEVICES.items():
    if device.kinds and re.search(device.kinds, kind.lower()):
      return name
  taken = _DEFAULTS.get(platform, 'cpu')
  warnings.warn(
    f'tn.contraction.DEVICES has no entry for {kind!r}, so orders of contraction are chosen for '
    f'{taken!r}; add a Device whose kinds match it for better ones',
    stacklevel=2,
  )
  return taken


def device_name(name: str) -> str:
  """The entry of `DEVICES` that is meant, in any case, or an error that lists them."""
  found = {known.lower(): known for known in DEVICES}.get(str(name).lower())
  if found is None:
    raise ValueError(f'device={name!r} must be one of {", ".join(DEVICES)}')
  return found
