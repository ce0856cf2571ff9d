"""VGG (Simonyan and Zisserman 2014) and AlexNet (Krizhevsky 2014), numbered as in torchvision."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from tnjax.models._init import dense_normal
from tnjax.models._layers import conv, halved
from tnjax.models._layers import norm as batch_norm
from tnjax.models._preprocess import IMAGENET_MEAN, IMAGENET_STD, checked, normalised, statistics
from tnjax.ops import integer, integers

_BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
_WIDTHS = (64, 128, 256, 512, 512)


def vgg(
  depth: int,
  *,
  norm: bool = False,
  widths: Sequence[int] = _WIDTHS,
  pool: int = 7,
  hidden: Sequence[int] = (4096, 4096),
  num_classes: int = 1000,
  dropout: float = 0.5,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
  rngs: nnx.Rngs,
) -> 'Vgg':
  """VGG of 11, 13, 16 or 19 layers: 3x3 convolutions with five max pools, then dense layers.

  The defaults are ImageNet's network, 138,357,544 parameters at 16 layers. The common network for
  CIFAR-10 has one dense layer: `vgg(16, norm=True, pool=1, hidden=(), num_classes=10, rngs=rngs)`.

  Args:
    depth: 11, 13, 16 or 19.
    norm: batch norm after every convolution.
    widths: channels of the five blocks.
    pool: rows and columns that the mean pool after the convolutions leaves.
    hidden: outputs of the dense layers before the last.
    num_classes: size of the output.
    dropout: rate after every hidden dense layer; drawn from `rngs.dropout`.
    mean, std: per input channel, subtracted and divided inside the model; images come in [0, 1].
    rngs: initialisation keys, and dropout's.

  Raises:
    ValueError: an unknown depth, other than five widths, sizes that are no positive ints.

  >>> net = nnx.eval_shape(lambda: vgg(16, rngs=nnx.Rngs(0)))
  >>> sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))
  138357544
  """
  if depth not in _BLOCKS:
    raise ValueError(f'depth={depth!r} must be one of {", ".join(map(str, _BLOCKS))}')
  given = {
    'depth': int(depth),
    'norm': bool(norm),
    'widths': integers(widths, 'widths'),
    'pool': integer(pool, 'pool'),
    'hidden': integers(hidden, 'hidden'),
    'num_classes': integer(num_classes, 'num_classes'),
    'dropout': float(dropout),
    **statistics(mean, std),
  }
  if len(given['widths']) != 5:
    raise ValueError(f'widths={given["widths"]} must be five, one a block')
  channels, layers = len(given['mean']), []
  for width, count in zip(given['widths'], _BLOCKS[depth]):
    for _ in range(count):
      layers.append(conv(channels, width, 3, bias=True, rngs=rngs))
      layers += [batch_norm(width, rngs=rngs), jax.nn.relu] if norm else [jax.nn.relu]
      channels = width
    layers.append(halved)
  head, outs = [], pool * pool * channels
  for size in given['hidden']:
    head += [_dense(outs, size, rngs), jax.nn.relu, nnx.Dropout(dropout, rngs=rngs)]
    outs = size
  head.append(_dense(outs, given['num_classes'], rngs))
  net = Vgg(layers, head, given['pool'], given['mean'], given['std'])
  net.arguments = tuple(given.items())
  return net


def alexnet(
  *,
  num_classes: int = 1000,
  dropout: float = 0.5,
  mean: Sequence[float] = IMAGENET_MEAN,
  std: Sequence[float] = IMAGENET_STD,
  rngs: nnx.Rngs,
) -> 'AlexNet':
  """AlexNet as torchvision has it, of one tower (Krizhevsky 2014): 61,100,840 parameters.

  Args:
    num_classes: size of the output.
    dropout: rate before both hidden dense layers; drawn from `rngs.dropout`.
    mean, std: per input channel, subtracted and divided inside the model; images come in [0, 1].
    rngs: initialisation keys, and dropout's.

  Raises:
    ValueError: a size that is no positive int.

  >>> net = nnx.eval_shape(lambda: alexnet(rngs=nnx.Rngs(0)))
  >>> sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))
  61100840
  """
  given = {
    'num_classes': integer(num_classes, 'num_classes'),
    'dropout': float(dropout),
    **statistics(mean, std),
  }
  relu, pool = jax.nn.relu, _overlapping
  layers = [
    *(conv(len(given['mean']), 64, 11, 4, padding=2, bias=True, rngs=rngs), relu, pool),
    *(conv(64, 192, 5, bias=True, rngs=rngs), relu, pool),
    *(conv(192, 384, 3, bias=True, rngs=rngs), relu),
    *(conv(384, 256, 3, bias=True, rngs=rngs), relu),
    *(conv(256, 256, 3, bias=True, rngs=rngs), relu, pool),
  ]
  head = [
    *(nnx.Dropout(dropout, rngs=rngs), _dense(9216, 4096, rngs), relu),
    *(nnx.Dropout(dropout, rngs=rngs), _dense(4096, 4096, rngs), relu),
    _dense(4096, given['num_classes'], rngs),
  ]
  net = AlexNet(layers, head, 6, given['mean'], given['std'])
  net.arguments = tuple(given.items())
  return net


class FeaturesThenClassifier(nnx.Module):
  """Convolutions, a mean pool to a fixed size, dense layers; numbered as torchvision numbers them.

  Args:
    features: layers and functions on images.
    classifier: layers and functions on vectors.
    pool: rows and columns after the mean pool.
    mean, std: per channel, of the images.

  Attributes:
    flattened: paths of dense layers that see an image flattened, with its (rows, columns,
      channels); here the channel is the last and fastest, in PyTorch the first.
  """

  def __init__(
    self,
    features: Sequence[Callable],
    classifier: Sequence[Callable],
    pool: int,
    mean: Sequence[float],
    std: Sequence[float],
  ):
    self.features = nnx.List(features)
    self.classifier = nnx.List(classifier)
    self.pool, self.mean, self.std = pool, tuple(mean), tuple(std)
    first = next(i for i, layer in enumerate(classifier) if isinstance(layer, nnx.Linear))
    channels = classifier[first].in_features // pool**2
    self.flattened = ((f'classifier/{first}', (pool, pool, channels)),)

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Logits (batch, num_classes) of images (batch, height, width, channels) in [0, 1].

    With `train`, units are dropped, and batch norm uses and updates batch statistics.
    """
    x = normalised(checked(images, len(self.mean)), self.mean, self.std)
    x = _through(self.features, x, train)
    if not x.size:
      raise ValueError(f'images has shape {images.shape}; the pools leave nothing of it')
    x = _pooled(x, self.pool)
    return _through(self.classifier, x.reshape(x.shape[0], -1), train)


