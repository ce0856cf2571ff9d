"""Data and network of one seed, and how they are trained, measured and saved."""

import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
from flax import nnx

import tnjax as tn
from experiments.classifier import network
from experiments.common import job, mesh, results, train
from experiments.common.checkpoint import Checkpoint
from experiments.common.classification import batches, cross_entropy, evaluate
from experiments.common.data import Split
from experiments.common.data_folder import Data
from experiments.common.metrics import Metrics

EVAL_BATCH = 500

Rules = tuple[tuple[str, tn.schemes.Scheme | None], ...]


class Seeded:
  """What every row of one seed starts from. A subclass may have another loss and other networks.

  Args:
    this: the job, its settings a `classifier.Config`.
    folder: of the results.
    dataset: as split by the seed.
    seed: of initialisation, order, augmentation and random decompositions.

  Attributes:
    LOSS: what training makes small.
    NOTES: settings that a saved network carries.
    batches: of the training split, in the order of the seed.
    model: the network: loaded, found in the folder, or trained now.
  """

  LOSS: ClassVar[train.Loss] = staticmethod(cross_entropy)
  NOTES: ClassVar[Sequence[str]] = ('dataset', 'model', 'layers', 'image_size', 'mean', 'std')

  def __init__(self, this: job.Job, folder: pathlib.Path, dataset: Data, seed: int):
    self.config = this.config
    self.seed = seed
    self.dataset = dataset
    self._job = this
    self._folder = folder
    self.batches = self.in_order()
    self.model = self.untrained()
    if self.config.weights is None:
      self._train()
    else:
      self.model = network.load(self.config.weights, self.model)

  def in_order(self) -> train.Batches:
    """The training split in the order of the seed."""
    return batches(self.dataset, self.config.batch_size, self.seed)

  def untrained(self) -> nnx.Module:
    """The network of the seed before any training."""
    return network.of(self.config, self.seed, self.dataset.num_classes)

  def optimizer(self, steps: int, learning_rate: float) -> train.Optimizer:
    """Of so many updates."""
    return train.adamw(steps, learning_rate, self.config.weight_decay)

  def line(self, noted: Mapping) -> str:
    """What is printed of the network before compression, whose facts are `noted`."""
    return (
      f'{self.config.model} on {self.config.dataset}: test accuracy {noted["accuracy"]:.2%}, '
      f'{noted["params"]:,} parameters'
    )

  def facts(self) -> dict:
    """What the report says of the network before compression."""
    config = self.config
    table = tn.compression.plan(
      self.model, ((config.layers, None),), input_shape=self.dataset.image_shape
    )
    return {
      'accuracy': self.accuracy(self.model, self.dataset.test),
      'accuracy_validation': self.accuracy(self.model, self.dataset.validation),
      'params': table.dense_params,
      'macs': table.dense_macs,
      'weights_sha256': self.digest(),
    }

  def digest(self) -> str:
    """Of the file that the network was loaded from or saved to."""
    return self.config.weights_sha256 or results.sha256(self._path('baseline'))

  def accuracy(self, model: nnx.Module, split: Split) -> float:
    """On the images of a split."""
    return evaluate(model, split, self.dataset.scale, EVAL_BATCH, self._job.progress)

  def train(self, model: nnx.Module, name: str) -> tuple[int, float]:
    """Trains a network from its start as the one before compression; as `finetune`."""
    steps = self.batches.steps(self.config.train_epochs)
    return steps, self.fit(model, name, steps, self.config.train_learning_rate)

  def compress(self, rules: Rules, name: str) -> tuple[nnx.Module, tn.compression.Report, float]:
    """The network compressed by rules, the table of that, and seconds."""
    start = time.monotonic()
    count = len(tn.compression.plan(self.model, rules).compressed)
    with self._job.progress.task(f'decompose {name}', count) as advance:
      model, table = tn.compress(
        self.model,
        rules,
        jax.random.key(self.seed),
        input_shape=self.dataset.image_shape,
        on_layer=lambda path: advance(1, path),
      )
    jax.block_until_ready(nnx.state(model))
    return model, table, time.monotonic() - start

  def finetune(self, model: nnx.Module, name: str) -> tuple[int, float]:
    """Trains a compressed network; returns the number of updates, and seconds."""
    steps = self.config.finetune_steps
    if steps is None:
      steps = self.batches.steps(self.config.finetune_epochs)
    return steps, self.fit(model, name, steps, self.config.learning_rate) if steps else 0.0

  def fit(self, model: nnx.Module, name: str, steps: int, learning_rate: float) -> float:
    """Trains a network in place under a name; returns seconds."""
    settings = train.Settings(steps, self.optimizer(steps, learning_rate), self.seed)
    return train.fit(
      model,
      self.LOSS,
      self.batches,
      settings,
      self._job.progress,
      named(name, self.seed),
      self._checkpoint(name),
      Metrics(self._folder / 'metrics.jsonl'),
      self._job.mesh,
    )

  def save(self, model: nnx.Module, name: str, kind: str = '', **row: object) -> tuple[str, str]:
    """Writes a network; returns its path in the folder, and its digest."""
    about = {key: getattr(self.config, key) for key in self.NOTES}
    about |= {'seed': self.seed, 'scheme': None, 'rate': None}
    path = self._path(name, kind)
    with results.naming(path):
      tn.save(path, model, notes=about | row)
    return str(path.relative_to(self._folder)), results.sha256(path)

  def forget(self, name: str) -> None:
    """Drops the training state kept under a name: its results are saved."""
    self._checkpoint(name).delete()

  def _train(self) -> None:
    found = mesh.agree(self._path('baseline').is_file())
    if not found:
      self.train(self.model, 'train')
      self.save(self.model, 'baseline')
    elif mesh.primary():
      with job.one_line(ValueError):  # damaged since it was written
        self.model = network.load(self._path('baseline'), self.model)
    nnx.update(self.model, mesh.broadcast(nnx.state(self.model)))
    self.forget('train')

  def _checkpoint(self, name: str) -> Checkpoint:
    return Checkpoint(self._folder / 'checkpoints' / named(name, self.seed))

  def _path(self, name: str, kind: str = '') -> pathlib.Path:
    name = named(name, self.seed)
    return self._folder / 'weights' / f'{name}{kind and "_"}{kind}.safetensors'


def named(name: str, seed: int) -> str:
  """The name with the seed: that of seed 0 is as it was before there were several."""
  return f'{name}_seed{seed}' if seed else name
