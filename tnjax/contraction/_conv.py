"""How a kernel slides over its input, and the convolution itself."""

import dataclasses
import operator
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from tnjax.contraction._columns import conv_general_dilated


def ints(value: int | Sequence[int], count: int) -> tuple[int, ...] | None:
  """`count` ints from one or from as many; None where it is neither."""
  try:
    return (operator.index(value),) * count
  except TypeError:
    pass
  try:
    values = tuple(operator.index(v) for v in value)
  except TypeError:
    return None
  return values if len(values) == count else None


@dataclasses.dataclass(frozen=True)
class Geometry:
  """How a kernel slides over its input, one entry per spatial label.

  Attributes:
    spatial: labels of the kernel's spatial modes, in the order of the input's axes.
    kernel: their sizes.
    strides, dilation: window steps and kernel dilation.
    padding: zeros before and after each spatial axis.
  """

  spatial: tuple[str, ...] = ()
  kernel: tuple[int, ...] = ()
  strides: tuple[int, ...] = ()
  padding: tuple[tuple[int, int], ...] = ()
  dilation: tuple[int, ...] = ()

  @classmethod
  def resolve(
    cls,
    spatial: Sequence[str],
    kernel: Sequence[int],
    strides: int | Sequence[int] | None = 1,
    padding: str | int | Sequence[int | tuple[int, int]] = 'VALID',
    dilation: int | Sequence[int] | None = 1,
    size: Sequence[int] | None = None,
  ) -> 'Geometry':
    """From arguments as flax takes them; `padding` 'SAME' needs the input's spatial `size`.

    >>> Geometry.resolve('hw', (3, 3), 2, 'SAME', size=(32, 32)).padding
    ((0, 1), (0, 1))
    """
    n = len(spatial)

    def per_axis(name: str, value: int | Sequence[int] | None) -> tuple[int, ...]:
      values = ints(1 if value is None else value, n)
      if values is None or any(v < 1 for v in values):
        raise ValueError(f'{name}={value} must be positive, an int or {n} of them')
      return values

    strides, dilation = per_axis('strides', strides), per_axis('dilation', dilation)
    if isinstance(padding, str):
      if padding not in ('SAME', 'SAME_LOWER', 'VALID'):
        raise ValueError(f"padding={padding!r} must be 'SAME', 'SAME_LOWER', 'VALID' or explicit")
      if size is None and padding != 'VALID':
        raise ValueError(f'padding={padding!r} needs the size of the input')
      reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation)]
      pads = lax.padtype_to_pads(size or reach, reach, strides, padding)
    else:
      pads = ints(padding, n) or (tuple(padding) if isinstance(padding, Sequence) else ())
      pads = [ints(p, 2) for p in pads]
      if len(pads) != n or None in pads:
        raise ValueError(f'padding={padding} must be a name, an int or {n} of them or of pairs')
    pads = tuple((int(a), int(b)) for a, b in pads)
    return cls(tuple(spatial), tuple(kernel), strides, pads, dilation)

  def output_size(self, label: str, size: int) -> int:
    """Size of a spatial axis of `size` after the kernel's mode `label` has been applied."""
    i = self.spatial.index(label)
    reach = (self.kernel[i] - 1) * self.dilation[i] + 1
    return max(0, (size + sum(self.padding[i]) - reach) // self.strides[i] + 1)

  def unpadded(self) -> 'Geometry':
    """The same geometry for an input that has been padded already."""
    return dataclasses.replace(self, padding=((0, 0),) * len(self.spatial))

  def without(self, labels: Sequence[str]) -> 'Geometry':
    """The same geometry with the spatial modes `labels` already dealt with (size 1, stride 1)."""
    done = [x in labels for x in self.spatial]

    def keep(values: tuple, neutral: object) -> tuple:
      return tuple(neutral if d else v for d, v in zip(done, values))

    return dataclasses.replace(
      self,
      kernel=keep(self.kernel, 1),
      strides=keep(self.strides, 1),
      padding=keep(self.padding, (0, 0)),
      dilation=keep(self.dilation, 1),
    )


def pad_input(x: Array, mode: str, padding: Sequence[tuple[int, int]]) -> Array:
  """Pads the spatial axes of `x` (batch, *spatial, channels) by 'CIRCULAR' or 'REFLECT'."""
  wrap = {'CIRCULAR': 'wrap', 'REFLECT': 'reflect'}[mode]
  return jnp.pad(x, [(0, 0), *padding, (0, 0)], mode=wrap)


def pad_zeros(x: Array, padding: Sequence[tuple[int, int]], channels: int = 1) -> Array:
  """Zeros around the spatial axes of `x`, which has `channels` axes behind them; negative crops."""
  pads = [(a, b, 0) for a, b in [(0, 0), *padding, *[(0, 0)] * channels]]
  return lax.pad(x, jnp.zeros((), x.dtype), pads)


def convolve(
  lhs: Array, rhs: Array, groups: int, geometry: Geometry, precision: object = None
) -> Array:
  """Convolution of (batch, *spatial, groups x depth) with (*kernel, depth, groups x new)."""
  n = len(geometry.spatial)
  depth, outs = rhs.shape[-2:]
  pointwise = all(k == 1 for k in rhs.shape[:n]) and all(s == 1 for s in geometry.strides)
  if pointwise and all(p == (0, 0) for p in geometry.padding):
    if groups == 1:
      return jnp.matmul(lhs, rhs.reshape(depth, outs), precision=precision)
    split = lhs.reshape(*lhs.shape[:-1], groups, depth)
    kernel = rhs.reshape(depth, groups, outs // groups)
    out = jnp.einsum('...gc,cgo->...go', split, kernel, precision=precision)
    return out.reshape(*lhs.shape[:-1], outs)
  spatial = 'DHW'[3 - n :]
  return conv_general_dilated(
    lhs,
    rhs,
    geometry.strides,
    geometry.padding,
    rhs_dilation=geometry.dilation,
    dimension_numbers=(f'N{spatial}C', f'{spatial}IO', f'N{spatial}C'),
    feature_group_count=groups,
    precision=precision,
  )
