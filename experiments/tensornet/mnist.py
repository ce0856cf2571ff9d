"""MNIST (section 6.1): 1024 -> 1024 -> 10, the first layer or both as trains."""

import math

import jax
from flax import nnx
from jax import Array

import tnjax as tn
from experiments.tensornet import inputs, shapes
from experiments.tensornet.config import Config
from experiments.tensornet.lab import Lab, momentum, named
from experiments.tensornet.shapes import HIDDEN, MATRIX_RANK

BOTH = (8, 6)  # ranks at which both layers are trains
_STD = math.sqrt(2 / 1024)  # of all weights of the first layer, whatever its form (He)


class Perceptron(nnx.Module):
  """Two layers with a ReLU between them, on images that are flattened row by row."""

  def __init__(self, first: nnx.Module, second: nnx.Module):
    self.linear1, self.linear2 = first, second

  def __call__(self, images: Array, train: bool = False) -> Array:
    """Logits (batch, 10) of images (batch, 32, 32, 1); the same in training."""
    del train
    return self.linear2(jax.nn.relu(self.linear1(images.reshape(len(images), -1))))


def cells(config: Config) -> list[tuple[str, int | None]]:
  """Networks and their ranks: dense, Figure 1's, and both layers as trains."""
  names = (*config.shapes, MATRIX_RANK)
  figure = [(name, rank) for name in names for rank in config.ranks]
  return [('dense', None), *figure, *(('both', rank) for rank in BOTH)]


def network(cell: str, rank: int | None, seed: int) -> Perceptron:
  """The network of a cell, at its start.

  >>> net = network('4^5', 8, 0)
  >>> net.linear1.parametrization.num_params
  3328
  """
  rngs = nnx.Rngs(seed)
  second = nnx.Linear(HIDDEN, 10, rngs=rngs)
  if cell == 'dense':
    start = nnx.initializers.normal(_STD)
    return Perceptron(nnx.Linear(1024, HIDDEN, kernel_init=start, rngs=rngs), second)
  if cell == 'both':
    matrix, last = shapes.mnist_pair(rank)
    scheme = matrix.scheme
    second = tn.nn.Linear(HIDDEN, 10, scheme=last.scheme, rngs=rngs)
  else:
    scheme = shapes.figure1_scheme(cell, rank)
  return Perceptron(tn.nn.Linear(1024, HIDDEN, scheme=scheme, kernel_std=_STD, rngs=rngs), second)


def row(lab: Lab, cell: str, rank: int | None, seed: int) -> dict:
  """Trains the network of a cell; its sizes and errors."""
  dataset = lab.data('mnist', seed)
  net = network(cell, rank, seed)
  model = inputs.Prepared(net, inputs.centred(dataset.train, dataset.scale))
  steps = lab.config.mnist_steps
  optimizer = momentum(lab.config.mnist_learning_rate, steps)
  found = lab.train(model, dataset, optimizer, steps, named('mnist', cell, rank), seed)
  first = nnx.state(net.linear1, nnx.Param)
  return {
    'first_layer_weights': sum(v.size for v in jax.tree.leaves(first)) - HIDDEN,
    'params': sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param))),
    **lab.errors(model, dataset),
    **found,
  }
