"""Ranks that keep a relative error, found on the host.

Each function cuts the tensor once with NumPy, spending an error budget as it goes: every cut may
use an equal share of what is left, and what it leaves goes to the next ones. A second pass over
the result, now small, spends what is left over. All cuts are orthogonal projections, so their
squared errors add up.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._prepare import widened
from tnjax.decompositions._record import Decomposition
from tnjax.formats import Record
from tnjax.ops import tolerance


def by_tolerance(
  tol: float,
  choose: Callable[[float], tuple[int, ...]],
  kernel: Callable[[tuple[int, ...]], Decomposition],
) -> Decomposition:
  """The kernel's result at the ranks of `choose(tol)`; at more ranks while they miss it.

  Where caps or rounding keep the tolerance out of reach, the best result on the way.
  """
  allowed, tried, best = tol, None, None
  while True:
    ranks = choose(allowed)
    if ranks != tried:
      d = kernel(ranks)
      if not d.relative_error > tol:
        return d
      if best is not None and not d.relative_error < best.relative_error:
        return best  # more ranks no longer help
      best, tried = d, ranks
    if allowed < 1e-16 * tol or ranks == choose(0.0):
      return best
    allowed *= 0.9


def host(x: Array) -> np.ndarray:
  """The input for one of the searches below: in NumPy, largest entry 1."""
  data = np.asarray(widened(x))
  return data / (np.abs(data).max() or 1)


def check_choice(
  x: Array | Record, ranks: object, tol: float | None, name: str = 'x'
) -> float | None:
  """The tolerance. It or ranks are given, and a tolerance not to traced input."""
  if ranks is None and tol is None:
    raise ValueError('give ranks=, or tol= for the relative error to reach')
  if tol is None:
    return None
  tol = tolerance(tol)
  if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(x)):
    raise ValueError(
      f'tol={tol} needs the values of {name}, which is traced here (jit, vmap or grad): call it '
      'outside once and pass the ranks it finds'
    )
  return tol


def tt_ranks_for(x: np.ndarray, tol: float, caps: Sequence[int] | None = None) -> tuple[int, ...]:
  """TT-ranks of an approximation with ||x - tt|| <= tol ||x||, none above `caps`."""
  budget = _squared(tol) * _energy(x)
  return _chain_ranks(x, 1, x.shape, 1, budget, caps, tol)


def tr_ranks_for(x: np.ndarray, tol: float, caps: Sequence[int] | None = None) -> tuple[int, ...]:
  """Ring ranks for TR-SVD: of all splits r_0 r_1 of the first cut, the ring of fewest entries."""
  shape, order = x.shape, x.ndim
  if order == 1:
    return (1,)
  budget = _squared(tol) * _energy(x)
  s, cut = _factor(x.reshape(shape[0], -1), tol)
  joint = ranks_lib.tail_rank(s, budget / (order - 1))
  if caps is not None:
    joint = min(joint, caps[0] * caps[1])
  budget = max(0.0, budget - _lost(s, joint))
  _, rows = cut(joint)
  rows = rows * s[:joint, None].astype(rows.real.dtype)
  found = []
  for first in range(1, joint + 1):
    second = joint // first
    if joint % first or (caps is not None and (first > caps[0] or second > caps[1])):
      continue
    rest = rows.reshape(first, second, -1).transpose(1, 2, 0)
    inner = _chain_ranks(rest, second, shape[1:], first, budget, caps and caps[2:], tol)
    ring = (first, second, *inner)
    found.append((sum(a * n * b for a, n, b in zip(ring, shape, (*ring[1:], first))), ring))
  return min(found)[1] if found else tuple(caps)


def tucker_ranks_for(
  x: np.ndarray, tol: float, modes: Sequence[int], caps: Sequence[int] | None = None
) -> tuple[int, ...]:
  """Ranks of `modes` for a sequentially truncated HOSVD with relative error at most `tol`."""
  budget, core = _squared(tol) * _energy(x), x
  turns = sorted(modes, key=lambda m: -x.shape[m]) * 2
  for left, mode in zip(range(len(turns), 0, -1), turns):
    matrix = np.moveaxis(core, mode, -1)
    s, cut = _factor(matrix.reshape(-1, matrix.shape[-1]), tol)
    share = budget / (left - len(modes) if left > len(modes) else left)
    rank = ranks_lib.tail_rank(s, share)
    if caps is not None:
      rank = min(rank, caps[list(modes).index(mode)])
    budget = max(0.0, budget - _lost(s, rank))
    core = np.moveaxis(cut(rank)[0].reshape(*matrix.shape[:-1], rank), -1, mode)
  return tuple(core.shape[m] for m in modes)


def round_ranks_for(
  cores: Sequence[np.ndarray], tol: float, caps: Sequence[int] | None = None
) -> tuple[int, ...]:
  """TT-ranks of a rounding with relative error at most `tol`: one sweep from each end."""
  rest, right = np.ones((1, 1)), []
  for core in reversed(cores):
    matrix = np.tensordot(core.astype(np.promote_types(core.dtype, 'float64')), rest, 1)
    q, rest = np.linalg.qr(matrix.reshape(core.shape[0], -1).conj().T)
    size = np.linalg.norm(rest)
    rest = rest.conj().T / (size or 1)  # only the ratio to the whole matters
    right.insert(0, q.conj().T.reshape(-1, *matrix.shape[1:]))
  right[0] = np.tensordot(rest, right[0], 1)
  backwards, budget = _swept(right, _squared(tol), caps)
  final, _ = _swept(backwards, budget, caps and caps[::-1])
  return tuple(core.shape[2] for core in final[:-1])


def _chain_ranks(
  x: np.ndarray,
  first: int,
  shape: Sequence[int],
  last: int,
  budget: float,
  caps: Sequence[int] | None,
  tol: float,
) -> tuple[int, ...]:
  """Inner ranks of a chain (first, *shape, last): cut from the right, then swept from the left."""
  rest, right, cores = x, last, []
  for k in range(len(shape) - 1, 0, -1):
    s, cut = _factor(rest.reshape(-1, shape[k] * right), tol)
    rank = _rank(s, budget / k, caps, k - 1)
    budget = max(0.0, budget - _lost(s, rank))
    rest, rows = cut(rank)
    cores.insert(0, rows.reshape(rank, shape[k], right))
    right = rank
  backwards, _ = _swept([rest.reshape(first, shape[0], right), *cores], budget, caps)
  return tuple(core.shape[2] for core in backwards[:-1])[::-1]


def _swept(
  cores: Sequence[np.ndarray], budget: float, caps: Sequence[int] | None
) -> tuple[list[np.ndarray], float]:
  """Cuts every bond of a chain, all cores but the first right-orthogonal, within a budget.

  Returns the chain read backwards, so that again all cores but its first are right-orthogonal,
  and what is left of the budget.
  """
  rest, done = cores[0], []
  for k, core in enumerate(cores[1:]):
    matrix = rest.reshape(-1, rest.shape[2])
    u, s, vh = np.linalg.svd(matrix, full_matrices=False)
    rank = _rank(s, budget / (len(cores) - 1 - k), caps, k)
    budget = max(0.0, budget - _lost(s, rank))
    done.insert(0, u[:, :rank].reshape(*rest.shape[:2], rank).transpose(2, 1, 0))
    rest = np.tensordot(s[:rank, None] * vh[:rank], core, 1)
  return [rest.transpose(2, 1, 0), *done], budget


def _rank(s: np.ndarray, share: float, caps: Sequence[int] | None, bond: int) -> int:
  rank = ranks_lib.tail_rank(s, share)
  return rank if caps is None else min(rank, caps[bond])


def _factor(
  matrix: np.ndarray, tol: float
) -> tuple[np.ndarray, Callable[[int], tuple[np.ndarray, np.ndarray]]]:
  """Singular values, and `cut(rank) -> left, right` with orthonormal rows in `right`.

  The Gram matrix is summed in double precision, which resolves 1e-8 of the largest singular
  value: enough for single precision and for all but the finest tolerances.
  """
  rows, width = matrix.shape
  if tol < 1e-6 and matrix.real.dtype.itemsize >= 8:
    reduced = matrix
    if rows > width:
      reduced = np.linalg.qr(matrix, mode='r')
    _, s, vh = np.linalg.svd(reduced, full_matrices=False)
    return s, lambda rank: (matrix @ vh[:rank].conj().T, vh[:rank])
  tall = rows >= width
  values, vectors = np.linalg.eigh(_gram(matrix if tall else matrix.conj().T))
  s = np.sqrt(np.maximum(values[::-1], 0))
  vectors = vectors[:, ::-1].astype(matrix.dtype)

  def cut(rank: int) -> tuple[np.ndarray, np.ndarray]:
    basis = vectors[:, :rank]
    if tall:
      return matrix @ basis, basis.conj().T
    size = np.where(s > 0, s, 1)[:rank].astype(basis.real.dtype)
    return basis * size, basis.conj().T @ matrix / size[:, None]

  return s, cut


def _gram(tall: np.ndarray) -> np.ndarray:
  """tall^H tall in double precision, a block of rows at a time."""
  size = max(1, 2**22 // tall.shape[1])
  total = 0
  for start in range(0, tall.shape[0], size):
    block = tall[start : start + size].astype(np.promote_types(tall.dtype, 'float64'))
    total = total + block.conj().T @ block
  return total


def _squared(tol: float) -> float:
  """In range, as what is huge allows anything already."""
  return min(tol, 1e9) ** 2


def _energy(x: np.ndarray) -> float:
  return float(np.linalg.norm(x.ravel())) ** 2


def _lost(s: np.ndarray, rank: int) -> float:
  return float(ranks_lib.tail_energies(s)[rank])
