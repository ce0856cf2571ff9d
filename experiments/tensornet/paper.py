"""Figures of the paper and of its authors' code, and how sure each is.

Novikov, Podoprikhin, Osokin, Vetrov, Tensorizing Neural Networks, NIPS 2015, arXiv 1509.06569.
"""

from typing import Literal, NamedTuple

Tag = Literal['paper', 'code', 'derived', 'unverified']
MEANING = {
  'paper': 'printed in the paper',
  'code': "from the authors' released code or logs",
  'derived': 'arithmetic on these',
  'unverified': 'recollection or second hand, to be checked',
}


class Printed(NamedTuple):
  """A figure and how sure it is."""

  value: float
  tag: Tag


# First-layer weights of Figure 1, ranks capped from the left [derived].
RANKS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20)
FIGURE1_WEIGHTS = {
  '32x32': (2048, 4096, 6144, 8192, 10240, 12288, 16384, 20480, 30720, 40960),
  '4x8x8x4': (160, 576, 1248, 2176, 3360, 4800, 8448, 13120, 29280, 46656),
  '4^5': (80, 256, 528, 896, 1360, 1920, 3328, 5120, 11280, 18496),
  '2x2x8x8x2x2': (144, 560, 1248, 2208, 3416, 4888, 8624, 13416, 30016, 48032),
  '2^10': (40, 144, 312, 544, 816, 1144, 1968, 3016, 6616, 11232),
  'MR': (2048, 4096, 6144, 8192, 10240, 12288, 16384, 20480, 30720, 40960),
}

# MNIST, test error. The points of Figure 1 are not known.
MNIST_DENSE = Printed(0.019, 'unverified')
MNIST_DENSE_WEIGHTS = 1_048_576
MNIST_BOTH = {8: Printed(0.016, 'unverified'), 6: Printed(0.019, 'unverified')}  # by rank
MNIST_BOTH_PARAMS = {8: 12_602, 6: 7_698}
HASHED_NET = Printed(0.0279, 'unverified')
HASHED_NET_PARAMS = 12_720

# CIFAR-10, quick network, test error; 1024 -> 3125 as a train, then both dense layers.
QUICK = {
  'dense': Printed(0.2325, 'unverified'),
  'first': Printed(0.2313, 'unverified'),
  'both': Printed(0.2439, 'unverified'),
}
QUICK_NET_RATIO = {'first': 1.24, 'both': 1.7}  # the whole network, dense / trains
QUICK_DENSE_RATIO = 11.9  # weights of the dense layers, both as trains

# CIFAR-10, wide and shallow network: test accuracy of the authors' runs, 40,000 steps, by rank.
WIDE_ERROR = Printed(0.3147, 'unverified')  # the rank behind it is not known
WIDE = {
  2: Printed(0.6951, 'code'),
  3: Printed(0.6829, 'code'),
  4: Printed(0.6976, 'code'),
  6: Printed(0.7055, 'code'),
  10: Printed(0.7134, 'code'),
  12: Printed(0.7127, 'code'),
  16: Printed(0.7016, 'code'),
  20: Printed(0.6899, 'code'),
}
WIDE_STEPS = 40_000
WIDE_HIDDEN = 262_144
WIDE_WEIGHTS = {2: (624, 640), 3: (1320, 1344), 4: (2272, 2304), 6: (4944, 4992),
                8: (8640, 8704), 10: (13360, 13440)}  # fmt: skip

# Table 3: 25088 x 4096 at TT-rank 4, milliseconds a batch, and MiB of one image.
MILLISECONDS = {
  ('cpu', 1): {'dense': Printed(16.1, 'unverified'), 'tt': Printed(1.2, 'unverified')},
  ('cpu', 100): {'dense': Printed(97.2, 'unverified'), 'tt': Printed(94.7, 'unverified')},
  ('gpu', 1): {'dense': Printed(2.7, 'unverified'), 'tt': Printed(1.9, 'unverified')},
  ('gpu', 100): {'dense': Printed(33.0, 'unverified'), 'tt': Printed(12.9, 'unverified')},
}
MEBIBYTES = {'dense': Printed(392.0, 'derived'), 'tt': Printed(0.766, 'derived')}


def error(study: str, cell: str, rank: int | None) -> Printed | None:
  """The test error of a row's network, where one is known.

  >>> error('wide', 'train', 10)
  Printed(value=0.2866, tag='code')
  """
  if study == 'quick':
    return QUICK[cell]
  if study == 'wide':
    found = WIDE.get(rank)
    return found and Printed(round(1 - found.value, 4), found.tag)
  return {'dense': MNIST_DENSE, 'both': MNIST_BOTH.get(rank)}.get(cell)
