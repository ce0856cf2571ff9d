"""The wide, shallow network for CIFAR-10 (section 6.2.1): 3072 -> 262,144 -> 4,096 -> 10.

Its first two layers are trains. As dense matrices they would have 805,306,368 and 1,073,741,824
entries, 7 GiB; nothing of that size is ever made.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from scipy import special

import tnjax as tn
from experiments.common import train
from experiments.tensornet import shapes
from experiments.tensornet.norm import BatchNorm

BATCH = 100
_KEEP = 0.6  # of dropout


class Wide(nnx.Module):
  """(train without bias, batch norm, ReLU, dropout) twice, and a dense layer.

  Args:
    rank: TT-rank of both layers.
    mode: the first layer has mode^6 outputs.
    rngs: initialisation keys.
  """

  def __init__(self, rank: int, mode: int, rngs: nnx.Rngs):
    first, second = shapes.wide_pair(rank, mode)
    self.tt1, self.tt2 = (_layer(matrix, rngs) for matrix in (first, second))
    norm = functools.partial(BatchNorm, momentum=0.8, epsilon=1e-3, rngs=rngs)
    self.norm1, self.norm2 = norm(first.shape[1]), norm(second.shape[1])
    self.linear = nnx.Linear(second.shape[1], 10, rngs=rngs)
    shape = self.linear.kernel.shape
    self.linear.kernel[...] = _truncated(rngs.params(), shape, 2 / shape[0])

  def __call__(self, images: Array, train: bool = False, key: Array | None = None) -> Array:
    """Logits (batch, 10) of images (batch, 32, 32, 3); in training `key` draws the dropout.

    Images are flattened as (row, column, channel), the last fastest.
    """
    x = images.reshape(len(images), -1)
    for i, (layer, norm) in enumerate(((self.tt1, self.norm1), (self.tt2, self.norm2))):
      x = jax.nn.relu(norm(layer(x), use_running_average=not train))
      if train:
        x = dropout(x, jax.random.fold_in(key, i))
    return self.linear(x)


def dropout(x: Array, key: Array) -> Array:
  """Sets entries to zero with probability 0.4, and scales the others so that the mean stays.

  >>> y = dropout(jnp.ones((100, 100)), jax.random.key(0))
  >>> bool(abs(y.mean() - 1) < 0.02), bool(abs((y > 0).mean() - 0.6) < 0.02)
  (True, True)
  """
  words = jax.random.bits(key, (-(-x.size // 2),), 'uint32')  # two entries a word: half the draws
  limit = round(_KEEP * 2**16)
  keep = jnp.concatenate([(words & 0xFFFF) < limit, (words >> 16) < limit])[: x.size]
  return jnp.where(keep.reshape(x.shape), x / _KEEP, 0)


def loss(
  model: nnx.Module, batch: tuple[Array, Array], key: Array
) -> tuple[Array, dict[str, Array]]:
  """Mean cross-entropy with dropout, and the accuracy; see `train.Loss`."""
  images, labels = batch
  logits = model(images, train=True, key=key)
  found = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
  return found, {'accuracy': (logits.argmax(-1) == labels).mean()}


def optimizer(learning_rate: float) -> train.Optimizer:
  """Plain SGD, the rate times 0.64 after every 2,000 steps."""
  rate = optax.exponential_decay(learning_rate, 2000, 0.64, staircase=True)
  return train.Optimizer(optax.sgd(rate), rate)


def _layer(matrix: shapes.Train, rngs: nnx.Rngs) -> tn.nn.Linear:
  """As the authors' code draws it: core k truncated normal of deviation 3 / (r_{k-1} n_k)."""
  layer = tn.nn.Linear(*matrix.shape, scheme=matrix.scheme, use_bias=False, rngs=rngs)
  bonds = (1, *layer.parametrization.ranks)
  for k, (bond, size) in enumerate(zip(bonds, matrix.ins)):
    core = getattr(layer, f'core_{k}')
    core[...] = _truncated(rngs.params(), core.shape, 3 / (bond * size))
  return layer


def _truncated(key: Array, shape: Sequence[int], std: float) -> Array:
  """Normal, cut at two standard deviations; on the host, as XLA compiles it for every shape."""
  uniform = np.random.default_rng(np.asarray(jax.random.key_data(key))).random(shape)
  low, high = special.ndtr(-2.0), special.ndtr(2.0)
  return jax.device_put((std * special.ndtri(low + (high - low) * uniform)).astype('float32'))
