"""What no implementation can avoid: products at a measured rate, the tensor read from memory.

The bound of a cell is the larger of the two times. Both counts are from below: small products,
factorisations, the error and the start are left out, so `times_bound = 1` is out of reach.
"""

import math
from collections.abc import Callable, Sequence

from experiments.benchmarks.cells import Cell

_WORD = 4  # bytes of a float32


def work(cell: Cell) -> tuple[float, float]:
  """Floating-point operations and bytes read that any implementation of the cell needs.

  >>> from experiments.benchmarks.cells import select
  >>> work(select('tiny_cp')[0])  # 3 sweeps, 3/2 large products, 2 R 120 operations, 4 120 bytes
  (2160.0, 2160.0)
  """
  counts = _counts(cell)
  return sum(flops for flops, _ in counts), sum(read for _, read in counts)


def bound(
  cell: Cell, gflops: Sequence[float], copy_gbytes_per_s: float, copy_seconds: float
) -> tuple[float, str]:
  """Seconds, and which of 'products' and 'streaming' they are.

  Args:
    cell: what is decomposed.
    gflops: measured rate of matrix products, one for every tensor: of large square ones, which no
      shape exceeds, or of those that `skinny` names.
    copy_gbytes_per_s: measured rate of a large copy, read and written.
    copy_seconds: measured time of copying the cell's input; where it fits a cache that is faster,
      and where it is tiny slower, so the better of the two rates counts.
  """
  counts = _counts(cell)
  products = sum(flops / (rate * 1e9) for (flops, _), rate in zip(counts, gflops, strict=True))
  read = sum(read for _, read in counts)
  streaming = read / max(2 * input_bytes(cell) / copy_seconds, copy_gbytes_per_s * 1e9)
  return (products, 'products') if products >= streaming else (streaming, 'streaming')


def skinny(cell: Cell) -> list[tuple[int, int, int]]:
  """(rows, inner, columns) of the largest product that the bound counts, for every tensor.

  It is an unfolding (prod(I) / I x I) of the tensor times a factor (I x R), for the longest mode;
  of TT-SVD the unfolding at the widest bond, of rounding the unfolded core times a square factor.

  >>> from experiments.benchmarks.cells import select
  >>> skinny(select('cp_256x256x9_r64')[0])
  [(2304, 256, 64)]
  """
  return [_SKINNY[cell.method](cell, s, r) for s, r in zip(cell.shapes, cell.ranks)]


def _counts(cell: Cell) -> list[tuple[float, float]]:
  return [_COUNT[cell.method](cell, s, r) for s, r in zip(cell.shapes, cell.ranks)]


def input_bytes(cell: Cell) -> int:
  """Size of what is decomposed."""
  if cell.method == 'tt_round':
    return _WORD * sum(left * n * right for left, n, right in core_shapes(cell))
  return _WORD * sum(math.prod(shape) for shape in cell.shapes)


def core_shapes(cell: Cell) -> list[tuple[int, int, int]]:
  """Shapes of the cores before rounding."""
  (shape,) = cell.shapes
  ranks = (1, *(cell.rank_in,) * (len(shape) - 1), 1)
  return list(zip(ranks, shape, ranks[1:]))


def _cp_als(cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[float, float]:
  """N/(N-1) products of the whole tensor with a factor in a sweep, each 2 R prod(I).

  A product with factor n serves the N-1 updates until factor n itself changes; no schedule needs
  fewer (the multi-sweep dimension tree: Ma and Solomonik 2021, arXiv 2010.12056).
  """
  size, order = math.prod(shape), len(shape)
  passes = cell.sweeps * order / (order - 1)
  return passes * 2 * ranks[0] * size, passes * _WORD * size


def _hooi(cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[float, float]:
  """As CP, over the N modes that shrink: products of 2 R prod(I) with the cheapest factors.

  Two modes need one product each in a sweep; more can share the cheapest. A single mode needs no
  iteration. A mode that keeps its size has an orthogonal factor, which changes no other factor.
  """
  size, shrinking = math.prod(shape), _shrinking(cell, shape, ranks)
  count = len(shrinking)
  if count < 2:
    return 2.0 * size * sum(shrinking), float(_WORD * size)
  passes = cell.sweeps * count / (count - 1)
  mean = sum(shrinking) / 2 if count == 2 else min(shrinking)
  return passes * 2 * mean * size, passes * _WORD * size


def _tt_svd(cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[float, float]:
  """The whole tensor is read once, and projected once on the widest bond: 2 R prod(I)."""
  del cell
  size = math.prod(shape)
  return 2.0 * max(_widths(shape, ranks)) * size, float(_WORD * size)


def _tt_round(cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[float, float]:
  """Per core (r, n, q): its triangular or Gram factor absorbed and contracted, then the cut.

  A factor of side q absorbed into the core costs 2 n r q^2; the symmetric contraction over (n, q)
  to side r costs n q r^2 (half of it is needed); the cut to ranks r', q' costs 2 n r (q q' + ...),
  of which the cheaper order is counted: 2 n r q q' + 2 n r q' r'.
  """
  cut = (1, *ranks, 1)
  flops = read = 0.0
  for k, (r, n, q) in enumerate(core_shapes(cell)):
    absorbed = 2 * n * r * q * q + n * q * r * r
    right = 2 * n * r * q * cut[k + 1] + 2 * n * r * cut[k + 1] * cut[k]
    left = 2 * n * r * q * cut[k] + 2 * n * q * cut[k] * cut[k + 1]
    flops += (absorbed if k else 0) + min(left, right)
    read += _WORD * r * n * q
  return flops, read


def _skinny_cp(cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[int, int, int]:
  del cell
  return math.prod(shape) // max(shape), max(shape), ranks[0]


def _skinny_hooi(
  cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]
) -> tuple[int, int, int]:
  return math.prod(shape) // max(shape), max(shape), min(_shrinking(cell, shape, ranks), default=1)


def _skinny_tt(cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]) -> tuple[int, int, int]:
  del cell
  widths = _widths(shape, ranks)
  left = math.prod(shape[: widths.index(max(widths)) + 1])
  inner = min(left, math.prod(shape) // left)
  return math.prod(shape) // inner, inner, max(widths)


def _skinny_round(
  cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]
) -> tuple[int, int, int]:
  del shape, ranks
  r, n, q = max(core_shapes(cell), key=math.prod)
  return r * n, q, q


def _shrinking(cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[int]:
  """Ranks of the modes that shrink."""
  modes = range(len(shape)) if cell.modes is None else cell.modes
  return [r for m, r in zip(modes, ranks) if r < shape[m]]


def _widths(shape: tuple[int, ...], ranks: tuple[int, ...]) -> list[int]:
  """Of the bonds of a TT, as far as the shape allows."""
  return [min(r, math.prod(shape[:k]), math.prod(shape[k:])) for k, r in enumerate(ranks, start=1)]


_COUNT: dict[str, Callable] = {
  'cp_als': _cp_als,
  'hooi': _hooi,
  'tt_svd': _tt_svd,
  'tt_round': _tt_round,
}
_SKINNY: dict[str, Callable] = {
  'cp_als': _skinny_cp,
  'hooi': _skinny_hooi,
  'tt_svd': _skinny_tt,
  'tt_round': _skinny_round,
}
