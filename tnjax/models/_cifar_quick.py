"""The small convolutional network for CIFAR-10 that Caffe and MatConvNet call "quick"."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.models._init import lecun_normal
from tnjax.models._layers import conv


def cifar_quick(hidden: int = 64, *, num_classes: int = 10, rngs: nnx.Rngs) -> 'CifarQuick':
  """Three 5x5 convolutions and two dense layers (Krizhevsky's "quick" layers).

  conv 3 -> 32, max pool, ReLU; conv 32 -> 32, ReLU, mean pool; conv 32 -> 64, ReLU, mean pool;
  dense 1024 -> hidden, ReLU; dense hidden -> classes. Pools are 3x3 with stride 2. Novikov et al.
  2015 (arXiv 1509.06569, section 6.2) replace the dense layers by TT-layers, the first with 3,125
  outputs.

  Args:
    hidden: outputs of the first dense layer.
    num_classes: size of the output.
    rngs: initialisation keys.

  >>> net = cifar_quick(rngs=nnx.Rngs(0))
  >>> sum(v.size for v in jax.tree.leaves(nnx.state(net))) == 79_328 + 65_600 + 650
  True
  >>> net(jnp.zeros((2, 32, 32, 3))).shape
  (2, 10)
  """
  net = CifarQuick(int(hidden), int(num_classes), rngs)
  net.arguments = (('hidden', int(hidden)), ('num_classes', int(num_classes)))
  return net


class CifarQuick(nnx.Module):
  """See `cifar_quick`. Paths: conv1, conv2, conv3, linear1, linear2."""

  def __init__(self, hidden: int, num_classes: int, rngs: nnx.Rngs):
    layer = partial(conv, size=5, bias=True, rngs=rngs)
    self.conv1, self.conv2, self.conv3 = layer(3, 32), layer(32, 32), layer(32, 64)
    self.linear1 = nnx.Linear(1024, hidden, kernel_init=lecun_normal, rngs=rngs)
    self.linear2 = nnx.Linear(hidden, num_classes, kernel_init=lecun_normal, rngs=rngs)
    self.flattened = (('linear1', (4, 4, 64)),)

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Logits (batch, num_classes) of images (batch, 32, 32, 3), preprocessed; the same in training.

    The first dense layer sees (row, column, channel), the last fastest.
    """
    del train
    if images.shape[1:] != (32, 32, 3) or not jnp.issubdtype(images.dtype, jnp.floating):
      raise ValueError(
        f'images is {images.dtype}{images.shape}; it needs floats (batch, 32, 32, 3)'
      )
    pool = {'window_shape': (3, 3), 'strides': (2, 2), 'padding': ((0, 1), (0, 1))}
    x = jax.nn.relu(nnx.max_pool(self.conv1(images), **pool))
    for layer in (self.conv2, self.conv3):
      x = nnx.avg_pool(jax.nn.relu(layer(x)), **pool, count_include_pad=False)
    return self.linear2(jax.nn.relu(self.linear1(x.reshape(x.shape[0], -1))))
