"""What the studies share: data, training that resumes, and errors on held-out images."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import optax
from flax import nnx

from experiments.common import job, train
from experiments.common.checkpoint import Checkpoint
from experiments.common.classification import Batches, cross_entropy, evaluate
from experiments.common.data import Dataset, Split
from experiments.common.metrics import Metrics
from experiments.tensornet.store import Store

BATCH = 100  # the paper's, everywhere


class Lab:
  """Data and training for the rows of a job.

  Args:
    this: the job.
    folder: of its results.
    store: of the data.

  Attributes:
    config: the settings.
    progress: display.
    folder: of the results.
    data: (name, seed) -> Dataset; see `Store`.
  """

  def __init__(self, this: job.Job, folder: pathlib.Path, store: Store):
    self.config = this.config
    self.progress = this.progress
    self.folder = folder
    self.data = store.get
    self._mesh = this.mesh

  def train(
    self,
    model: nnx.Module,
    dataset: Dataset,
    optimizer: train.Optimizer,
    steps: int,
    name: str,
    seed: int,
    loss: train.Loss = cross_entropy,
    trainable: object = nnx.Param,
  ) -> dict:
    """Trains a network in place under a name; returns what a row says of it."""
    metrics, phase = Metrics(self.folder / 'metrics.jsonl'), f'{name}_seed{seed}'
    seconds = train.fit(
      model,
      loss,
      Batches(dataset, BATCH, seed),
      train.Settings(steps, optimizer, seed, trainable),
      self.progress,
      phase,
      self._checkpoint(phase),
      metrics,
      self._mesh,
    )
    lines = [line for line in metrics.read() if line['phase'] == phase]
    return {
      'steps': steps,
      'seconds': round(seconds, 3),
      'step_ms': step_ms(lines),
      'train_loss': lines[-1]['loss'],
    }

  def forget(self, name: str, seed: int) -> None:
    """Drops the state of a training whose row is saved."""
    self._checkpoint(f'{name}_seed{seed}').delete()

  def errors(self, model: nnx.Module, dataset: Dataset, batch: int = 500) -> dict:
    """Error rates on the test and, where there are any, the validation images."""

    def error(split: Split) -> float:
      return 1 - evaluate(model, split, dataset.scale, batch, self.progress)

    held_out = error(dataset.validation) if self.config.holdout else None
    return {'error': error(dataset.test), 'error_validation': held_out}

  def _checkpoint(self, phase: str) -> Checkpoint:
    return Checkpoint(self.folder / 'checkpoints' / phase)


def named(*parts: str | int | None) -> str:
  """Name of a training: study, cell and, where it has one, rank.

  >>> named('mnist', '4^5', 8), named('quick', 'dense', None)
  ('mnist_4^5_8', 'quick_dense')
  """
  return '_'.join(str(part) for part in parts if part is not None)


def momentum(learning_rate: float, steps: int) -> train.Optimizer:
  """The paper's SGD: momentum 0.9, decay 5e-4 of all but biases, which learn at twice the rate.

  The rate falls a thousandfold over the steps, as it does in 45 epochs of the released MNIST
  example, which then goes on for 55 more at that rate.
  """
  rate = optax.exponential_decay(learning_rate, steps, 1e-3)
  transform = optax.chain(
    optax.add_decayed_weights(5e-4, mask=lambda params: _where(params, lambda n: n > 1)),
    optax.masked(optax.scale(2.0), lambda params: _where(params, lambda n: n < 2)),
    optax.sgd(rate, momentum=0.9),
  )
  return train.Optimizer(transform, rate)


def step_ms(lines: Sequence[Mapping]) -> float | None:
  """Milliseconds a step, from lines of the metrics of one phase; the first, compiled, apart.

  >>> step_ms([{'step': 0, 'seconds': 9.0}, {'step': 4, 'seconds': 9.2}])
  50.0
  """
  first, last = lines[0], lines[-1]
  if first['step'] == last['step']:
    return None
  return round(1e3 * (last['seconds'] - first['seconds']) / (last['step'] - first['step']), 3)


def _where(params: nnx.State, holds: Callable[[int], bool]) -> nnx.State:
  """Of every array, whether its order is one of those meant."""
  return jax.tree.map(lambda a: holds(a.ndim), params)