class Vgg(FeaturesThenClassifier):
  """See `vgg`. Paths: features/0, ..., classifier/0, classifier/3, classifier/6."""


class AlexNet(FeaturesThenClassifier):
  """See `alexnet`. Paths: features/0, ..., classifier/1, classifier/4, classifier/6."""


def _through(layers: Sequence[Callable], x: Array, train: bool) -> Array:
  for layer in layers:
    if isinstance(layer, nnx.BatchNorm):
      x = layer(x, use_running_average=not train)
    elif isinstance(layer, nnx.Dropout):
      x = layer(x, deterministic=not train)
    else:
      x = layer(x)
  return x


def _pooled(x: Array, size: int) -> Array:
  """Means over `size` x `size` regions that cover the image, overlapping where they must."""
  for axis in (1, 2):
    length = x.shape[axis]
    if length == size:
      continue
    part = np.arange(size)[:, None]
    begin, end = part * length // size, -(-(part + 1) * length // size)
    inside = (begin <= np.arange(length)) & (np.arange(length) < end)
    share = jnp.asarray(inside / inside.sum(axis=1, keepdims=True), x.dtype)
    x = jnp.moveaxis(jnp.tensordot(share, x, (1, axis)), 0, axis)
  return x


def _overlapping(x: Array) -> Array:
  return nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2))


def _dense(ins: int, outs: int, rngs: nnx.Rngs) -> nnx.Linear:
  return nnx.Linear(ins, outs, kernel_init=dense_normal, rngs=rngs)
