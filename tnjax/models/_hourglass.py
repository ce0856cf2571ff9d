"""Stacked hourglass of basic blocks (Newell et al. 2016, as Kossaifi et al. 2019 change it)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.contraction import conv_general_dilated
from tnjax.models._init import lecun_normal
from tnjax.models._layers import conv, halved, norm
from tnjax.models._preprocess import IMAGENET_MEAN, IMAGENET_STD, checked, normalised, statistics
from tnjax.ops import integer


def hourglass(
  *,
  stacks: int = 4,
  depth: int = 4,
  features: int = 128,
  convs: int = 2,
  kernel: int = 3,
  num_joints: int = 16,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
  rngs: nnx.Rngs,
) -> 'Hourglass':
  """Stacked hourglass for heatmaps of joints, every block a basic block of as many channels.

  The defaults are the network of T-Net (Kossaifi et al. 2019, arXiv 1904.02698): 4 x 4 x 3 x 2 =
  96 convolutions of 128 x 128 x 3 x 3 in the hourglasses, 14,155,776 weights, whose paths

      stacks/(\\d+)/levels/(\\d+)/(skip|down|up)/conv(\\d+)

  say hourglass, depth (0 is the largest image), pathway and convolution. The paper does not say
  what is around them; the layout here has 1,651,648 parameters there, which explains its ratios:

  * stem, 4 times smaller: 7x7 convolution of stride 2, norm, ReLU, max pool, one block;
  * after every hourglass one plain block, 1x1 convolution, norm, ReLU, and the heatmaps by a 1x1
    convolution;
  * between two hourglasses the input of the first, plus 1x1 convolutions of its features and of
    its heatmaps (Newell et al., section 3.3).

  Args:
    stacks: hourglasses, each with heatmaps of its own.
    depth: levels of every hourglass, each at half the size of the one before.
    features: channels of all blocks.
    convs: convolutions of a block.
    kernel: rows and columns of their kernels, odd.
    num_joints: heatmaps.
    mean, std: per input channel, subtracted and divided inside the model; images come in [0, 1].
    rngs: initialisation keys.

  Raises:
    ValueError: sizes that are no positive ints, or an even kernel.

  >>> net = hourglass(stacks=2, depth=1, features=4, num_joints=3, rngs=nnx.Rngs(0))
  >>> nnx.eval_shape(lambda net, x: net(x), net, jnp.ones((5, 64, 64, 3))).shape
  (2, 5, 16, 16, 3)
  """
  sizes = {
    'stacks': integer(stacks, 'stacks'),
    'depth': integer(depth, 'depth'),
    'features': integer(features, 'features'),
    'convs': integer(convs, 'convs'),
    'kernel': integer(kernel, 'kernel'),
    'num_joints': integer(num_joints, 'num_joints'),
  }
  if sizes['kernel'] % 2 == 0:
    raise ValueError(f'kernel={kernel} must be odd, or blocks would not keep the size of an image')
  given = sizes | statistics(mean, std)
  net = Hourglass(**given, rngs=rngs)
  net.arguments = tuple(given.items())
  return net


class Hourglass(nnx.Module):
  """See `hourglass`. Paths: stem/..., stacks/<s>/..., injections/<s>/features, .../heatmaps."""

  def __init__(
    self,
    stacks: int,
    depth: int,
    features: int,
    convs: int,
    kernel: int,
    num_joints: int,
    mean: Sequence[float],
    std: Sequence[float],
    rngs: nnx.Rngs,
  ):
    self.mean, self.std, self.depth = tuple(mean), tuple(std), depth
    block = (features, convs, kernel)
    self.stem = Stem(len(self.mean), block, rngs)
    self.stacks = nnx.List([Stack(depth, block, num_joints, rngs) for _ in range(stacks)])
    self.injections = nnx.List([Injection(features, num_joints, rngs) for _ in range(stacks - 1)])

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Heatmaps (stacks, batch, height / 4, width / 4, num_joints) of images in [0, 1].

    Images are (batch, height, width, channels), sides multiples of 4 * 2^depth. The last stack's
    heatmaps are the prediction, `[-1]`; training has a loss on every stack's (intermediate
    supervision), which a mean over the whole array is. With `train`, batch norm uses and updates
    batch statistics.
    """
    unit = 4 * 2**self.depth
    if any(side % unit for side in checked(images, len(self.mean)).shape[1:3]):
      raise ValueError(
        f'images has shape {images.shape}; with depth={self.depth}, height and width must be '
        f'multiples of {unit}'
      )
    x = self.stem(normalised(images, self.mean, self.std), train)
    found = []
    for index, stack in enumerate(self.stacks):
      y = stack(x, train)
      found.append(stack.head(y))
      if index < len(self.injections):
        x = self.injections[index](x, y, found[-1])
    return jnp.stack(found)


