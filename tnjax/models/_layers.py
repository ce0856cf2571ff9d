"""Layers with PyTorch's arithmetic."""

import jax.numpy as jnp
from flax import nnx
from jax import Array

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


def halved(x: Array) -> Array:
  """Max pooling of (batch, rows, columns, channels) by 2x2, an odd last row or column left out.

  As `nnx.max_pool`, whose gradient takes six times as long on CPU; entries that are equally large
  share it here.
  """
  rows, columns = (size // 2 * 2 for size in x.shape[1:3])
  parts = [x[:, i:rows:2, j:columns:2] for i in (0, 1) for j in (0, 1)]
  return jnp.maximum(jnp.maximum(*parts[:2]), jnp.maximum(*parts[2:]))
