"""The settings of a run, checked before any work starts."""

import dataclasses
import math

import tnjax as tn


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything that decides the results of a run; see `main.py --help` for the meanings.

  Of `finetune_epochs` and `finetune_steps` one is None. `weights_sha256` identifies the file's
  content, so that a resumed run cannot mix two networks.
  """

  dataset: str
  model: str
  weights: str | None
  weights_sha256: str | None
  schemes: tuple[str, ...]
  rates: tuple[float, ...]
  layers: str
  train_epochs: int
  train_learning_rate: float
  finetune_epochs: int | None
  finetune_steps: int | None
  learning_rate: float
  weight_decay: float
  batch_size: int
  seed: int

  def __post_init__(self) -> None:
    """Raises ValueError for a setting out of range."""
    for name in self.schemes:
      if name not in tn.schemes.NAMES:
        raise ValueError(
          f'--schemes: unknown scheme {name!r}; choose from {",".join(tn.schemes.NAMES)}'
        )
    for rate in self.rates:
      if not 0 < rate <= 1:
        raise ValueError(f'--rates: rate {rate:g} must be in (0, 1]')
    names = tuple(f'{rate:g}' for rate in self.rates)  # as in file names
    for flag, values in (('schemes', self.schemes), ('rates', names)):
      if not values or len(set(values)) != len(values):
        raise ValueError(f'--{flag} must name at least one, and none twice')
    least = {
      'train_epochs': 1,
      'finetune_epochs': 0,
      'finetune_steps': 0,
      'batch_size': 1,
      'seed': 0,
    }
    for flag, bound in least.items():
      value = getattr(self, flag)
      if value is not None and value < bound:
        raise ValueError(f'--{flag}={value} must be at least {bound}')
    for flag in ('learning_rate', 'train_learning_rate', 'weight_decay'):
      value = getattr(self, flag)
      if not math.isfinite(value) or value < 0:
        raise ValueError(f'--{flag}={value} must be a finite number, at least 0')
    if self.seed >= 2**31:
      raise ValueError(f'--seed={self.seed} must be below 2**31')

  def rules(self, scheme: str, rate: float) -> tuple[tuple[str, tn.schemes.Scheme], ...]:
    """Compression rules for one row."""
    return ((self.layers, tn.schemes.by_name(scheme, rate)),)


def parse_rates(texts: list[str]) -> tuple[float, ...]:
  """Rates from the command line; fractions, not per cent.

  >>> parse_rates(['0.05', '.4'])
  (0.05, 0.4)
  """
  try:
    return tuple(float(t) for t in texts)
  except ValueError:
    raise ValueError(f'--rates={",".join(texts)} must be numbers in (0, 1]') from None
