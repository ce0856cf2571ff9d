"""Ranks, parameters and multiply-adds of whole networks, from the shapes of their kernels alone."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import tnjax as tn
from experiments.spectrum_preserving import paper, released
from tnjax.contraction import Geometry

_SLACK = 1.5  # a rate counts as reached up to this many times its size


class Kernel(NamedTuple):
  """A kernel k x k x S x T, and where it slides.

  Attributes:
    shape: (k, k, S, T).
    size: of the input's sides.
    strides: of the convolution, which pads by (k - 1) / 2.
  """

  shape: tuple[int, int, int, int]
  size: int
  strides: int = 1

  @property
  def geometry(self) -> Geometry:
    """How it slides."""
    labels, sides = tn.schemes.spatial_labels(self.shape), self.shape[:2]
    return Geometry.resolve(labels, sides, self.strides, (sides[0] - 1) // 2, 1, (self.size,) * 2)

  @property
  def dense_macs(self) -> int:
    """Multiply-adds before compression."""
    return math.prod(self.shape) * (self.size // self.strides) ** 2


def resnet32() -> Iterator[Kernel]:
  """Version 2 with projections on 32 x 32 images, all but the first convolution.

  >>> kernels = list(resnet32())
  >>> len(kernels), sum(math.prod(kernel.shape) for kernel in kernels)
  (33, 463616)
  """
  ins, size = 16, 32
  for outs in (16, 32, 64):
    strides = 1 if outs == 16 else 2
    yield Kernel((1, 1, ins, outs), size, strides)
    yield Kernel((3, 3, ins, outs), size, strides)
    size //= strides
    for _ in range(9):
      yield Kernel((3, 3, outs, outs), size)
    ins = outs


def resnet50() -> Iterator[Kernel]:
  """Version 2 as in the official TensorFlow models on 224 x 224 images, all but the first.

  >>> kernels = list(resnet50())
  >>> len(kernels), sum(math.prod(kernel.shape) for kernel in kernels)
  (52, 23445504)
  """
  ins, size = 64, 56
  for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
    for block in range(blocks):
      strides = 2 if block == 0 and width > 64 else 1
      if block == 0:
        yield Kernel((1, 1, ins, 4 * width), size, strides)
      yield Kernel((1, 1, ins, width), size)
      yield Kernel((3, 3, width, width), size, strides)
      size //= strides
      yield Kernel((1, 1, width, 4 * width), size)
      ins = 4 * width


NETWORKS: dict[str, Callable[[], Iterator[Kernel]]] = {'resnet32': resnet32, 'resnet50': resnet50}


def check_reach(scheme: str, rate: float, ranks: Iterable[Sequence[int]], size: float) -> None:
  """Raises ValueError where all ranks are 1 and the true size is still far from the rate.

  >>> check_reach('svd', 0.001, [(1,), (1,)], 0.021)
  Traceback (most recent call last):
  ValueError: --rates=0.001 is out of reach of svd, whose least size is 2.10%, at rank 1
  """
  if size > _SLACK * rate and all(r == 1 for found in ranks for r in found):
    raise ValueError(
      f'--rates={rate:g} is out of reach of {scheme}, whose least size is {size:.2%}, at rank 1'
    )


def row(network: str, scheme: str, rate: float) -> dict:
  """Sizes and work of a network whose every kernel is compressed at a rate.

  `released_*` is by the rules of the authors' code, None where these are ours; `sheet` what the
  project's notes on the paper derive for that code, None where they do not say.
  """
  kernels = Counter(NETWORKS[network]())
  dense = sum(n * math.prod(kernel.shape) for kernel, n in kernels.items())
  dense_macs = sum(n * kernel.dense_macs for kernel, n in kernels.items())
  params = macs = theirs = later = 0
  ranks = {}
  for kernel, count in kernels.items():
    bound = tn.schemes.by_name(scheme, rate).bind(kernel.shape)
    params += count * bound.num_params
    macs += count * bound.macs(kernel.geometry, (kernel.size,) * 2)
    found = {'ranks': list(bound.ranks)}
    if scheme in released.RULES:
      other, size = released.RULES[scheme](rate, kernel.shape)
      found['released_ranks'] = list(other)
      theirs += count * size
      later += count * released.r_cp_later(rate, kernel.shape)[1]
    name = 'x'.join(map(str, kernel.shape))
    ranks[name] = found | {'kernels': count + ranks.get(name, {}).get('kernels', 0)}
  theirs = theirs if scheme in released.RULES else None
  known = network == 'resnet32'
  return {
    'kernels': kernels.total(),
    'dense_params': dense,
    'params': params,
    'params_ratio': params / dense,
    'released_params': theirs,
    'released_ratio': None if theirs is None else theirs / dense,
    'later_params': later if scheme == 'r_cp' else None,
    'sheet': paper.SIZES[scheme].get(rate) if known and scheme in paper.SIZES else None,
    'dense_macs': dense_macs,
    'macs': macs,
    'macs_ratio': macs / dense_macs,
    'ranks': ranks,
  }
