"""The paper's matrices as tensor trains: their modes, and what they store at which ranks.

TT-Toolbox, which made the paper's layers, caps a rank by the cores on its left alone; this library
also by those on its right, as no matrix needs more. So its trains are the same functions in fewer
weights, and counts are given both ways.
"""

import dataclasses
import math
from collections.abc import Sequence

import tnjax as tn

FIGURE1 = {
  '32x32': (32, 32),
  '4x8x8x4': (4, 8, 8, 4),
  '4^5': (4,) * 5,
  '2x2x8x8x2x2': (2, 2, 8, 8, 2, 2),
  '2^10': (2,) * 10,
}  # modes of the 1024 inputs, and of the 1024 outputs
MATRIX_RANK = 'MR'  # the baseline: 1024 x r times r x 1024
HIDDEN = 1024


@dataclasses.dataclass(frozen=True)
class Train:
  """A matrix (prod of ins) x (prod of outs) as a tensor train.

  Attributes:
    ins, outs: modes of the input and the output; the k-th of both share core k.
    ranks: those asked for, one for all bonds or one a bond.

  >>> layer = Train((2,) * 10, (2,) * 10, 5)
  >>> layer.weights, layer.weights_left_capped
  (792, 816)
  """

  ins: tuple[int, ...]
  outs: tuple[int, ...]
  ranks: int | tuple[int, ...]

  @property
  def scheme(self) -> tn.schemes.Scheme:
    """For a layer with this matrix."""
    return tn.schemes.r_tt(ranks=self.ranks, in_modes=self.ins, out_modes=self.outs)

  @property
  def shape(self) -> tuple[int, int]:
    """Inputs and outputs."""
    return math.prod(self.ins), math.prod(self.outs)

  @property
  def sizes(self) -> tuple[int, ...]:
    """Modes of the train: m_k n_k."""
    return tuple(a * b for a, b in zip(self.ins, self.outs))

  @property
  def weights(self) -> int:
    """Those of our layer: ranks capped from both sides."""
    return self.scheme.bind(self.shape).num_params

  @property
  def weights_left_capped(self) -> int:
    """Those of the paper's layer: ranks capped from the left, as TT-Toolbox draws a train."""
    count = len(self.sizes) - 1
    wanted = (self.ranks,) * count if isinstance(self.ranks, int) else self.ranks
    ranks = [1]
    for size, rank in zip(self.sizes, wanted):
      ranks.append(min(rank, ranks[-1] * size))
    return stored(self.sizes, ranks[1:])


def stored(sizes: Sequence[int], ranks: Sequence[int]) -> int:
  """Weights of a train: sum of r_{k-1} s_k r_k.

  >>> stored((16, 16), (3,))
  96
  """
  bonds = (1, *ranks, 1)
  return sum(a * s * b for a, s, b in zip(bonds, sizes, bonds[1:]))


def figure1(name: str, rank: int) -> Train:
  """The first layer of Figure 1: 1024 -> 1024 in one of its shapes."""
  return Train(FIGURE1[name], FIGURE1[name], rank)


def figure1_scheme(name: str, rank: int) -> tn.schemes.Scheme:
  """The same as a scheme, with the matrix-rank baseline among the shapes."""
  return tn.schemes.svd(ranks=rank) if name == MATRIX_RANK else figure1(name, rank).scheme


def mnist_pair(rank: int) -> tuple[Train, Train]:
  """Both layers as trains: 1024 -> 1024 -> 10.

  These modes give the paper's totals, 12,602 and 7,698 parameters at ranks 8 and 6; they are likely
  the paper's, not proven.
  """
  second = Train((4, 8, 8, 4), (1, 2, 5, 1), (4, rank, rank))
  return figure1('4x8x8x4', rank), second


def quick_pair(rank: int = 8) -> tuple[Train, Train]:
  """The dense layers of the CIFAR-10 network as trains: 1024 -> 3125 -> 10."""
  return Train((4,) * 5, (5,) * 5, rank), Train((5,) * 5, (10, 1, 1, 1, 1), rank)


def wide_pair(rank: int, mode: int = 8) -> tuple[Train, Train]:
  """The wide, shallow network: 3072 -> mode^6 -> 4096."""
  return Train((4, 4, 4, 4, 4, 3), (mode,) * 6, rank), Train((mode,) * 6, (4,) * 6, rank)


def vgg_first(rank: int = 4) -> Train:
  """The first dense layer of VGG, 25088 -> 4096."""
  return Train((2, 7, 8, 8, 7, 4), (4,) * 6, rank)


def largest_left_to_right(layer: Train) -> int:
  """Entries of the largest intermediate result, one input, cores from the first to the last.

  >>> largest_left_to_right(vgg_first())  # 0.766 MiB of float32, as the paper has it
  200704
  """
  ranks = layer.scheme.bind(layer.shape).ranks
  return max(
    math.prod(layer.outs[:k]) * rank * math.prod(layer.ins[k:])
    for k, rank in enumerate((*ranks, 1), start=1)
  )
