"""What a T-Net and its baselines store: the whole network, and its tensor alone."""

import dataclasses
import functools
import math
import re
from collections.abc import Sequence

from flax import nnx

import tnjax as tn

LAYERS = r'stacks/(\d+)/levels/(\d+)/(skip|down|up)/conv(\d+)'  # its groups are four modes
MODES = ('hourglass', 'depth', 'pathway', 'convolution', 'input', 'output', 'row', 'column')
SHAPE = (4, 4, 3, 2, 128, 128, 3, 3)


@dataclasses.dataclass(frozen=True)
class Size:
  """Stored entries.

  Attributes:
    network: all parameters; statistics of batch norm are none.
    tensor: those that stand for the kernels inside the hourglasses.
  """

  network: int
  tensor: int


@functools.cache
def network() -> tn.models.Hourglass:
  """The paper's network.

  Of arrays: their shapes alone take three times as long, as flax draws that many keys slowly in a
  trace.
  """
  return tn.models.hourglass(rngs=nnx.Rngs(0))


@functools.cache
def dense(features: int = 128, depth: int = 4) -> Size:
  """The paper's network, or a trimmed one, `tn.models.hourglass(features=..., depth=...)`.

  Seven networks would take many seconds to build. The trimmed ones are read off the whole one: its
  shapes with other channels, its levels but the last.

  >>> dense(features=64).tensor == dense(depth=1).tensor == dense().tensor / 4
  True
  """
  sizes = {}
  for names, variable in nnx.to_flat_state(nnx.state(network(), nnx.Param)):
    path = '/'.join(map(str, names))
    level = re.search(r'/levels/(\d+)/', path)
    if level is None or int(level[1]) < depth:
      sizes[path] = math.prod(features if n == 128 else n for n in variable.shape)
  inside = [size for path, size in sizes.items() if re.fullmatch(f'{LAYERS}/kernel', path)]
  return Size(sum(sizes.values()), sum(inside))


def tucker(ranks: Sequence[int]) -> Size:
  """A Tucker T-Net, prod R_k + sum R_k I_k (Eq. 2): a factor for whole modes too.

  >>> tucker((3, 4, 3, 2, 128, 128, 3, 3)).tensor
  10649659
  """
  return _with_tensor(entries(SHAPE, 'tk', tn.ranks.tucker_ranks(SHAPE, ranks)))


def mps(ranks: Sequence[int]) -> Size:
  """An MPS T-Net, sum R_k I_k R_{k+1}; its nine ranks have the ones at both ends.

  >>> mps((1, 4, 4, 12, 24, 110, 9, 3, 1)).tensor
  465530
  """
  return _with_tensor(entries(SHAPE, 'tt', tn.ranks.tt_ranks(SHAPE, ranks)))


def layerwise(ranks: Sequence[int]) -> Size:
  """Every kernel as a Tucker of its own, N (R_4 R_5 R_6 R_7 + R_4 I_4 + R_5 I_5) (Eq. 3), N = 96.

  A plan of `tn.schemes.tk` counts, but where rows and columns are cut too, which that leaves whole:
  there the formula does, and it has no factors for them.

  >>> layerwise((64, 64, 3, 3)).tensor == 96 * (64 * 64 * 9 + 2 * 64 * 128)
  True
  """
  channels, spatial = tuple(ranks[:2]), tuple(ranks[2:])
  if spatial == SHAPE[6:]:
    found = tn.compression.plan(network(), ((LAYERS, tn.schemes.tk(ranks=channels)),))
    return Size(found.params, found.kernel_params)
  factors = sum(rank * size for rank, size in zip(channels, SHAPE[4:6]))
  return _with_tensor(math.prod(SHAPE[:4]) * (math.prod(ranks) + factors))


def entries(shape: Sequence[int], format: str, ranks: Sequence[int]) -> int:
  """Of a Tucker, sum R_k I_k + prod R_k; of a train, sum R_{k-1} I_k R_k."""
  if format == 'tk':
    return math.prod(ranks) + sum(rank * size for rank, size in zip(ranks, shape))
  return sum(a * size * b for a, size, b in zip((1, *ranks), shape, (*ranks, 1)))


def _with_tensor(entries: int) -> Size:
  """The paper's network with so many entries in place of the kernels inside its hourglasses."""
  whole = dense()
  return Size(whole.network - whole.tensor + entries, entries)
