"""The settings of the job, its presets, and the rows that they ask for."""

import dataclasses
from typing import ClassVar, Self

from experiments.classifier.config import local
from experiments.common import config, results
from experiments.common.config import at_least, field, one_of
from experiments.pose import counts
from experiments.pose.people import LSP, MPII, Layout

LAYOUTS = {'figures': LSP, 'lspet': LSP, 'lsp': LSP, 'mpii': MPII}
STUDIES = ('methods', 'modes')
METHODS = ('tucker', 'mps', 'layerwise', 'trimmed', 'scratch')
KEYS = ('study', 'method', 'value')  # of rows that differ by the seed alone
CONTROL = 'dense'  # the dense network, trained on as long as the networks that it is compared with
# Modes of the tensor that a row cuts, by the row's name; inputs and outputs, and rows and columns,
# go together, as in the paper.
MODES = {
  **{name: (name,) for name in counts.MODES[:4]},
  'features': ('input', 'output'),
  'kernel': ('row', 'column'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """Which hourglass, of which people, how it is compressed, and how long all of it is trained."""

  PRESETS: ClassVar = {
    'smoke': {
      'figures': 48, 'size': 32, 'stacks': 1, 'depth': 1, 'features': 8, 'batch_size': 16,
      'train_epochs': 2, 'finetune_epochs': 1, 'mode_epochs': 1, 'ratios': (1.5,),
      'modes': ('pathway', 'kernel'), 'dataset': 'figures',
    },
    'reduced': {'seeds': (0, 1)},
    'paper': {
      'size': 256, 'stacks': 4, 'depth': 4, 'features': 128, 'batch_size': 6,
      'train_epochs': 110, 'finetune_epochs': 110, 'mode_epochs': 110, 'ratios': (1.3, 2.0, 4.0),
      'train_learning_rate': 2.5e-4, 'learning_rate': 2.5e-4,
    },
  }  # fmt: skip

  dataset: str | None = field(
    None,
    'People: LSP Extended, LSP or MPII in --data_dir; or figures, rendered stick figures. Default '
    'lspet with --data_dir, figures without.',
    one_of(*LAYOUTS),
  )
  data_dir: str | None = field(
    None,
    'For lspet and lsp: the folder of joints.mat and images/, or the one that holds it. For mpii: '
    'that of images/ and of mpii_annotations.json, mpii_human_pose_v1_u12_1.mat or both.',
    resume='free',
  )
  workers: int | None = field(
    None,
    'Processes that decode images; 0 for none. Default one a core.',
    at_least(0),
    resume='free',
  )
  figures: int = field(
    2000, 'Stick figures to train with; a quarter as many are measured with.', at_least(4)
  )
  size: int = field(
    64, 'Rows and columns of an image; heatmaps have a quarter of them.', at_least(8)
  )
  stacks: int = field(2, 'Hourglasses.', at_least(1))
  depth: int = field(3, 'Levels of an hourglass.', at_least(1))
  features: int = field(32, 'Channels of all blocks.', at_least(4))
  weights: str | None = field(
    None,
    'The dense network, as an earlier run saved it (weights/baseline.safetensors). Without it the '
    'network is trained first.',
    resume='free',
  )
  weights_sha256: str | None = field(None, '', flag=False)
  studies: tuple[str, ...] = field(
    STUDIES,
    'methods: networks of equal size. modes: single modes of the Tucker T-Net compressed, all '
    'others whole (Table 2).',
    one_of(*STUDIES),
    resume='grow',
  )
  methods: tuple[str, ...] = field(
    METHODS[:4],
    'tucker, mps: T-Net. layerwise: Tucker-2 of every kernel. trimmed: fewer features, from '
    'scratch. scratch: the Tucker T-Net from random factors.',
    one_of(*METHODS),
    resume='grow',
  )
  ratios: tuple[float, ...] = field(
    (3.0,),
    'methods: how many times smaller the network shall be. The trimmed network nearest to that '
    'says how large all others may be.',
    at_least(1.01),
    resume='grow',
  )
  modes: tuple[str, ...] = field(
    tuple(MODES),
    'modes: which. Architecture modes take every smaller rank, features three quarters and a '
    'quarter, the kernel one less.',
    one_of(*MODES),
    resume='grow',
  )
  batch_size: int = field(32, 'Images per update.', at_least(1))
  train_epochs: int = field(20, 'Epochs of the dense network.', at_least(1))
  finetune_epochs: int = field(
    5,
    'methods: epochs of a compressed network. Networks from scratch have those of the dense one '
    'and these.',
    at_least(1),
  )
  mode_epochs: int = field(2, 'modes: epochs of a compressed network.', at_least(1))
  train_learning_rate: float = field(
    1e-3,
    'Of RMSprop, from the start; after 60 % of the updates and again after 90 % it falls 16 '
    'times, as from 2.5e-4 to 1e-6 in the paper.',
    at_least(0.0),
  )
  learning_rate: float = field(5e-4, 'The same, of compressed networks.', at_least(0.0))
  layers: str = field(counts.LAYERS, '', flag=False)

  def resolved(self) -> Self:
    """With the data set that there is.

    Raises:
      ValueError, FileNotFoundError: flags that contradict each other, or no such weights.
    """
    dataset = self.dataset or ('figures' if self.data_dir is None else 'lspet')
    if dataset != 'figures' and self.data_dir is None:
      raise ValueError(f'--dataset={dataset} needs --data_dir')
    if dataset == 'figures' and self.data_dir is not None:
      raise ValueError('--data_dir: rendered stick figures need none; leave it or them out')
    unit = 4 * 2**self.depth
    if self.size % max(8, unit):
      raise ValueError(
        f'--size={self.size} must be a multiple of {max(8, unit)}, 4 times 2 to the power '
        f'--depth={self.depth}'
      )
    for mode in self.modes if 'modes' in self.studies else ():
      if not self.ranks(mode):
        raise ValueError(f'--modes={mode}: its size is 1, nothing to cut; leave it out')
    digest = None if self.weights is None else results.sha256(local('weights', self.weights))
    return dataclasses.replace(super().resolved(), dataset=dataset, weights_sha256=digest)

  @property
  def layout(self) -> Layout:
    """The joints of the data set."""
    return LAYOUTS[self.dataset]

  @property
  def shape(self) -> dict[str, int]:
    """Sizes of the tensor's modes, by name."""
    sizes = (self.stacks, self.depth, 3, 2, self.features, self.features, 3, 3)
    return dict(zip(counts.MODES, sizes))

  def ranks(self, mode: str) -> tuple[int, ...]:
    """Those that a mode is cut to, one a row.

    >>> found = Config(stacks=4, depth=4, features=128)
    >>> [found.ranks(mode) for mode in MODES]  # the rows of Table 2
    [(3, 2, 1), (3, 2, 1), (2, 1), (1,), (96, 32), (2,)]
    """
    size = self.shape[MODES[mode][0]]
    if mode == 'features':
      return tuple(dict.fromkeys(max(1, part * size // 4) for part in (3, 1)))
    return (size - 1,) if mode == 'kernel' else tuple(range(size - 1, 0, -1))

  def settings(self) -> list[dict]:
    """What every row is of, in order; `value` is a ratio, or a mode's rank. Each study begins with
    its control.
    """
    studies = {
      'methods': [(method, ratio) for ratio in self.ratios for method in self.methods],
      'modes': [(mode, rank) for mode in self.modes for rank in self.ranks(mode)],
    }
    rows = [(name, *row) for name in self.studies for row in [(CONTROL, 1), *studies[name]]]
    return [dict(zip(KEYS, row)) | {'seed': seed} for seed in self.seeds for row in rows]
