"""CIFAR-10's quick network (section 6.2), its dense layers as trains on fixed convolutions."""

import functools
import pathlib

import jax
from flax import nnx

import tnjax as tn
from experiments.common import job, results
from experiments.tensornet import inputs, shapes
from experiments.tensornet.config import Config
from experiments.tensornet.lab import Lab, momentum, named

RANK = 8
_CELLS = (('dense', None), ('first', RANK), ('both', RANK))
DENSE_LAYERS = nnx.All(nnx.Param, nnx.Any(nnx.PathContains('linear1'), nnx.PathContains('linear2')))


def cells(config: Config) -> list[tuple[str, int | None]]:
  """The dense network, which the other two take their convolutions from; they come after it."""
  del config
  return list(_CELLS)


def network(cell: str, seed: int, trained: tn.models.CifarQuick) -> tn.models.CifarQuick:
  """The trained network with new dense layers: 'first' or 'both' of them trains.

  >>> net = network('both', 0, tn.models.cifar_quick(rngs=nnx.Rngs(0)))
  >>> net.linear1.parametrization.num_params, net.linear2.parametrization.num_params
  (4160, 1265)
  """
  net, rngs = nnx.clone(trained), nnx.Rngs(seed)
  first, second = shapes.quick_pair(RANK)
  net.linear1 = tn.nn.Linear(*first.shape, scheme=first.scheme, rngs=rngs)
  if cell == 'first':
    net.linear2 = nnx.Linear(*second.shape, rngs=rngs)
  else:
    net.linear2 = tn.nn.Linear(*second.shape, scheme=second.scheme, rngs=rngs)
  return net


def row(lab: Lab, cell: str, rank: int | None, seed: int) -> dict:
  """Trains all of the dense network, or the dense layers of another; its size and errors."""
  dataset, config = lab.data('cifar10', seed), lab.config
  path = lab.folder / 'weights' / f'quick_seed{seed}.safetensors'
  if cell == 'dense':
    net, trainable = tn.models.cifar_quick(rngs=nnx.Rngs(seed)), nnx.Param
    steps = config.quick_steps
  else:
    net, trainable = network(cell, seed, _trained(path)), DENSE_LAYERS
    steps = config.dense_steps
  model = inputs.Prepared(net, _whitening(lab, seed))
  optimizer = momentum(config.quick_learning_rate, steps)
  name = named('quick', cell, rank)
  found = lab.train(model, dataset, optimizer, steps, name, seed, trainable=trainable)
  if cell == 'dense':
    with results.naming(path):
      tn.save(path, net)
  return {
    'params': sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param))),
    **lab.errors(model, dataset),
    **found,
  }


def _trained(path: pathlib.Path) -> tn.models.CifarQuick:
  with job.one_line(OSError, ValueError):  # lost or damaged since it was written
    return tn.load(path)


@functools.lru_cache(maxsize=1)
def _whitening(lab: Lab, seed: int) -> inputs.Preparation:
  """Takes half a minute."""
  dataset = lab.data('cifar10', seed)
  with lab.progress.task('whiten', 1) as advance:
    found = inputs.whitening(dataset.train, dataset.scale)
    advance(1)
  return found
