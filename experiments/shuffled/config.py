"""The settings of the study, its presets, and the rows that they ask for."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import ClassVar, Self

import tnjax as tn
from experiments.classifier import config
from experiments.common.config import at_least, field, one_of

FORMATS = ('cp', 'tk', 'tt', 'tr')
MODES = ('scratch', 'decompose')
PERMUTATIONS = {'td': 'identity', 'rstd': 'key', 'rstd_shared': 1810}  # of rows' `entries`
STUDIES = ('grid', 'shared', 'similarity', 'cifar10')
_SIDES = {'digits': 8, 'cifar10': 32}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """What is decomposed, shuffled and not, at which ratios, on which images."""

  PRESETS: ClassVar = {
    'smoke': {
      'formats': ('tt',),
      'ratios': (10.0,),
      'compare_ratio': 10.0,
      'blocks': (8,),
      'train_epochs': 1,
      'finetune_steps': 3,
    },
    'reduced': {
      'seeds': (0, 1, 2),
      'studies': STUDIES,
      'train_epochs': 8,
      'finetune_epochs': 4,
    },
    'gpu': {
      'seeds': (0, 1, 2),
      'dataset': 'cifar10',
      'model': 'resnet8',
      'studies': ('grid',),
      'formats': ('tt',),
      'modes': ('scratch',),
      'train_epochs': 4,
    },
    'paper': {
      'seeds': (0, 1, 2),
      'dataset': 'cifar10',
      'model': 'resnet32',
      'studies': ('grid', 'shared', 'similarity'),
      'train_epochs': 100,
      'finetune_epochs': 20,
    },
  }

  dataset: str = field('digits', 'Data: the embedded 8x8 digits, or CIFAR-10.', one_of(*_SIDES))
  workers: int | None = field(None, '', flag=False)
  image_size: int | None = field(None, '', flag=False)
  mean: tuple[float, ...] | None = field(None, '', flag=False)
  std: tuple[float, ...] | None = field(None, '', flag=False)
  studies: tuple[str, ...] = field(
    ('grid', 'shared', 'similarity'),
    'grid: formats x TD and RsTD x ratios x modes. shared: one permutation for all layers of a '
    'size. similarity: images whose pixels are permuted within blocks. cifar10: a ResNet-8 beside '
    'the digits, TT, from scratch; needs --data_dir.',
    one_of(*STUDIES),
    resume='grow',
  )
  formats: tuple[str, ...] = field(
    FORMATS, 'Formats of the grid, comma-separated.', one_of(*FORMATS), resume='grow'
  )
  modes: tuple[str, ...] = field(
    MODES,
    'scratch: factors trained from the start. decompose: trained kernels decomposed, fine-tuned.',
    one_of(*MODES),
    resume='grow',
  )
  ratios: tuple[float, ...] = field(
    (2.0, 5.0, 10.0, 20.0, 50.0),
    'Nominal compression ratios of the kernels, comma-separated. The report has the true ones.',
    at_least(1.0),
    resume='grow',
  )
  compare_format: str = field(
    'tt', 'Format of the studies shared and similarity.', one_of(*FORMATS)
  )
  compare_ratio: float = field(10.0, 'Ratio of the studies shared and similarity.', at_least(1.0))
  blocks: tuple[int, ...] | None = field(
    None,
    'similarity: sides of the blocks within which pixels are permuted; 1 leaves them in place. '
    'Default 1,2,4,8 for digits, 1,2,4,8,16,32 for CIFAR-10.',
    at_least(1),
    resume='grow',
  )
  cifar10_ratios: tuple[float, ...] = field(
    (5.0, 20.0), 'Ratios of the study cifar10.', at_least(1.0), resume='grow'
  )
  cifar10_epochs: int = field(3, 'Epochs of every training of the study cifar10.', at_least(1))
  cifar10_images: int = field(
    5000, 'Images for training in the study cifar10, of 45,000.', at_least(128, 45001)
  )

  def resolved(self) -> Self:
    """With the defaults of the data set.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    found = super().resolved()
    side = _SIDES[found.dataset]
    blocks = found.blocks or tuple(2**k for k in range(side.bit_length()))
    for block in blocks:
      if side % block:
        raise ValueError(f'--blocks={block} must divide {side}, the side of the images')
    if found.weights is not None and 'similarity' in found.studies:
      raise ValueError(
        '--weights and the study similarity exclude each other: it trains a network on every kind '
        'of images; leave it out of --studies'
      )
    return dataclasses.replace(found, blocks=blocks)

  def check_data(self) -> None:
    """Raises ValueError if the flags do not say where the data are."""
    if 'cifar10' not in self.studies:
      super().check_data()
    elif self.dataset == 'cifar10':
      raise ValueError('the study cifar10 goes with --dataset=digits; leave it out of --studies')
    elif self.data_dir is None:
      rest = ','.join(s for s in self.studies if s != 'cifar10')
      raise ValueError(
        f'the study cifar10 needs --data_dir; leave it out with --studies={rest or "grid"}'
      )

  def beside(self) -> 'Config':
    """The settings of the study cifar10: another network on other images, all else the same."""
    changes = {'dataset': 'cifar10', 'model': 'resnet8', 'weights': None, 'weights_sha256': None}
    changes |= {'train_epochs': self.cifar10_epochs, 'batch_size': 128}
    return dataclasses.replace(self, studies=('grid',), **changes)

  def rules(self, format: str, entries: str, ratio: float) -> tuple:
    """Compression rules of a row: one format on one shape, whatever becomes of the entries.

    Tucker leaves the two spatial modes of (k, k, S, T) whole: Tucker-2 on (k^2, S, T) with its
    first mode kept.
    """
    keep = (0, 1) if format == 'tk' else ()
    permutation = PERMUTATIONS[entries]
    scheme = tn.schemes.shuffled(1 / ratio, format=format, keep=keep, permutation=permutation)
    return ((self.layers, scheme),)

  def settings(self) -> list[dict]:
    """What every row is of, in the order in which they run: all of one network together."""
    places = {'dense': 0} | {name: 1 + k for k, name in enumerate(self.formats)}
    found = {tuple(row.items()): row for row in self._settings()}  # a row may serve two studies
    order = {'digits': 0, 'cifar10': 1}

    def place(row: dict) -> tuple:
      return order[row['dataset']], row['block'], row['seed'], places.get(row['format'], 9)

    return sorted(found.values(), key=place)

  def _settings(self) -> Iterator[dict]:
    compared = (self.compare_format,), (self.compare_ratio,)
    both = ('td', 'rstd')
    if {'grid', 'shared'} & {*self.studies}:
      yield from self._rows(self.dataset, (0,), ('dense',), ('td',), (1.0,), self.modes)
    if 'grid' in self.studies:
      yield from self._rows(self.dataset, (0,), self.formats, both, self.ratios, self.modes)
    if 'shared' in self.studies:
      entries = ('rstd', 'rstd_shared')
      yield from self._rows(self.dataset, (0,), compared[0], entries, compared[1], self.modes)
    if 'similarity' in self.studies:
      yield from self._rows(self.dataset, self.blocks, compared[0], both, compared[1], self.modes)
    if 'cifar10' in self.studies:
      scratch = ('scratch',)
      yield from self._rows('cifar10', (0,), ('dense',), ('td',), (1.0,), scratch)
      yield from self._rows('cifar10', (0,), ('tt',), both, self.cifar10_ratios, scratch)

  def _rows(self, dataset: str, *axes: tuple) -> Iterator[dict]:
    names = ('block', 'format', 'entries', 'ratio', 'mode', 'seed')
    for values in itertools.product(*axes, self.seeds):
      yield {'dataset': dataset, **dict(zip(names, values))}
