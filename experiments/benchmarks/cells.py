"""The table of what is measured: a cell is a method on tensors of given shapes and ranks."""

import dataclasses
import operator
import re
from collections.abc import Mapping, Sequence

import tnjax as tn

_COMPARE = {'>=': operator.ge, '<=': operator.le}
_VGG16 = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)  # channels, in order
ERROR_AIM = 1.01  # our error at most 1 % above that of the best other side


@dataclasses.dataclass(frozen=True)
class Cell:
  """One row of the benchmark.

  Attributes:
    name: `method_shape_ranks`.
    method: 'cp_als', 'hooi', 'tt_svd' or 'tt_round'.
    shapes: of all tensors that one run decomposes.
    ranks: of every tensor, as the public door takes them.
    sweeps: of an iterative method, the most that a side may take to the error of the best; 0 for a
      direct one.
    slack: share by which an error may be above the best side's and count as the same.
    modes: those that HOOI decomposes; None for all.
    batched: the tensors, of equal shape, go through one vmapped call; other libraries loop.
    rank_in: TT-rank before rounding, an even number.
    aims: (field of the result, '>=' or '<=', number).
  """

  name: str
  method: str
  shapes: tuple[tuple[int, ...], ...]
  ranks: tuple[tuple[int, ...], ...]
  sweeps: int = 0
  slack: float = 1e-4
  modes: tuple[int, ...] | None = None
  batched: bool = False
  rank_in: int = 0
  aims: tuple[tuple[str, str, float], ...] = ()

  def at(self, sweeps: int | None) -> 'Cell':
    """The cell with exactly that many sweeps; None leaves it as it is."""
    return dataclasses.replace(self, sweeps=sweeps or self.sweeps)

  @property
  def aim(self) -> str | None:
    """The aims in words, or None."""
    return ' and '.join(f'{field} {sign} {value:g}' for field, sign, value in self.aims) or None

  def met(self, result: Mapping) -> bool | None:
    """Whether a result meets every aim at equal error; None where one could not be measured."""
    if self.aims and result['tnjax']['median_seconds'] is None:
      return False  # another side came lower
    if not self.aims or any(result[field] is None for field, _, _ in self.aims):
      return None
    reached = all(_COMPARE[sign](result[field], value) for field, sign, value in self.aims)
    return reached and (result['error_ratio'] is None or result['error_ratio'] <= ERROR_AIM)


# The optima of CP are many, a percent apart: closer, the start decides who comes as low.
_CP_SLACK = 0.01
_CP_AIMS = (('speedup_over_best_peer', '>=', 5), ('times_bound', '<=', 2))
_HOOI_AIMS = (('speedup_over_best_peer', '>=', 5),)


def _cp(name: str, shape: tuple[int, ...], rank: int, sweeps: int = 64) -> Cell:
  return Cell(name, 'cp_als', (shape,), ((rank,),), sweeps, _CP_SLACK, aims=_CP_AIMS)


def _hooi(
  name: str,
  shape: tuple[int, ...],
  ranks: tuple[int, ...],
  modes: tuple[int, ...] | None = None,
  sweeps: int = 32,
) -> Cell:
  return Cell(name, 'hooi', (shape,), (ranks,), sweeps, modes=modes, aims=_HOOI_AIMS)


def _tt(name: str, shape: tuple[int, ...], rank: int, times_copy: float | None = None) -> Cell:
  aims = () if times_copy is None else (('times_copy', '<=', times_copy),)
  return Cell(name, 'tt_svd', (shape,), ((rank,) * (len(shape) - 1),), aims=aims)


def _tucker2(name: str, channels: Sequence[int], rate: float, sweeps: int = 32) -> Cell:
  """Consecutive 3x3 kernels (h, w, S, T), ranks as `tn.schemes.tk` chooses them."""
  shapes = tuple((3, 3, s, t) for s, t in zip(channels, channels[1:]))
  ranks = tuple(tn.schemes.tk(rate=rate).bind(shape).ranks for shape in shapes)
  return Cell(name, 'hooi', shapes, ranks, sweeps, modes=(2, 3), aims=_HOOI_AIMS)


def _batch(
  name: str, count: int, shape: tuple[int, ...], ranks: tuple[int, ...], sweeps: int = 32
) -> Cell:
  shapes, ranks = (shape,) * count, (ranks,) * count
  return Cell(name, 'hooi', shapes, ranks, sweeps, batched=True, aims=_HOOI_AIMS)


def _round(name: str, order: int, size: int, rank_in: int, rank: int) -> Cell:
  return Cell(
    name,
    'tt_round',
    ((size,) * order,),
    ((rank,) * (order - 1),),
    rank_in=rank_in,
    aims=(('speedup_over_qr', '>=', 3),),
  )


CELLS = (
  _cp('cp_256x256x9_r64', (256, 256, 9), 64),
  _cp('cp_256^3_r32', (256, 256, 256), 32),
  _cp('cp_64^4_r32', (64, 64, 64, 64), 32),
  _hooi('hooi_256x256x9_r64x64x9', (256, 256, 9), (64, 64, 9)),
  _hooi('hooi_256^3_r16', (256, 256, 256), (16, 16, 16)),
  _hooi('tucker2_512x512x3x3_r128', (512, 512, 3, 3), (128, 128), (0, 1)),
  _tt('tt_8^6x9_r32', (8,) * 6 + (9,), 32),
  _tt('tt_16^5_r16', (16,) * 5, 16),
  _tt('tt_2^26_r10', (2,) * 26, 10, times_copy=3),
  _tt('tt_2^26_r50', (2,) * 26, 50, times_copy=6),
  # 25088 = 2 7 8 8 7 4 by 4096 = 4^6, the first dense layer of VGG-16 (Novikov et al. 2015).
  _tt('tensornet_25088x4096_r4', (8, 28, 32, 32, 28, 16), 4),
  _tt('tensornet_25088x4096_r8', (8, 28, 32, 32, 28, 16), 8),
  _tucker2('vgg16_tucker2_10%', _VGG16, 0.1),
  _batch('batch_64_of_64x64x9_r16x16x9', 64, (64, 64, 9), (16, 16, 9)),
  _round('round_64^20_r40_to_20', 20, 64, 40, 20),
  # A second each in all, for the tests and for a first try; --cells has to name them.
  _cp('tiny_cp', (6, 5, 4), 2, 3),
  _hooi('tiny_hooi', (6, 5, 4), (2, 2, 4), sweeps=3),
  _tt('tiny_tt', (2,) * 6, 3, times_copy=3),
  _tucker2('tiny_tucker2', (4, 8, 8), 0.5, 2),
  _batch('tiny_batch', 3, (4, 4, 3), (2, 2, 3), 2),
  _round('tiny_round', 4, 5, 4, 2),
)


def select(pattern: str) -> tuple[Cell, ...]:
  """Cells whose whole name matches a regular expression.

  Raises:
    ValueError: not a regular expression, or one that matches no cell.

  >>> [cell.name for cell in select('tiny_t.*')]
  ['tiny_tt', 'tiny_tucker2']
  """
  try:
    found = tuple(cell for cell in CELLS if re.fullmatch(pattern, cell.name))
  except re.error as error:
    raise ValueError(f'--cells={pattern} is no regular expression: {error}') from None
  if not found:
    names = ', '.join(cell.name for cell in CELLS)
    raise ValueError(f'--cells={pattern} matches none of the cells: {names}')
  return found
