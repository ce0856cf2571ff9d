"""The settings of the study, its presets, and the rows that they ask for."""

import dataclasses
import re
from collections.abc import Sequence
from typing import ClassVar, Self

import tnjax as tn
from experiments.classifier import config
from experiments.common.config import FRACTION, at_least, field, one_of

STUDIES = ('rate', 'evbmf')
GROUPINGS = ('stages', 'blocks')
_RESNET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_RESNET |= {152: (3, 8, 36, 3)}  # blocks of every stage
_VGG = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """Which network, how far it is compressed, in how many passes, with how many updates in all."""

  PRESETS: ClassVar = {
    'smoke': {
      'studies': ('rate',),
      'ratios': (2.0,),
      'passes': (2,),
      'train_epochs': 1,
      'updates': 12,
    },
    'reduced': {},
    'gpu': {'seeds': (0, 1, 2), 'updates': 3_510, 'grouping': 'blocks'},
    'paper': {
      'seeds': (0, 1, 2),
      'updates': 35_100,
      'learning_rate': 1e-4,
      'grouping': 'blocks',
    },
  }

  CHOOSES: ClassVar[bool] = True

  studies: tuple[str, ...] = field(
    STUDIES,
    'rate: a constant reduction, in one shot and in passes that end at the very same ranks. evbmf: '
    'weakened EVBMF ranks, and one shot at a rate that takes as many multiply-adds.',
    one_of(*STUDIES),
    resume='grow',
  )
  ratios: tuple[float, ...] = field(
    (2.0, 4.0),
    'rate: multiply-adds of the network before over after.',
    at_least(1.0),
    resume='grow',
  )
  passes: tuple[int, ...] = field(
    (1, 2, 3), 'rate: passes over all groups, comma-separated.', at_least(1), resume='grow'
  )
  weaken: float = field(0.5, 'evbmf: weakening factor, 1 for the extreme ranks.', FRACTION)
  evbmf_passes: int = field(2, 'evbmf: passes over all groups.', at_least(1))
  groups: tuple[str, ...] | None = field(
    None,
    'Patterns of layer paths, comma-separated; one fine-tuning each, in this order. Default from '
    'the last to the first as --grouping says; other networks are one group.',
  )
  grouping: str = field(
    'stages',
    'Default groups. stages: those of a residual network, or of VGG the convolutions between two '
    'pools. blocks: residual blocks, or single convolutions.',
    one_of(*GROUPINGS),
  )
  updates: int | None = field(
    None,
    'Updates of fine-tuning in all, of every row alike. Default 240 for digits, else 300.',
    at_least(1),
  )
  learning_rate: float = field(
    1e-3,
    'Learning rate of fine-tuning: of AdamW at its peak, after a warm-up over a twentieth of a '
    "step's updates; it falls to zero with them.",
    at_least(0.0),
  )
  layers: str | None = field(None, '', flag=False)  # those of the groups
  weight_decay: float = field(1e-4, '', flag=False)
  finetune_epochs: int | None = field(None, '', flag=False)
  finetune_steps: int | None = field(None, '', flag=False)

  def resolved(self) -> Self:
    """With the defaults of the data set.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    found = super().resolved()
    groups = found.groups or default_groups(found.model, found.dataset, found.grouping)
    groups = groups or (found.layers,)
    updates = self.updates or (240 if self.dataset == 'digits' else 300)
    found = dataclasses.replace(found, groups=groups)
    most = len(groups) * max(row['passes'] for row in found.settings())
    if updates < most:
      raise ValueError(f'--updates={updates} leaves a step without any; {most} steps need as many')
    return dataclasses.replace(
      found, updates=updates, finetune_epochs=None, layers='|'.join(groups)
    )

  def settings(self) -> list[dict]:
    """What every row is of, in order; one shot is `passes` 0."""
    rows = []
    if 'rate' in self.studies:
      # With one group a pass is one shot.
      counts = [count for count in self.passes if count > 1 or len(self.groups) > 1]
      rows += [('rate', ratio, count) for ratio in self.ratios for count in (0, *counts)]
    if 'evbmf' in self.studies:  # the rival's rate is found from the row before it
      rows += [('evbmf', self.weaken, self.evbmf_passes), ('evbmf', self.weaken, 0)]
    names = ('study', 'value', 'passes')
    return [dict(zip(names, row)) | {'seed': seed} for seed in self.seeds for row in rows]


def default_groups(model: str, dataset: str, grouping: str) -> tuple[str, ...]:
  """Patterns of a network's stages or blocks, from the last to the first as the authors took them;
  () for one that has none.

  >>> default_groups('resnet14', 'cifar10', 'blocks')[:3]
  ('stages/2/1/.*', 'stages/2/0/.*', 'stages/1/1/.*')
  >>> default_groups('vgg11', 'imagenet', 'stages')
  ('features/(?:16|18)', 'features/(?:11|13)', 'features/(?:6|8)', 'features/(?:3)')
  """
  found = re.match(r'(resnet|vgg)(\d+)', model)
  depth, cifar = int(found[2]) if found else 0, dataset in ('cifar10', 'digits')
  known = found and (_VGG if found[1] == 'vgg' else _RESNET)
  if not found or (depth not in known and not (cifar and found[1] == 'resnet')):
    return ()
  if found[1] == 'vgg':
    norm = not model.endswith('_plain') if cifar else model.endswith('_bn')
    entries, at, stages = 3 if norm else 2, 0, []
    for count in _VGG[depth]:
      own = [at + entries * i for i in range(count)]
      stages.append([i for i in own if i])  # but the first of all
      at += entries * count + 1  # a pool
    if grouping == 'blocks':
      return tuple(f'features/{i}' for own in stages[::-1] for i in own[::-1])
    return tuple(f'features/(?:{"|".join(map(str, own))})' for own in stages[::-1] if own)
  names = [f'stages/{i}' for i in range(3)] if cifar else [f'layer{i}' for i in (1, 2, 3, 4)]
  counts = ((depth - 2) // 6,) * 3 if cifar else _RESNET[depth]
  if grouping == 'stages':
    return tuple(f'{name}/.*' for name in names[::-1])
  return tuple(
    f'{name}/{i}/.*' for name, n in zip(names[::-1], counts[::-1]) for i in range(n)[::-1]
  )


def gradual(
  groups: Sequence[str], rate: float, last: tuple, passes: int
) -> tn.compression.Schedule:
  """Tucker-2 in passes that end at the ranks of one shot, pass 0.

  Args:
    groups: patterns of layer paths.
    rate: after pass j of p, but the last, a kernel has the ranks of rate^(j/p).
    last: rules of the last pass.
    passes: how many.

  >>> gradual(('conv',), 0.25, (('conv', tn.schemes.tk(rate=0.25)),), 2).passes
  2
  """
  count = max(1, passes)

  def rules(model: object, step: tn.compression.Step) -> tuple:
    del model
    done = step.repetition + 1
    return last if done == count else (('.*', tn.schemes.tk(rate=rate ** (done / count))),)

  name = f'{count} passes to {[(p, scheme.as_dict()) for p, scheme in last]}'
  return tn.compression.Schedule(_groups(groups, passes), count, rules=rules, name=name)


def evbmf(groups: Sequence[str], weaken: float, passes: int) -> tn.compression.Schedule:
  """Tucker-2 with weakened EVBMF ranks, each pass from the ranks of the one before."""
  scheme = tn.schemes.tk(ranks=tn.ranks.Evbmf(weaken))
  return tn.compression.Schedule(tuple(groups), passes=passes, conv=scheme, matrix=None)


def share(updates: int, steps: int, index: int) -> range:
  """The updates of a step, of all that are dealt to equal parts.

  >>> [list(share(5, 2, i)) for i in range(2)]
  [[0, 1], [2, 3, 4]]
  """
  return range(updates * index // steps, updates * (index + 1) // steps)


def _groups(groups: Sequence[str], passes: int) -> tuple[str, ...]:
  return tuple(groups) if passes else (f'(?:{"|".join(groups)})',)