class Block(nnx.Module):
  """conv0, norm0, relu, conv1, norm1, ..., add, relu."""

  def __init__(self, features: int, convs: int, kernel: int, rngs: nnx.Rngs):
    self.convs = convs
    for i in range(convs):
      setattr(self, f'conv{i}', conv(features, features, kernel, rngs=rngs))
      setattr(self, f'norm{i}', norm(features, rngs=rngs))

  def __call__(self, x: Array, train: bool = False) -> Array:
    """One block."""
    y = x
    for i in range(self.convs):
      y = jax.nn.relu(y) if i else y
      y = getattr(self, f'conv{i}')(y)
      y = getattr(self, f'norm{i}')(y, use_running_average=not train)
    return jax.nn.relu(x + y)


class Stem(nnx.Module):
  """Images to features, 4 times smaller."""

  def __init__(self, channels: int, block: tuple[int, int, int], rngs: nnx.Rngs):
    self.conv = conv(channels, block[0], 7, 2, rngs=rngs)
    self.norm = norm(block[0], rngs=rngs)
    self.block = Block(*block, rngs)

  def __call__(self, x: Array, train: bool = False) -> Array:
    """The input of the first stack."""
    x = jax.nn.relu(self.norm(self.conv(x), use_running_average=not train))
    return self.block(halved(x), train)


class Level(nnx.Module):
  """What an hourglass has at one depth."""

  def __init__(self, block: tuple[int, int, int], rngs: nnx.Rngs):
    self.skip, self.down, self.up = (Block(*block, rngs) for _ in range(3))


class Stack(nnx.Module):
  """An hourglass, and what makes features for its heatmaps; `head` makes those."""

  def __init__(self, depth: int, block: tuple[int, int, int], num_joints: int, rngs: nnx.Rngs):
    self.levels = nnx.List([Level(block, rngs) for _ in range(depth)])
    self.block = Block(*block, rngs)
    self.conv = conv(block[0], block[0], 1, rngs=rngs)
    self.norm = norm(block[0], rngs=rngs)
    self.head = _mixed(block[0], num_joints, rngs)

  def __call__(self, x: Array, train: bool = False) -> Array:
    """Features of the size of `x`."""
    skips = []
    for level in self.levels:
      skips.append(level.skip(x, train))
      x = level.down(halved(x), train)
    for level, skip in zip(reversed(self.levels), reversed(skips)):
      x = skip + _doubled(level.up(x, train))
    x = self.block(x, train)
    return jax.nn.relu(self.norm(self.conv(x), use_running_average=not train))


class Injection(nnx.Module):
  """The input of the next stack: that of the last, its features and its heatmaps, added."""

  def __init__(self, features: int, num_joints: int, rngs: nnx.Rngs):
    self.features = _mixed(features, features, rngs)
    self.heatmaps = _mixed(num_joints, features, rngs)

  def __call__(self, x: Array, features: Array, heatmaps: Array) -> Array:
    """As many channels as `x`."""
    return x + self.features(features) + self.heatmaps(heatmaps)


def _mixed(ins: int, outs: int, rngs: nnx.Rngs) -> nnx.Conv:
  """1x1 with a bias; no ReLU follows, so the variance is kept."""
  options = {'kernel_init': lecun_normal, 'conv_general_dilated': conv_general_dilated}
  return nnx.Conv(ins, outs, (1, 1), **options, rngs=rngs)


def _doubled(x: Array) -> Array:
  """Every pixel twice, in rows and columns."""
  return x.repeat(2, axis=1).repeat(2, axis=2)
