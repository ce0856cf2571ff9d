"""Jobs that start from a trained image classifier: their settings, their data, their checks."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import ClassVar, Self

from flax import nnx

from experiments.classifier import network
from experiments.common import config, data, data_folder, data_mnist, job, mesh, results
from experiments.common.config import FINITE, POSITIVE, at_least, field, one_of

_DEFAULTS = {
  'digits': {'model': 'resnet8', 'train_epochs': 15, 'finetune_epochs': 5, 'batch_size': 64},
  'cifar10': {'model': 'resnet32', 'train_epochs': 100, 'finetune_epochs': 1, 'batch_size': 128},
  'mnist': {'model': 'lenet', 'train_epochs': 3, 'finetune_epochs': 1, 'batch_size': 128},
  'imagenet': {
    'model': 'vgg16', 'train_epochs': 90, 'finetune_epochs': 1, 'batch_size': 128,
    'image_size': data_folder.SIZE,
  },
}  # fmt: skip
_SOURCES = {
  'cifar10': (data.download_cifar10, data.cifar10),
  'mnist': (data_mnist.download_mnist, data_mnist.mnist),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """Which network, trained on what, and how it is trained on once it is compressed.

  Of `finetune_epochs` and `finetune_steps` one is None once resolved. `weights_sha256` identifies
  the file's content, so that a resumed run cannot mix two networks.

  Attributes:
    CHOOSES: whether the job itself chooses by its validation images; then those of a network that
      others trained, or this with another seed, are half of the test part, as it may have been
      trained on the others.
  """

  CHOOSES: ClassVar[bool] = False

  dataset: str = field(
    'digits',
    'Data: the embedded 8x8 digits, CIFAR-10, MNIST, or ImageNet, which may be any images in class '
    'folders.',
    one_of(*_DEFAULTS),
  )
  data_dir: str | None = field(
    None,
    'For cifar10: the folder cifar-10-batches-py, or the one that holds it. For mnist: that of the '
    'four IDX files or of mnist.npz, or the one that holds it. For imagenet: that of train/CLASS/ '
    'and val/CLASS/, a folder of JPEGs for every class; val is the test part, a tenth of train (at '
    'most 10,000 images) is for validation.',
    resume='free',
  )
  download: bool = field(
    False, 'Fetch the data into --data_dir if they are not there, checking md5.', resume='free'
  )
  workers: int | None = field(
    None,
    'For imagenet: processes that decode images, for training and for evaluation; 0 for none. '
    'Default one a core.',
    at_least(0),
    resume='free',
  )
  image_size: int | None = field(
    None,
    'For imagenet: rows and columns of an image, a crop of it for training; for evaluation the '
    'middle of it, its shorter side being 8/7 of this. Default 224.',
    at_least(64),  # of less the pools of AlexNet leave nothing
  )
  model: str | None = field(
    None,
    'Network: resnet<depth> (He et al. v1, padded shortcuts), resnet<depth>_projection or '
    'resnet<depth>_v2 (pre-activation, projections), depth 8, 14, 20, 32, ...; for cifar10 also '
    'vgg11, 13, 16, 19, with batch norm and two dense layers (_quarter: of the width; _bn: with '
    'one dense layer; _plain: that without batch norm); for mnist lenet or mlp; for imagenet '
    "torchvision's vgg11, 13, 16, 19 (or with _bn), alexnet, resnet18, 34, 50, 101, 152. Default "
    'resnet8 for digits, resnet32 for cifar10, lenet for mnist, vgg16 for imagenet.',
  )
  weights: str | None = field(
    None,
    'Trained weights, .npz, .safetensors (or .th/.pt/.pth with torch installed), in '
    'PyTorch naming and OIHW layout; or hf:OWNER/NAME, which is fetched from Hugging Face (needs '
    'huggingface_hub and a network). Without it the network is trained first.',
    resume='free',
  )
  weights_sha256: str | None = field(None, '', flag=False)
  mean: tuple[float, ...] | None = field(
    None,
    'What the network subtracts from every channel of an image in [0, 1], comma-separated: as '
    '--weights were trained. Default that of ImageNet; of the digits their own.',
    FINITE,
  )
  std: tuple[float, ...] | None = field(None, 'What it divides them by; as --mean.', POSITIVE)
  layers: str | None = field(
    None,
    'Regular expression over the full NNX path of the layers to compress. The default takes every '
    'convolution but the first, and no dense layer: stages/.* or, for VGG and AlexNet, '
    "features/(?!0$).*, imagenet's ResNets layer[1-4]/.*; for mnist the hidden dense layers too: "
    'conv2|hidden or layers/.*',
  )
  train_epochs: int | None = field(
    None,
    'Epochs of training without --weights. Default 15 for digits, 100 for cifar10, 3 for mnist, '
    '90 for imagenet.',
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
    if self.layers is None:
      found['layers'] = network.layers(found.get('model', self.model), self.dataset)
    if self.weights is not None:
      found['weights_sha256'] = results.sha256(local('weights', self.weights))
      found |= noted_statistics(self.weights, {'mean': self.mean, 'std': self.std})
    return dataclasses.replace(super().resolved(), **found)

  def check_data(self) -> None:
    """Raises ValueError if the flags do not say where the data are."""
    if self.dataset != 'digits' and self.data_dir is None:
      raise ValueError(f'--dataset={self.dataset} needs --data_dir')
    if self.dataset == 'digits' and (self.data_dir or self.download):
      raise ValueError('--data_dir and --download go with other data; the digits are embedded')
    if self.dataset == 'imagenet' and self.download:
      raise ValueError(
        '--download: ImageNet is given out to registered users alone; unpack it into --data_dir'
      )
    for name in ('mean', 'std'):
      own, channels = getattr(self, name), 1 if self.dataset == 'digits' else 3
      if own is not None and self.dataset == 'mnist':
        raise ValueError(f'--{name} is not for mnist, whose networks take images as they are')
      if own is not None and len(own) != channels:
        raise ValueError(f'--{name}={own} must have an entry for each of {channels} channels')
    for name in ('workers', 'image_size'):
      if self.dataset != 'imagenet' and getattr(self, name) is not None:
        raise ValueError(f'--{name} goes with --dataset=imagenet')


def noted_statistics(path: str, given: Mapping[str, object]) -> dict[str, tuple | None]:
  """The mean and deviation that a file of a job's says its network has; {} for any other file.

  Raises:
    ValueError: the flags that are `given` say something else.
  """
  about = network.description(path)
  if about is None:
    return {}
  found = {}
  for name in ('mean', 'std'):
    noted, own = about.get(name), given.get(name)
    found[name] = None if noted is None else tuple(noted)
    if own is not None and own != found[name]:
      raise ValueError(
        f'{path} was trained with --{name}={found[name] or "its default"}, not {own}'
      )
  return found


def local(flag: str, path: str) -> pathlib.Path:
  """The file of the weights that a flag names, see `network.file`.

  Raises:
    ValueError, FileNotFoundError: it cannot be fetched, or does not exist.
  """
  try:
    found = pathlib.Path(network.file(path))
  except ValueError as error:
    raise ValueError(f'--{flag}: {error}') from None
  if not found.is_file():
    raise FileNotFoundError(f'--{flag}={path} does not exist or is a folder')
  return found


def loader(this: job.Job) -> Callable[[int], data_folder.Data]:
  """Gives the data set of a seed; fetches it first where --download says so."""
  folders = []

  @functools.lru_cache(maxsize=1)
  def load(seed: int) -> data_folder.Data:
    for folder in folders:
      folder.close()  # workers of another seed; whoever still reads it starts them again
    found = _load(this, seed)
    if isinstance(found, data_folder.Folder):
      folders.append(this.enter(contextlib.closing(found)))
    return found

  return load


def untrained(this: job.Job, load: Callable[[int], data_folder.Data]) -> nnx.Module:
  """The network before training, once --weights is known to fit it.

  Raises:
    ValueError: names the file, or a flag that it contradicts.
  """
  config = this.config
  for seed in config.seeds:
    _check_seed(config.weights, seed)
  classes = load(config.seed).num_classes
  model = network.of(config, config.seed, classes)
  if config.weights is not None:
    network.check_dense(config.weights, network.load(config.weights, model))
  return model


def check_batch(this: job.Job, load: Callable[[int], data_folder.Data]) -> None:
  """Raises ValueError if the devices of --mesh cannot share a batch; loads the data."""
  size = min(this.config.batch_size, len(load(this.config.seed).train))
  mesh.check_batch(this.mesh, size)


def _load(this: job.Job, seed: int) -> data_folder.Data:
  config = this.config
  found = _read(this, seed)
  if not config.CHOOSES or config.weights is None:
    return found
  about = network.description(config.weights)
  ours = about is not None and (about['dataset'], about['seed']) == (config.dataset, seed)
  return found if ours else found.held_out(seed)


def _read(this: job.Job, seed: int) -> data_folder.Data:
  config = this.config
  if config.dataset == 'digits':
    return data.digits(seed)
  if config.dataset == 'imagenet':
    size = config.image_size or data_folder.SIZE
    say = this.progress.print
    return data_folder.imagenet(config.data_dir, seed, size, config.workers, say)
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
