"""The settings of the job, and its presets."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import ClassVar, Self

import tnjax as tn
from experiments.common import config, results
from experiments.common.config import FRACTION, at_least, field, one_of
from experiments.compress import network

_DEFAULTS = {
  'digits': {'model': 'resnet8', 'train_epochs': 15, 'finetune_epochs': 5, 'batch_size': 64},
  'cifar10': {'model': 'resnet32', 'train_epochs': 100, 'finetune_epochs': 1, 'batch_size': 128},
}
_BESIDE_EVAL = ('eval', 'dataset', 'data_dir', 'download', 'model', 'seed', 'compile_cache')
_ALL = ('svd', 'cp', 'tk', 'tt', 'tr', 'r_cp', 'r_tk', 'r_tt', 'shuffled')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """What to compress, and how.

  Of `finetune_epochs` and `finetune_steps` one is None once resolved. `weights_sha256` identifies
  the file's content, so that a resumed run cannot mix two networks.
  """

  PRESETS: ClassVar = {
    'smoke': {'schemes': ('svd', 'tk'), 'rates': (0.2,), 'train_epochs': 1, 'finetune_steps': 3},
    'reduced': {'rates': (0.02, 0.05, 0.1, 0.2, 0.4), 'seeds': (0, 1, 2)},
    'gpu': {
      'dataset': 'cifar10',
      'schemes': ('svd', 'cp', 'tk', 'tt', 'r_cp', 'r_tk', 'r_tt'),
      'rates': (0.05, 0.1, 0.2),
      'train_epochs': 60,
      'finetune_epochs': 2,
    },
    'paper': {
      'dataset': 'cifar10',
      'model': 'resnet32_v2',
      'rates': (0.02, 0.05, 0.1, 0.2, 0.4),
      'train_epochs': 200,
      'finetune_epochs': 20,
      'seeds': (0, 1, 2),
    },
  }

  dataset: str = field(
    'digits', 'Data: the embedded 8x8 digits, or CIFAR-10.', one_of('digits', 'cifar10')
  )
  data_dir: str | None = field(
    None,
    'For cifar10: the folder cifar-10-batches-py, or the one that holds it.',
    resume='free',
  )
  download: bool = field(
    False, 'Fetch CIFAR-10 into --data_dir if it is not there, checking its md5.', resume='free'
  )
  model: str | None = field(
    None,
    'Network: resnet<depth> (He et al. v1, padded shortcuts) or resnet<depth>_v2 '
    '(pre-activation, projections), depth 8, 14, 20, 32, ... Default resnet8 for digits, resnet32 '
    'for cifar10.',
  )
  weights: str | None = field(
    None,
    'Trained weights, .npz, .safetensors (or .th/.pt with torch installed), in '
    'PyTorch naming and OIHW layout. Without it the network is trained first.',
    resume='free',
  )
  weights_sha256: str | None = field(None, '', flag=False)
  eval: str | None = field(
    None,
    'Only evaluate this weights file on the test images: one that a run saved under '
    'weights/, or one that --weights would take. Besides it only the data are needed: --data_dir '
    'for CIFAR-10.',
    resume='free',
  )
  schemes: tuple[str, ...] = field(
    _ALL, 'Schemes to try, comma-separated.', one_of(*tn.schemes.NAMES), resume='grow'
  )
  rates: tuple[float, ...] = field(
    (0.05, 0.1, 0.2, 0.4),
    'Nominal rates to try: compressed / original size of a kernel, '
    'comma-separated. The report has the true ratios.',
    FRACTION,
    resume='grow',
  )
  layers: str = field(
    'stages/.*',
    'Regular expression over the full NNX path of the layers to compress. '
    'The default takes every convolution but the first.',
  )
  train_epochs: int | None = field(
    None,
    'Epochs of training without --weights. Default 15 for digits, 100 for cifar10.',
    at_least(1),
  )
  train_learning_rate: float = field(
    3e-3, 'Peak learning rate of training without --weights (AdamW, cosine).', at_least(0.0)
  )
  finetune_epochs: int | None = field(
    None, 'Epochs of fine-tuning per row. Default 5 for digits, 1 for cifar10.', at_least(0)
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
    None, 'Images per update. Default 64 for digits, 128 for cifar10.', at_least(1)
  )

  @classmethod
  def implied(cls, given: Mapping[str, object]) -> Mapping[str, object]:
    """With --eval, what the file says of its network and data.

    Raises:
      ValueError, FileNotFoundError: a flag that --eval ignores, or that the file contradicts.
    """
    if 'eval' not in given:
      return {}
    for name in given:
      if name not in _BESIDE_EVAL:
        raise ValueError(f'--{name} has no meaning beside --eval')
    path = given['eval']
    about = network.description(path)
    if about is None:
      model = given.get('model') or network.guess(path)
      cifar = bool(given.keys() & {'data_dir', 'download'})
      return {'dataset': 'cifar10' if cifar else 'digits', **given, 'model': model}
    for name in ('dataset', 'model', 'seed'):
      if name in given and given[name] != about[name]:
        raise ValueError(
          f'--eval={path} was trained with --{name}={about[name]}, not {given[name]}'
        )
    return {name: about[name] for name in ('dataset', 'model', 'seed')}

  def resolved(self) -> Self:
    """With the defaults of the data set; as it is for --eval, which uses few of them.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    self._check_data()
    if self.eval is not None:
      return self
    found = {k: v for k, v in _DEFAULTS[self.dataset].items() if getattr(self, k) is None}
    if self.finetune_steps is not None:
      found['finetune_epochs'] = None
    if self.weights is not None:
      if not pathlib.Path(self.weights).is_file():
        raise FileNotFoundError(f'--weights={self.weights} does not exist')
      found['weights_sha256'] = results.sha256(self.weights)
    return dataclasses.replace(super().resolved(), **found)

  def rules(self, scheme: str, rate: float) -> tuple[tuple[str, tn.schemes.Scheme], ...]:
    """Compression rules for one row."""
    return ((self.layers, tn.schemes.by_name(scheme, rate)),)

  def _check_data(self) -> None:
    if self.dataset == 'cifar10' and self.data_dir is None:
      raise ValueError('--dataset=cifar10 needs --data_dir')
    if self.dataset == 'digits' and (self.data_dir or self.download):
      raise ValueError(
        '--data_dir and --download go with --dataset=cifar10; the digits are embedded'
      )
