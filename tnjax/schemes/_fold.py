"""Folds: linear bijections from a dense weight to a tensor of labelled modes."""

import dataclasses
import math

from jax import Array

SPATIAL = ('d', 'h', 'w')


@dataclasses.dataclass(frozen=True)
class Fold:
  """Splits a weight (*spatial, S, T) into labelled axes and groups them into modes.

  Attributes:
    shape: shape of the weight.
    axes: (label, size) in the weight's own order: spatial 'h', 'w', inputs 's1', 's2', ...,
      outputs 't1', 't2', ... A 1x1 kernel may leave its spatial labels out.
    modes: the labels of every mode of the folded tensor.
      Labels 'a0', 'a1', ... are of the architecture, in front of a kernel's own: the weight is then
      of several kernels, (*architecture, *spatial, S, T). Labels 'm0', 'm1', ... have no meaning in
      the weight: its entries are cut into modes in row-major order, permuted beforehand if
      shuffled.
    permutation: of the entries: drawn from the 'key' of the weight, or from a seed; None for none.
    kept: modes that Tucker leaves whole.

  >>> import jax.numpy as jnp
  >>> f = Fold((4, 6), (('s1', 2), ('s2', 2), ('t1', 3), ('t2', 2)), (('s1', 't1'), ('s2', 't2')))
  >>> f.fold(jnp.ones((4, 6))).shape
  (6, 4)
  """

  shape: tuple[int, ...]
  axes: tuple[tuple[str, int], ...]
  modes: tuple[tuple[str, ...], ...]
  permutation: str | int | None = None
  kept: tuple[int, ...] = ()

  @property
  def shuffled(self) -> bool:
    """Whether an index permutes the entries."""
    return self.permutation is not None

  @property
  def opaque(self) -> bool:
    """Whether the modes have no meaning in the weight, so that only the rebuilt one can be used."""
    return self.labels[0][0] == 'm'

  @property
  def labels(self) -> tuple[str, ...]:
    """Labels in the weight's order."""
    return tuple(label for label, _ in self.axes)

  @property
  def inputs(self) -> tuple[str, ...]:
    """Labels of the input channels."""
    return tuple(x for x in self.labels if x[0] == 's')

  @property
  def outputs(self) -> tuple[str, ...]:
    """Labels of the output channels."""
    return tuple(x for x in self.labels if x[0] == 't')

  @property
  def size(self) -> int:
    """Entries of the weight."""
    return math.prod(self.shape)

  @property
  def stack(self) -> tuple[str, ...]:
    """Labels of the architecture's modes, where several kernels are one tensor."""
    return tuple(x for x in self.labels if x[0] == 'a')

  @property
  def fan_in(self) -> int:
    """Entries of a kernel that each of its outputs is a sum over."""
    return math.prod(self.shape[len(self.stack) : -1])

  @property
  def mode_shape(self) -> tuple[int, ...]:
    """Shape of the folded tensor."""
    sizes = dict(self.axes)
    return tuple(math.prod(sizes[x] for x in mode) for mode in self.modes)

  def fold(self, weight: Array) -> Array:
    """The weight as a tensor of shape `mode_shape` (entries permuted beforehand if shuffled)."""
    sizes = [size for _, size in self.axes]
    order = [self.labels.index(x) for mode in self.modes for x in mode]
    return weight.reshape(sizes).transpose(order).reshape(self.mode_shape)


def spatial_labels(shape: tuple[int, ...]) -> tuple[str, ...]:
  """Labels of the spatial modes of a weight (*spatial, S, T): the last of 'd', 'h', 'w'."""
  count = len(shape) - 2
  if not 0 <= count <= 3:
    raise ValueError(
      f'weight has shape {shape}; it needs (in, out) or a kernel (*spatial, in, out) with at '
      'most three spatial sizes'
    )
  return SPATIAL[3 - count :]
