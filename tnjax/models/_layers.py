"""Layers with PyTorch's arithmetic."""

from flax import nnx

from tnjax.contraction import conv_general_dilated
from tnjax.models._init import he_normal


def conv(
  ins: int,
  outs: int,
  size: int,
  strides: int = 1,
  *,
  padding: int | None = None,
  bias: bool = False,
  rngs: nnx.Rngs,
) -> nnx.Conv:
  """A square convolution, padded on both sides: 'SAME' would at stride 2 pad one side only."""
  padding = size // 2 if padding is None else padding
  return nnx.Conv(
    *(ins, outs, (size, size), strides),
    padding=padding,
    use_bias=bias,
    kernel_init=he_normal,
    conv_general_dilated=conv_general_dilated,
    rngs=rngs,
  )


def norm(channels: int, *, rngs: nnx.Rngs) -> nnx.BatchNorm:
  """Batch norm; PyTorch's momentum of 0.1 is the share of the new, 1 less this one."""
  return nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=rngs)
