"""Residual networks for ImageNet (He et al. 2015), named as torchvision names its own."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.models._init import lecun_normal
from tnjax.models._layers import conv, norm
from tnjax.models._preprocess import IMAGENET_MEAN, IMAGENET_STD, checked, normalised, statistics
from tnjax.ops import integer

_WIDTHS = (64, 128, 256, 512)


def resnet(
  depth: int,
  *,
  num_classes: int = 1000,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
  rngs: nnx.Rngs,
) -> 'ResNet':
  """ResNet of 18 or 34 layers (basic blocks), 50, 101 or 152 (bottlenecks), post-activation.

  A bottleneck strides in its 3x3 convolution, as torchvision's ("version 1.5").

  Args:
    depth: 18, 34, 50, 101 or 152.
    num_classes: size of the output.
    mean, std: per input channel, subtracted and divided inside the model; images come in [0, 1].
    rngs: initialisation keys.

  Raises:
    ValueError: an unknown depth, or a size that is no positive int.

  >>> net = nnx.eval_shape(lambda: resnet(50, rngs=nnx.Rngs(0)))
  >>> sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))
  25557032
  """
  if depth not in _DEPTHS:
    raise ValueError(f'depth={depth!r} must be one of {", ".join(map(str, _DEPTHS))}')
  given = {
    'depth': int(depth),
    'num_classes': integer(num_classes, 'num_classes'),
    **statistics(mean, std),
  }
  net = ResNet(*_DEPTHS[depth], given['num_classes'], given['mean'], given['std'], rngs)
  net.arguments = tuple(given.items())
  return net


class Basic(nnx.Module):
  """conv, norm, relu, conv, norm, add, relu."""

  EXPANSION = 1

  def __init__(self, ins: int, width: int, strides: int, rngs: nnx.Rngs):
    self.conv1, self.bn1 = conv(ins, width, 3, strides, rngs=rngs), norm(width, rngs=rngs)
    self.conv2, self.bn2 = conv(width, width, 3, 1, rngs=rngs), norm(width, rngs=rngs)
    self.downsample = _shortcut(ins, width, strides, rngs)

  def __call__(self, x: Array, train: bool = False) -> Array:
    """One block."""
    y = jax.nn.relu(self.bn1(self.conv1(x), use_running_average=not train))
    y = self.bn2(self.conv2(y), use_running_average=not train)
    return jax.nn.relu(_projected(self.downsample, x, train) + y)


class Bottleneck(nnx.Module):
  """1x1 conv, 3x3 conv, 1x1 conv to four times the channels, each with a norm; add, relu."""

  EXPANSION = 4

  def __init__(self, ins: int, width: int, strides: int, rngs: nnx.Rngs):
    self.conv1, self.bn1 = conv(ins, width, 1, 1, rngs=rngs), norm(width, rngs=rngs)
    self.conv2, self.bn2 = conv(width, width, 3, strides, rngs=rngs), norm(width, rngs=rngs)
    self.conv3, self.bn3 = conv(width, 4 * width, 1, 1, rngs=rngs), norm(4 * width, rngs=rngs)
    self.downsample = _shortcut(ins, 4 * width, strides, rngs)

  def __call__(self, x: Array, train: bool = False) -> Array:
    """One block."""
    y = jax.nn.relu(self.bn1(self.conv1(x), use_running_average=not train))
    y = jax.nn.relu(self.bn2(self.conv2(y), use_running_average=not train))
    y = self.bn3(self.conv3(y), use_running_average=not train)
    return jax.nn.relu(_projected(self.downsample, x, train) + y)


_DEPTHS = {
  18: (Basic, (2, 2, 2, 2)),
  34: (Basic, (3, 4, 6, 3)),
  50: (Bottleneck, (3, 4, 6, 3)),
  101: (Bottleneck, (3, 4, 23, 3)),
  152: (Bottleneck, (3, 8, 36, 3)),
}


class ResNet(nnx.Module):
  """See `resnet`. Paths: conv1, bn1, layer1/<block>/conv1, ..., layer4/<block>/downsample/0, fc."""

  def __init__(
    self,
    block: type[Basic] | type[Bottleneck],
    blocks: Sequence[int],
    num_classes: int,
    mean: Sequence[float],
    std: Sequence[float],
    rngs: nnx.Rngs,
  ):
    self.mean, self.std = tuple(mean), tuple(std)
    self.conv1, self.bn1 = conv(len(self.mean), 64, 7, 2, rngs=rngs), norm(64, rngs=rngs)
    layers, channels = [], 64
    for index, (count, width) in enumerate(zip(blocks, _WIDTHS)):
      layer = []
      for i in range(count):
        layer.append(block(channels, width, 2 if index and not i else 1, rngs))
        channels = width * block.EXPANSION
      layers.append(nnx.List(layer))
    self.layer1, self.layer2, self.layer3, self.layer4 = layers
    self.fc = nnx.Linear(channels, num_classes, kernel_init=lecun_normal, rngs=rngs)

  @property
  def stages(self) -> tuple[nnx.List, ...]:
    """The four of them."""
    return self.layer1, self.layer2, self.layer3, self.layer4

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Logits (batch, num_classes) of images (batch, height, width, channels) in [0, 1].

    With `train`, batch norm uses and updates batch statistics.
    """
    x = images
    for index in range(4):
      x = self.stage(x, index, train)
    return self.fc(x.mean(axis=(1, 2)))

  def stage(self, x: Array, index: int, train: bool = False) -> Array:
    """The output of a stage, given that of the one before; the first takes images.

    `functools.partial(ResNet.stage, index=0)` is a stage as `tn.compression.reconstruct` takes it.
    """
    if index == 0:
      x = self.conv1(normalised(checked(x, len(self.mean)), self.mean, self.std))
      x = jax.nn.relu(self.bn1(x, use_running_average=not train))
      # Nothing is below 0 here, so zeros are as good as a pool's own padding, which jax2onnx drops.
      x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
      x = nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2))
    for block in self.stages[index]:
      x = block(x, train)
    return x


def _shortcut(ins: int, outs: int, strides: int, rngs: nnx.Rngs) -> nnx.List:
  """A 1x1 convolution and its norm where the shape changes, else nothing."""
  if ins == outs and strides == 1:
    return nnx.List([])
  return nnx.List([conv(ins, outs, 1, strides, rngs=rngs), norm(outs, rngs=rngs)])


def _projected(shortcut: nnx.List, x: Array, train: bool) -> Array:
  if not shortcut:
    return x
  projection, normalisation = shortcut
  return normalisation(projection(x), use_running_average=not train)
