"""Jobs that start from a trained image classifier: their settings, their data, their checks."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Self

from flax import nnx

from experiments.classifier import network
from experiments.common import config, data, data_mnist, job, mesh, results
from experiments.common.config import at_least, field, one_of

_DEFAULTS = {
  'digits': {'model': 'resnet8', 'train_epochs': 15, 'finetune_epochs': 5, 'batch_size': 64},
  'cifar10': {'model': 'resnet32', 'train_epochs': 100, 'finetune_epochs': 1, 'batch_size': 128},
  'mnist': {'model': 'lenet', 'train_epochs': 3, 'finetune_epochs': 1, 'batch_size': 128},
}
_SOURCES = {
  'cifar10': (data.download_cifar10, data.cifar10),
  'mnist': (data_mnist.download_mnist, data_mnist.mnist),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """Which network, trained on what, and how it is trained on once it is compressed.

  Of `finetune_epochs` and `finetune_steps` one is None once resolved. `weights_sha256` identifies
  the file's content, so that a resumed run cannot mix two networks.
  """

  dataset: str = field(
    'digits', 'Data: the embedded 8x8 digits, CIFAR-10, or MNIST.', one_of('digits', *_SOURCES)
  )
  data_dir: str | None = field(
    None,
    'For cifar10: the folder cifar-10-batches-py, or the one that holds it. For mnist: that of the '
    'four IDX files or of mnist.npz, or the one that holds it.',
    resume='free',
  )
  download: bool = field(
    False, 'Fetch the data into --data_dir if they are not there, checking md5.', resume='free'
  )
  model: str | None = field(
    None,
    'Network: resnet<depth> (He et al. v1, padded shortcuts) or resnet<depth>_v2 '
    '(pre-activation, projections), depth 8, 14, 20, 32, ...; for mnist lenet or mlp. Default '
    'resnet8 for digits, resnet32 for cifar10, lenet for mnist.',
  )
  weights: str | None = field(
    None,
    'Trained weights, .npz, .safetensors (or .th/.pt with torch installed), in '
    'PyTorch naming and OIHW layout. Without it the network is trained first.',
    resume='free',
  )
  weights_sha256: str | None = field(None, '', flag=False)
  layers: str = field(
    'stages/.*',
    'Regular expression over the full NNX path of the layers to compress. '
    'The default takes every convolution but the first.',
  )
  train_epochs: int | None = field(
    None,
    'Epochs of training without --weights. Default 15 for digits, 100 for cifar10, 3 for mnist.',
    at_least(1),
  )
  train_learning_rate: float = field(
    3e-3, 'Peak learning rate of training without --weights (AdamW, cosine).', at_least(0.0)
  )
  finetune_epochs: int | None = field(
    None, 'Epochs of fine-tuning per row. Default 5 for digits, else 1.', at_least(0)
  )
  finetune_steps: int | None = field(
    None,
    'Updates of fine-tuning per row, in place of --finetune_epochs.',
    at_least(0),
    instead_of='finetune_epochs',
  )
  learning_rate: float = field(
    1e-3, 'Peak learning rate of fine-tuning (AdamW, cosine).', at_least(0.0)
  )
  weight_decay: float = field(1e-4, 'Decoupled weight decay.', at_least(0.0))
  batch_size: int | None = field(
    None, 'Images per update. Default 64 for digits, else 128.', at_least(1)
  )

  def resolved(self) -> Self:
    """With the defaults of the data set.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    self.check_data()
    found = {k: v for k, v in _DEFAULTS[self.dataset].items() if getattr(self, k) is None}
    if self.finetune_steps is not None:
      found['finetune_epochs'] = None
    if self.weights is not None:
      if not pathlib.Path(self.weights).is_file():
        raise FileNotFoundError(f'--weights={self.weights} does not exist')
      found['weights_sha256'] = results.sha256(self.weights)
    return dataclasses.replace(super().resolved(), **found)

  def check_data(self) -> None:
    """Raises ValueError if the flags do not say where the data are."""
    if self.dataset != 'digits' and self.data_dir is None:
      raise ValueError(f'--dataset={self.dataset} needs --data_dir')
    if self.dataset == 'digits' and (self.data_dir or self.download):
      raise ValueError('--data_dir and --download go with other data; the digits are embedded')


def loader(this: job.Job) -> Callable[[int], data.Dataset]:
  """Gives the data set of a seed; fetches it first where --download says so."""
  return functools.lru_cache(maxsize=1)(functools.partial(_load, this))


def untrained(this: job.Job) -> nnx.Module:
  """The network before training, once --weights is known to fit it.

  Raises:
    ValueError: names the file, or a flag that it contradicts.
  """
  config = this.config
  for seed in config.seeds:
    _check_seed(config.weights, seed)
  model = network.build(config.model, config.dataset, config.seed)
  if config.weights is not None:
    network.check_dense(config.weights, network.load(config.weights, model))
  return model


def check_batch(this: job.Job, load: Callable[[int], data.Dataset]) -> None:
  """Raises ValueError if the devices of --mesh cannot share a batch; loads the data."""
  size = min(this.config.batch_size, len(load(this.config.seed).train))
  mesh.check_batch(this.mesh, size)


def _load(this: job.Job, seed: int) -> data.Dataset:
  config = this.config
  if config.dataset == 'digits':
    return data.digits(seed)
  fetch, read = _SOURCES[config.dataset]
  if config.download:
    fetch(config.data_dir, this.progress)
  return read(config.data_dir, seed)


def _check_seed(path: str | None, seed: int) -> None:
  """The digits are split by the seed: another one would test on images that were trained on."""
  about = None if path is None else network.description(path)
  if about is not None and about['dataset'] == 'digits' and about['seed'] != seed:
    raise ValueError(
      f'{path} was trained with --seed={about["seed"]}, which decides the test images; this run '
      f'has --seed={seed}'
    )
