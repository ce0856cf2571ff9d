"""The settings of the job: which parts of a VGG are compressed, and how."""

import dataclasses
from typing import ClassVar

import tnjax as tn
from experiments.common.config import FRACTION, at_least, field, one_of
from experiments.compress import config
from experiments.vgg import table2

_CONVS, _FC = 'features/(?!0$).*', 'classifier/0'
_DEFAULTS = {
  'cifar10': {
    'model': 'vgg16_quarter', 'train_epochs': 20, 'train_learning_rate': 2e-3,
    'weight_decay': 0.1, 'batch_size': 64,
  },
  'imagenet': {
    'model': 'vgg16', 'train_epochs': 90, 'train_learning_rate': 3e-3, 'weight_decay': 1e-4,
    'batch_size': 128,
  },
}  # fmt: skip
PARTS = ('conv', 'fc', 'both')
# Rows of Table 2 that compress something, as 'tt4', 'tt4_tt4', 'mr50'.
TABLE2 = {
  '_'.join(word for word in row.name.lower().split() if word != 'fc'): row
  for row in table2.ROWS
  if any(row.schemes)
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """As `experiments.compress`, with parts of the network in the place of schemes."""

  PRESETS: ClassVar = {
    'smoke': {
      'model': 'vgg11_quarter',
      'schemes': ('both',),
      'rates': (0.1,),
      'train_epochs': 1,
      'finetune_steps': 3,
    },
    'reduced': {},
    'gpu': {'model': 'vgg16', 'train_epochs': 60, 'finetune_epochs': 2},
    'paper': {'dataset': 'imagenet', 'model': 'vgg16', 'schemes': tuple(TABLE2)},
  }

  dataset: str = field('cifar10', 'Data.', one_of('cifar10', 'imagenet'))
  model: str | None = field(
    None,
    'Network: for cifar10 vgg11, 13, 16 or 19, with batch norm and two dense layers, or '
    'vgg<depth>_quarter, of a quarter of the width; for imagenet vgg11, 13, 16, 19 (or with _bn). '
    'Default vgg16_quarter, for imagenet vgg16.',
  )
  train_epochs: int | None = field(
    None,
    'Epochs of training without --weights. Default 20 for cifar10, 90 for imagenet.',
    at_least(1),
  )
  train_learning_rate: float | None = field(
    None,
    'Peak learning rate of training without --weights (AdamW, cosine). Default 2e-3 for cifar10, '
    '3e-3 for imagenet.',
    at_least(0.0),
  )
  weight_decay: float | None = field(
    None,
    'Decoupled weight decay, of fine-tuning too. Default 0.1 for cifar10, 1e-4 for imagenet.',
    at_least(0.0),
  )
  batch_size: int | None = field(
    None, 'Images per update. Default 64 for cifar10, 128 for imagenet.', at_least(1)
  )
  schemes: tuple[str, ...] = field(
    PARTS,
    'Parts to compress, comma-separated: conv (Tucker-2, all convolutions but the first), fc (the '
    'first dense layer as a tensor train), both; or for imagenet rows of Table 2, which have ranks '
    f'of their own: {", ".join(TABLE2)}.',
    one_of(*PARTS, *TABLE2),
    resume='grow',
  )
  rates: tuple[float, ...] = field(
    (0.05, 0.1, 0.25),
    'Nominal rates to try: compressed / original size of a layer, comma-separated. The report has '
    'the true ratios.',
    FRACTION,
    resume='grow',
  )
  layers: str = field(f'{_CONVS}|{_FC}', '', flag=False)

  def resolved(self) -> 'Config':
    """With the defaults of the data set.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    if self.dataset == 'cifar10' and (odd := [part for part in self.schemes if part in TABLE2]):
      raise ValueError(f'--schemes={odd[0]} is of the shapes of ImageNet: --dataset=imagenet')
    if self.model is not None and not self.model.startswith('vgg'):
      raise ValueError(f'--model={self.model} must be a VGG; experiments.compress takes others')
    found = {k: v for k, v in _DEFAULTS[self.dataset].items() if getattr(self, k) is None}
    return super(Config, dataclasses.replace(self, **found)).resolved()

  def settings(self) -> list[dict]:
    """What every row is of, in order; a row of Table 2 has its true rate alone."""
    return [
      {'scheme': part, 'rate': rate, 'seed': seed}
      for seed in self.seeds
      for part in self.schemes
      for rate in ((_rate(TABLE2[part]),) if part in TABLE2 else self.rates)
    ]

  def rules(self, scheme: str, rate: float) -> tuple[tuple[str, tn.schemes.Scheme], ...]:
    """Compression rules for one row."""
    if scheme in TABLE2:
      return TABLE2[scheme].rules
    conv, fc = (_CONVS, tn.schemes.tk(rate=rate)), (_FC, tn.schemes.r_tt(rate=rate))
    return {'conv': (conv,), 'fc': (fc,), 'both': (conv, fc)}[scheme]


def _rate(row: table2.Row) -> float:
  return 1 / table2.count(row, 16)['layers_ratio']
