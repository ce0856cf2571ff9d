"""The settings of the job: what each study takes where no flag says otherwise, and its presets."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

from experiments.classifier import config
from experiments.common.config import FRACTION, at_least, field, one_of

PLAIN = ('svd', 'cp', 'tk', 'tt')
RESHAPED = ('r_cp', 'r_tk', 'r_tt')
METHODS = ('e2e', 'seq', 'seq_e2e')
_RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
_STUDIES = {
  'accounting': {'dataset': 'digits', 'schemes': PLAIN + RESHAPED, 'rates': _RATES},
  'digits': {
    'dataset': 'digits',
    'schemes': PLAIN + RESHAPED,
    'rates': _RATES,
    'updates': 240,
    'points': 12,
  },
  'cifar': {
    'dataset': 'cifar10',
    'schemes': ('cp', 'tk', 'tt', 'r_cp', 'r_tt'),
    'rates': (0.1,),
    'updates': 351,  # an epoch
    'points': 6,
    'curve_images': 1000,
  },
  'mnist': {
    'dataset': 'mnist',
    'schemes': RESHAPED,
    'rates': (0.005, 0.02, 0.1),
    'updates': 240,
    'points': 6,
    'curve_images': 1000,
  },
}
# Where a preset's settings depend on the study.
_PRESETS = {
  ('reduced', 'digits'): {'seeds': (0, 1, 2)},
  ('reduced', 'cifar'): {'methods': ('e2e', 'seq')},
  ('gpu', 'digits'): {'seeds': (0, 1, 2), 'updates': 480},
  ('gpu', 'cifar'): {'schemes': PLAIN + RESHAPED, 'rates': (0.05, 0.1, 0.2)},
  ('paper', 'cifar'): {
    'schemes': PLAIN + RESHAPED,
    'rates': _RATES,
    'methods': ('e2e', 'seq'),
    'model': 'resnet32_v2',
    'train_epochs': 250,
    'stage_epochs': 100,
    'e2e_epochs': 250,
    'optimizer': 'sgd',
    'points': 60,
    'curve_images': 10_000,
  },
}
# The layers that are compressed, all but the first convolution and the last dense layer.
_LAYERS = {'lenet': 'hidden', 'mlp': r'layers/\d+'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """Which study, of what, and how long the compressed networks are trained."""

  PRESETS: ClassVar = {
    'smoke': {
      'schemes': ('tk', 'r_cp'),
      'rates': (0.1,),
      'train_epochs': 1,
      'updates': 6,
      'points': 2,
      'curve_images': 100,
    },
    'reduced': {},
    'gpu': {},
    'paper': {},
  }

  study: str = field(
    'digits',
    'accounting: ranks, sizes and multiply-adds of ResNet-32 and ResNet-50, exactly. digits, '
    'cifar, mnist: accuracies of a compressed network.',
    one_of(*_STUDIES),
  )
  schemes: tuple[str, ...] | None = field(
    None, 'Schemes to try; default those of the study.', one_of(*PLAIN, *RESHAPED), resume='grow'
  )
  rates: tuple[float, ...] | None = field(
    None, 'Nominal rates to try; default those of the study.', FRACTION, resume='grow'
  )
  methods: tuple[str, ...] = field(
    METHODS,
    'e2e: all parameters by cross-entropy. seq: stage after stage, by the outputs of the network '
    'before compression. seq_e2e: half of the updates each.',
    one_of(*METHODS),
    resume='grow',
  )
  updates: int | None = field(
    None, 'Updates in all, of every row; default that of the study.', at_least(1)
  )
  stage_epochs: int | None = field(
    None, 'Epochs of seq for each stage, in place of its part of --updates.', at_least(1)
  )
  e2e_epochs: int | None = field(
    None, 'Epochs of e2e, in place of its part of --updates.', at_least(1)
  )
  optimizer: str = field(
    'adam',
    "Of e2e. adam: at --learning_rate, constant, as seq's. sgd: the paper's, momentum 0.9, rate "
    '0.1 * batch / 128, divided by 10 after 0.4, 0.6 and 0.8 of the updates, L2 2e-4.',
    one_of('adam', 'sgd'),
  )
  learning_rate: float = field(
    1e-3, 'Learning rate of Adam: of seq, and of e2e by it; constant.', at_least(0.0)
  )
  points: int | None = field(
    None, 'Accuracies along the way, at equal distances; default that of the study.', at_least(1)
  )
  curve_images: int | None = field(
    None,
    'How many test images those accuracies are of, the first ones; the last is of all. Default: '
    'all of the digits, else 1000.',
    at_least(1),
  )
  layers: str | None = field(
    None,
    'Regular expression over the full NNX path of the layers to compress. The default takes every '
    'convolution of a residual network but the first, of others the dense layers but the last.',
  )
  dataset: str | None = field(None, '', flag=False)
  workers: int | None = field(None, '', flag=False)
  image_size: int | None = field(None, '', flag=False)
  mean: tuple[float, ...] | None = field(None, '', flag=False)
  std: tuple[float, ...] | None = field(None, '', flag=False)
  finetune_epochs: int | None = field(None, '', flag=False)
  finetune_steps: int | None = field(None, '', flag=False)

  @classmethod
  def implied(cls, given: Mapping[str, object]) -> Mapping[str, object]:
    """What the study takes, in this preset, where no flag says otherwise."""
    study, preset = given.get('study', 'digits'), given.get('preset')
    known = {'seeds'} if 'seed' in given else set()
    own = _PRESETS.get((preset, study), {})
    return {k: v for k, v in own.items() if k not in given and k not in known}

  def resolved(self) -> Self:
    """With the defaults of study and network.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    own = {k: v for k, v in _STUDIES[self.study].items() if getattr(self, k) is None}
    found = super(Config, dataclasses.replace(self, **own)).resolved()
    layers = self.layers or _LAYERS.get(found.model, found.layers)
    return dataclasses.replace(found, layers=layers, finetune_epochs=None)

  def check_data(self) -> None:
    """Raises ValueError if the flags do not say where the data are."""
    if self.study in ('cifar', 'mnist') and self.data_dir is None:
      raise ValueError(f'--study={self.study} needs --data_dir')
    if self.study in ('accounting', 'digits') and (self.data_dir or self.download):
      raise ValueError(f'--data_dir and --download have no meaning beside --study={self.study}')
