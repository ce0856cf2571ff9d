"""The settings of the job, and its presets."""

import dataclasses
from typing import ClassVar, Self

from experiments.common import config
from experiments.common.config import at_least, field, one_of
from experiments.tensornet import paper, shapes

STUDIES = ('counts', 'inference', 'mnist', 'quick', 'wide')
DATA = {'mnist': 'mnist', 'quick': 'cifar10', 'wide': 'cifar10'}  # what a study needs
_RATE = at_least(0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(config.Config):
  """Which of the paper's studies, and how long.

  An epoch of batches of 100 is 540 steps on MNIST and 450 on CIFAR-10, or 600 and 500 with
  --noholdout.
  """

  PRESETS: ClassVar = {
    'smoke': {
      'images': 500,
      'shapes': ('4^5', '2^10'),
      'ranks': (2,),
      'mnist_steps': 3,
      'quick_steps': 2,
      'dense_steps': 2,
      'step_ranks': (2,),
      'wide_ranks': (2,),
      'wide_steps': 2,
      'wide_mode': 3,
      'repeats': 2,
    },
    'reduced': {},
    'gpu': {
      'ranks': (1, 2, 3, 4, 6, 8, 10, 15, 20),
      'mnist_steps': 5_400,
      'quick_steps': 13_500,
      'dense_steps': 4_500,
      'wide_ranks': (2, 4, 10, 20),
      'wide_steps': 10_000,
    },
    'paper': {
      'holdout': False,
      'ranks': tuple(range(1, 21)),
      'mnist_steps': 60_000,
      'quick_steps': 22_500,
      'dense_steps': 22_500,
      'wide_ranks': tuple(paper.WIDE),
      'wide_steps': paper.WIDE_STEPS,
      'seeds': (0, 1, 2),
    },
  }

  study: tuple[str, ...] = field(
    STUDIES,
    'counts: weights, exactly. inference: Table 3. mnist: Figure 1, and both layers as trains. '
    'quick: the quick network on CIFAR-10. wide: the wide, shallow network on CIFAR-10.',
    one_of(*STUDIES),
    resume='grow',
  )
  data_dir: str | None = field(
    None,
    'Folder with MNIST (its four .gz files, or mnist.npz) and cifar-10-batches-py.',
    resume='free',
  )
  download: bool = field(
    False, 'Fetch into --data_dir what is not there, checking md5 sums.', resume='free'
  )
  holdout: bool = field(
    True, 'Keep a tenth of the training images for validation; the paper trained on all.'
  )
  images: int | None = field(
    None, 'At most so many images of every split, to try things out.', at_least(100)
  )
  shapes: tuple[str, ...] = field(
    tuple(shapes.FIGURE1),
    'mnist: shapes of the first layer.',
    one_of(*shapes.FIGURE1),
    resume='grow',
  )
  ranks: tuple[int, ...] = field(
    (1, 2, 4, 8, 15),
    'mnist: TT-ranks of the first layer, and ranks of the matrix-rank baseline.',
    at_least(1, 1025),
    resume='grow',
  )
  mnist_steps: int = field(1_080, 'mnist: updates of every network.', at_least(1))
  mnist_learning_rate: float = field(0.1, 'mnist: rate at the start.', _RATE)
  quick_steps: int = field(1_800, 'quick: updates of the dense network.', at_least(1))
  quick_learning_rate: float = field(0.01, 'quick: rate at the start.', _RATE)
  dense_steps: int = field(
    900, 'quick: updates of the dense layers as trains, convolutions fixed.', at_least(1)
  )
  step_ranks: tuple[int, ...] = field(
    tuple(paper.WIDE),
    'wide: ranks at which a training step is timed and its memory measured.',
    at_least(1, 65),
    resume='grow',
  )
  wide_ranks: tuple[int, ...] = field(
    (4,), 'wide: ranks at which the network is trained.', at_least(1, 65), resume='grow'
  )
  wide_steps: int = field(800, "wide: updates; the authors' runs took 40,000.", at_least(1))
  wide_learning_rate: float = field(0.06, 'wide: rate at the start.', _RATE)
  wide_mode: int = field(8, 'wide: the first layer has mode^6 outputs.', at_least(2, 11))
  repeats: int = field(20, 'inference: rounds in which both layers take turns.', at_least(1))

  def resolved(self) -> Self:
    """With the defaults filled in.

    Raises:
      ValueError: no folder for the data that a study needs.
    """
    needy = [study for study in self.study if study in DATA]
    if needy and self.data_dir is None:
      raise ValueError(
        f'--study={needy[0]} needs --data_dir, and --download the first time; '
        '--study=counts,inference needs no data'
      )
    return super().resolved()
