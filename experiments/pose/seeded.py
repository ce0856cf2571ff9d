"""The dense network of one seed, and how hourglasses are trained and measured."""

import functools
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

import tnjax as tn
from experiments.classifier import seeded
from experiments.classifier.seeded import named
from experiments.common import results, train
from experiments.pose import crops, metrics, rows
from experiments.pose.augment import middle
from experiments.pose.config import LAYOUTS
from experiments.pose.people import People

_AT_ONCE = 100  # images that are measured
_FALL = 250**0.5  # of the learning rate, twice: from 2.5e-4 to 1e-6
# Of a joint's error: PCK in torsos, PCKh in heads.
THRESHOLDS = {'pck': (metrics.torsos, 0.2), 'pckh': (metrics.heads, 0.5)}


def mse(
  model: nnx.Module, batch: tuple[Array, Array, Array], key: Array
) -> tuple[Array, dict[str, Array]]:
  """The squared error of the heatmaps of joints that count, its mean summed over the stacks; and
  that of the last stack. See `train.Loss`.
  """
  del key
  images, wanted, counted = batch
  squares = jnp.square(model(images, train=True) - wanted[None]).mean((2, 3))  # stacks, b, J
  found = (squares * counted[None]).sum((1, 2)) / jnp.maximum(counted.sum(), 1)
  return found.sum(), {'last_stack': found[-1]}


class Seeded(seeded.Seeded):
  """What every row of one seed starts from; see `classifier.seeded`."""

  LOSS = staticmethod(mse)
  NOTES: ClassVar = ('dataset', 'layers', 'size', 'train_epochs')

  def in_order(self) -> crops.Batches:
    """The training part in the order of the seed."""
    size = self.config.size
    return crops.Batches(self.dataset, self.config.batch_size, self.seed, size // 4)

  def untrained(self) -> tn.models.Hourglass:
    """The network of the seed before any training."""
    return rows.build(self.config, self.seed)

  def optimizer(self, steps: int, learning_rate: float) -> train.Optimizer:
    """RMSprop as torch has it, by the paper's schedule, scaled to so many updates."""
    falls = {round(part * steps): 1 / _FALL for part in (0.6, 0.9)}
    rate = optax.piecewise_constant_schedule(learning_rate, falls)
    return train.Optimizer(optax.rmsprop(rate, decay=0.99, eps_in_sqrt=False), rate)

  def predicted(self, model: nnx.Module) -> tuple[np.ndarray, People]:
    """Joints in pixels of the images, (n, J, 2), and whose they are."""
    size, part = self.config.size, self.dataset.validation
    find = predictor(model, size)
    people, joints = crops.predictions(
      lambda canvases: find(canvases)[0], part, size, _AT_ONCE, self._job.progress
    )
    return joints, people

  def score(self, model: nnx.Module) -> dict:
    """The measures of a network; see `scores`."""
    return scores(*self.predicted(model))

  def save(self, model: nnx.Module, name: str, kind: str = '', **row: object) -> tuple[str, str]:
    """Writes a network, and beside it of whom it was trained; see `classifier.seeded`."""
    return super().save(model, name, kind, data_sha256=self.dataset.fingerprint(), **row)

  def facts(self) -> dict:
    """What the report says of the network before compression."""
    table = tn.compression.plan(
      self.model, ((self.config.layers, None),), input_shape=self.dataset.image_shape
    )
    return {
      **self.kept(self.model, 'baseline'),
      'params': table.dense_params,
      'kernel_params': rows.size_of(self.model).tensor,
      'macs': table.dense_macs,
      'weights_sha256': self.digest(),
    }

  def kept(self, model: nnx.Module, name: str) -> dict:
    """The measures of a network, and the file that keeps what it predicts."""
    joints, people = self.predicted(model)
    path = self._folder / 'predictions' / f'{named(name, self.seed)}.npy'
    with results.atomic(path) as partial:
      np.save(partial, joints.astype('float32'))
    return {
      **scores(joints, people),
      'predictions': str(path.relative_to(self._folder)),
      'predictions_sha256': results.sha256(path),
    }

  def line(self, noted: Mapping) -> str:
    """What is printed of the network before compression."""
    return f'dense: {noted["metric"]} {noted["accuracy"]:.2%}, {noted["params"]:,} parameters'


def notes(path: str) -> dict:
  """What `Seeded.save` noted in a file beside the network.

  Raises:
    ValueError: it is damaged, or something else.
  """
  try:
    found = tn.compression.describe(path).get('notes') or {}
  except ValueError as error:
    raise ValueError(f'--weights: {error}') from None
  if not (found.keys() >= {'dataset', 'size'} and found['dataset'] in LAYOUTS):
    raise ValueError(f'--weights={path} is not of a network that experiments.pose.main saved')
  return found


def scores(joints: np.ndarray, people: People) -> dict:
  """PCK@0.2 and PCKh@0.5 of predictions, and which of both is the data set's: `accuracy`.

  Args:
    joints: in pixels of the images, (n, J, 2).
    people: the truth.
  """
  found = {
    name: metrics.pck(joints, people, scales(people), threshold)
    for name, (scales, threshold) in THRESHOLDS.items()
  }
  main = metric(people)
  kinds = zip(people.layout.names, found[main].joints)
  return {
    'metric': main,
    'accuracy': found[main].mean,
    **{name: _number(score.mean) for name, score in found.items()},
    'joints': {name: _number(part) for name, part in kinds},
    'counted': found[main].counted,
    'left_out': found[main].left_out,
  }


def _number(fraction: float) -> float | None:
  """None, as JSON has it, where there was nobody to measure."""
  return None if np.isnan(fraction) else float(fraction)


def metric(people: People) -> str:
  """The one that results of a data set are given in: PCKh where it has boxes of heads."""
  return 'pck' if people.heads is None else 'pckh'


def predictor(model: nnx.Module, size: int) -> Callable[[np.ndarray], tuple[Array, Array]]:
  """canvases uint8 (b, c, c, 3) -> joints in pixels of the crops (b, J, 2), and the peaks of their
  heatmaps (b, J).
  """
  graph, state = nnx.split(model)
  return functools.partial(_joints, graph, size, state)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _joints(
  graph: nnx.GraphDef, size: int, state: nnx.State, canvases: Array
) -> tuple[Array, Array]:
  heatmaps = nnx.merge(graph, state, copy=True)(middle(canvases, size))[-1]
  return metrics.decode(heatmaps, size), heatmaps.max((1, 2))
