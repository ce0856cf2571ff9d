"""Two small networks for MNIST: dense layers alone, and LeNet's two convolutions before two."""

import functools
from collections.abc import Sequence

import jax
from flax import nnx
from jax import Array

from tnjax.models._init import lecun_normal
from tnjax.models._layers import conv, halved
from tnjax.ops import integer, integers


def mlp(
  hidden: Sequence[int] = (1024, 1024), *, inputs: int = 784, num_classes: int = 10, rngs: nnx.Rngs
) -> 'Mlp':
  """Dense layers with ReLUs between them: inputs -> hidden[0] -> ... -> num_classes.

  Args:
    hidden: outputs of the hidden layers.
    inputs: entries of one input.
    num_classes: size of the output.
    rngs: initialisation keys.

  Raises:
    ValueError: sizes that are no positive ints.

  >>> import jax.numpy as jnp
  >>> net = mlp((8, 6), inputs=16, rngs=nnx.Rngs(0))
  >>> net(jnp.zeros((2, 4, 4, 1))).shape, net.stage(jnp.zeros((2, 4, 4, 1)), 0).shape
  ((2, 10), (2, 8))
  """
  given = {
    'hidden': integers(hidden, 'hidden'),
    'inputs': integer(inputs, 'inputs'),
    'num_classes': integer(num_classes, 'num_classes'),
  }
  if not given['hidden']:
    raise ValueError(f'hidden={hidden!r} must name at least one layer')
  net = Mlp(**given, rngs=rngs)
  net.arguments = tuple(given.items())
  return net


def lenet(*, num_classes: int = 10, rngs: nnx.Rngs) -> 'LeNet':
  """Two 5x5 convolutions, max pools, a dense layer of 500 and the output: 431,080 parameters.

  Caffe's version of LeNet-5, on which compression methods are compared.

  >>> import jax.numpy as jnp
  >>> net = lenet(rngs=nnx.Rngs(0))
  >>> sum(v.size for v in jax.tree.leaves(nnx.state(net))), net(jnp.zeros((2, 28, 28, 1))).shape
  (431080, (2, 10))
  """
  net = LeNet(integer(num_classes, 'num_classes'), rngs)
  net.arguments = (('num_classes', int(num_classes)),)
  return net


class Mlp(nnx.Module):
  """See `mlp`. Paths: layers/0, layers/1, ..., linear."""

  def __init__(self, hidden: tuple[int, ...], inputs: int, num_classes: int, rngs: nnx.Rngs):
    sizes = zip((inputs, *hidden), hidden)
    self.layers = nnx.List([_dense(ins, outs, rngs) for ins, outs in sizes])
    self.linear = _dense(hidden[-1], num_classes, rngs)

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Logits (batch, num_classes) of inputs (batch, ...), flattened; the same in training."""
    x = images
    for index in range(len(self.layers)):
      x = self.stage(x, index, train)
    return self.linear(x)

  def stage(self, x: Array, index: int, train: bool = False) -> Array:
    """The output of a hidden layer, given that of the one before; the first takes images."""
    del train
    return jax.nn.relu(self.layers[index](x.reshape(x.shape[0], -1)))


class LeNet(nnx.Module):
  """See `lenet`. Paths: conv1, conv2, hidden, linear."""

  def __init__(self, num_classes: int, rngs: nnx.Rngs):
    layer = functools.partial(conv, size=5, padding=0, bias=True, rngs=rngs)
    self.conv1, self.conv2 = layer(1, 20), layer(20, 50)
    self.hidden = _dense(800, 500, rngs)
    self.linear = _dense(500, num_classes, rngs)
    self.flattened = (('hidden', (4, 4, 50)),)

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Logits (batch, num_classes) of images (batch, 28, 28, 1); the same in training.

    The dense layer sees (row, column, channel), the last fastest.
    """
    return self.linear(self.stage(images, 0, train))

  def stage(self, x: Array, index: int = 0, train: bool = False) -> Array:
    """The only one: all but the last layer."""
    del index, train
    if x.shape[1:] != (28, 28, 1):
      raise ValueError(f'images has shape {x.shape}; it needs (batch, 28, 28, 1)')
    for layer in (self.conv1, self.conv2):
      x = halved(layer(x))
    return jax.nn.relu(self.hidden(x.reshape(x.shape[0], -1)))


def _dense(ins: int, outs: int, rngs: nnx.Rngs) -> nnx.Linear:
  return nnx.Linear(ins, outs, kernel_init=lecun_normal, rngs=rngs)
