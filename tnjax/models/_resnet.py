"""Residual networks for small images (He et al. 2015, section 4.2; 2016 for version 2)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.models._init import lecun_normal
from tnjax.models._layers import conv, norm
from tnjax.models._preprocess import IMAGENET_MEAN, IMAGENET_STD, normalised, statistics

CIFAR_MEAN, CIFAR_STD = IMAGENET_MEAN, IMAGENET_STD  # which the published CIFAR weights expect


def cifar_resnet(
  depth: int,
  version: int = 1,
  shortcut: str = 'pad',
  *,
  widths: Sequence[int] = (16, 32, 64),
  num_classes: int = 10,
  mean: Sequence[float] = CIFAR_MEAN,
  std: Sequence[float] = CIFAR_STD,
  rngs: nnx.Rngs,
) -> 'CifarResNet':
  """CIFAR ResNet of `depth` = 6 n + 2 layers: three stages of n basic blocks.

  Version 1 is post-activation (He et al. 2015), version 2 pre-activation (2016). Shortcuts where
  the shape changes are 'pad' (option A: subsample, zero channels on both sides) or 'projection'
  (1x1 convolution). As in the official TensorFlow models, a version 2 net with projections has
  one in the first block of every stage: 33 kernels and 463,616 weights at depth 32.

  Args:
    depth: 8, 14, 20, 32, 44, 56, 110, ...
    version: 1 or 2.
    shortcut: 'pad' or 'projection'.
    widths: channels of the three stages.
    num_classes: size of the output.
    mean, std: per input channel, subtracted and divided inside the model; images come in [0, 1].
      Their length is the number of input channels.
    rngs: initialisation keys.

  Raises:
    ValueError: a depth that is not 6 n + 2, or an unknown version or shortcut.

  >>> net = cifar_resnet(8, widths=(4, 8, 8), rngs=nnx.Rngs(0))
  >>> net(jnp.zeros((2, 32, 32, 3))).shape
  (2, 10)
  """
  if depth < 8 or (depth - 2) % 6:
    raise ValueError(f'depth={depth} must be 6 n + 2: 8, 14, 20, 32, 44, 56, 110, ...')
  if version not in (1, 2):
    raise ValueError(f'version={version} must be 1 or 2')
  if shortcut not in ('pad', 'projection'):
    raise ValueError(f"shortcut={shortcut!r} must be 'pad' or 'projection'")
  if len(widths) != 3 or list(widths) != sorted(widths):
    raise ValueError(f'widths={tuple(widths)} must be three sizes that do not fall')
  widths, found = tuple(map(int, widths)), statistics(mean, std)
  mean, std = found['mean'], found['std']
  net = CifarResNet((depth - 2) // 6, version, shortcut, widths, num_classes, mean, std, rngs)
  given = {
    'depth': depth,
    'version': version,
    'shortcut': shortcut,
    'widths': widths,
    'num_classes': num_classes,
    'mean': mean,
    'std': std,
  }
  net.arguments = tuple(given.items())
  return net


class CifarResNet(nnx.Module):
  """See `cifar_resnet`. Paths: conv, norm, stages/<stage>/<block>/conv1, ..., linear."""

  def __init__(
    self,
    blocks: int,
    version: int,
    shortcut: str,
    widths: Sequence[int],
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    rngs: nnx.Rngs,
  ):
    self.version = version
    self.mean = tuple(mean)
    self.std = tuple(std)
    block = {1: BlockV1, 2: BlockV2}[version]
    self.conv = conv(len(self.mean), widths[0], 3, rngs=rngs)
    self.norm = norm(widths[0] if version == 1 else widths[-1], rngs=rngs)
    stages, channels = [], widths[0]
    for stage, width in enumerate(widths):
      stack = []
      for i in range(blocks):
        strides = 2 if stage > 0 and i == 0 else 1
        changes = strides > 1 or channels != width
        project = shortcut == 'projection' and (changes if version == 1 else i == 0)
        stack.append(block(channels, width, strides, project, rngs))
        channels = width
      stages.append(nnx.List(stack))
    self.stages = nnx.List(stages)
    self.linear = nnx.Linear(channels, num_classes, kernel_init=lecun_normal, rngs=rngs)

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Logits (batch, num_classes) of images (batch, height, width, channels) in [0, 1].

    With `train`, batch norm uses and updates batch statistics.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
      raise ValueError(f'images has dtype {images.dtype}; it needs floats in [0, 1]')
    x = images
    for index in range(len(self.stages)):
      x = self.stage(x, index, train)
    if self.version == 2:
      x = jax.nn.relu(self.norm(x, use_running_average=not train))
    return self.linear(x.mean(axis=(-3, -2)))

  def stage(self, x: Array, index: int, train: bool = False) -> Array:
    """The output of a stage, given that of the one before; the first takes images.

    In version 2 it is the residual stream, before any norm. Chained, with what follows, they are
    the model: `functools.partial(CifarResNet.stage, index=0)` is a stage as
    `tn.compression.reconstruct` takes it.
    """
    if index == 0:
      x = self.conv(normalised(x, self.mean, self.std))
      if self.version == 1:
        x = jax.nn.relu(self.norm(x, use_running_average=not train))
    for block in self.stages[index]:
      x = block(x, train)
    return x


class BlockV1(nnx.Module):
  """conv, norm, relu, conv, norm, add, relu (He et al. 2015)."""

  def __init__(self, ins: int, outs: int, strides: int, project: bool, rngs: nnx.Rngs):
    self.strides, self.outs = strides, outs
    self.conv1 = conv(ins, outs, 3, strides, rngs=rngs)
    self.norm1 = norm(outs, rngs=rngs)
    self.conv2 = conv(outs, outs, 3, rngs=rngs)
    self.norm2 = norm(outs, rngs=rngs)
    self.project = project
    if self.project:
      self.projection = conv(ins, outs, 1, strides, rngs=rngs)
      self.projection_norm = norm(outs, rngs=rngs)

  def __call__(self, x: Array, train: bool = False) -> Array:
    """One block."""
    average = not train
    y = jax.nn.relu(self.norm1(self.conv1(x), use_running_average=average))
    y = self.norm2(self.conv2(y), use_running_average=average)
    if self.project:
      x = self.projection_norm(self.projection(x), use_running_average=average)
    else:
      x = _pad_shortcut(x, self.strides, self.outs)
    return jax.nn.relu(x + y)


class BlockV2(nnx.Module):
  """norm, relu, conv, norm, relu, conv, add (He et al. 2016)."""

  def __init__(self, ins: int, outs: int, strides: int, project: bool, rngs: nnx.Rngs):
    self.strides, self.outs = strides, outs
    self.norm1 = norm(ins, rngs=rngs)
    self.conv1 = conv(ins, outs, 3, strides, rngs=rngs)
    self.norm2 = norm(outs, rngs=rngs)
    self.conv2 = conv(outs, outs, 3, rngs=rngs)
    self.project = project
    if self.project:
      self.projection = conv(ins, outs, 1, strides, rngs=rngs)

  def __call__(self, x: Array, train: bool = False) -> Array:
    """One block."""
    average = not train
    y = jax.nn.relu(self.norm1(x, use_running_average=average))
    x = self.projection(y) if self.project else _pad_shortcut(x, self.strides, self.outs)
    y = self.conv1(y)
    y = self.conv2(jax.nn.relu(self.norm2(y, use_running_average=average)))
    return x + y


def _pad_shortcut(x: Array, strides: int, channels: int) -> Array:
  """Identity, subsampled, with zero channels added on both sides (option A)."""
  x = x[..., ::strides, ::strides, :]
  extra = channels - x.shape[-1]
  pads = [(0, 0)] * (x.ndim - 1) + [(extra // 2, extra - extra // 2)]
  return jnp.pad(x, pads)
