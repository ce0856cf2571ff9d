"""The settings of the job, and its presets."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Self

import tnjax as tn
from experiments.classifier import config, network
from experiments.common.config import FRACTION, field, one_of

_BESIDE_EVAL = (
  'eval', 'dataset', 'data_dir', 'download', 'workers', 'image_size', 'model', 'mean', 'std',
  'seed', 'compile_cache',
)  # fmt: skip
_ALL = ('svd', 'cp', 'tk', 'tt', 'tr', 'r_cp', 'r_tk', 'r_tt', 'shuffled')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """What to compress, and how."""

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

  eval: str | None = field(
    None,
    'Only evaluate this weights file on the test images: one that a run saved under '
    'weights/, or one that --weights would take. Besides it only the data are needed: --data_dir '
    'but for the digits.',
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
    config.local('eval', path)
    about = network.description(path)
    if about is None:
      if given.get('dataset') == 'imagenet' and 'model' not in given:
        raise ValueError(f'--eval={path} does not say which network it is of; add --model')
      model = given.get('model') or network.guess(path)
      cifar = bool(given.keys() & {'data_dir', 'download'})
      return {'dataset': 'cifar10' if cifar else cls.dataset, **given, 'model': model}
    names = ('dataset', 'model', 'seed', 'image_size')
    noted = {name: about[name] for name in names if about.get(name) is not None}
    noted |= config.noted_statistics(path, given)
    for name, value in noted.items():
      if name in given and given[name] != value:
        raise ValueError(f'--eval={path} was trained with --{name}={value}, not {given[name]}')
    return noted

  def resolved(self) -> Self:
    """With the defaults of the data set; as it is for --eval, which uses few of them.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    if self.eval is None:
      return super().resolved()
    self.check_data()
    return self

  def settings(self) -> list[dict]:
    """What every row is of, in the order of a report's columns."""
    return [
      {'scheme': scheme, 'rate': rate, 'seed': seed}
      for seed in self.seeds
      for scheme in self.schemes
      for rate in self.rates
    ]

  def rules(self, scheme: str, rate: float) -> tuple[tuple[str, tn.schemes.Scheme], ...]:
    """Compression rules for one row."""
    return ((self.layers, tn.schemes.by_name(scheme, rate)),)
