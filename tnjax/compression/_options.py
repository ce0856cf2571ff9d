"""Every rank worth taking for one kernel: what it costs, and a bound of its squared error."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from tnjax.ranks import tail_energies
from tnjax.schemes import FORMATS, Parametrization

_GRID = 2**18  # tuples of ranks looked at per layer: all pairs of 512 channels


@dataclasses.dataclass(frozen=True)
class Options:
  """Undominated ranks of one layer, by rising cost and falling error.

  Attributes:
    ranks: (n, bonds) ints, as `Parametrization.ranks`.
    costs: (n,) ints.
    errors: (n,) squared errors.
  """

  ranks: np.ndarray
  costs: np.ndarray
  errors: np.ndarray


def options(
  full: Parametrization, weights: Sequence[np.ndarray], count: Callable[[Parametrization], int]
) -> Options:
  """The Pareto front of cost and error over a grid of ranks.

  The error is the sum over the cut unfoldings of their discarded squared singular values: exact
  for a matrix, for TT-SVD (Oseledets 2011, theorem 2.2) and the truncated HOSVD (Vannieuwenhoven
  et al. 2012, theorem 5.1) a bound within a factor of the number of cuts of the optimum.

  Where there are more than 2^18 tuples of ranks, the long bonds take ranks in a geometric grid.

  Args:
    full: the scheme bound to the weight, of format 'tt' or 'tk', at its largest ranks.
    weights: the folded weight, of shape `full.fold.mode_shape`, in double precision; those of a
      stack, which takes the same ranks throughout.
    count: cost of a parametrization, multilinear in its ranks, such as parameters.
  """
  row, ranks = FORMATS[full.format], _candidates(full.ranks)
  if ranks.shape[1]:
    ranks = np.stack(row.caps(full.fold.mode_shape, list(ranks.T), full.free), axis=1)
  costs = _multilinear(full, count)(ranks)
  errors = np.zeros(len(ranks))
  for x in weights:
    for bond, matrix in enumerate(row.matrices(x, full.free)):
      errors += _tails(matrix)[ranks[:, bond]]
  order = np.lexsort((errors, costs))
  lowest = np.minimum.accumulate(errors[order])
  order = order[np.append(True, errors[order[1:]] < lowest[:-1])]
  return Options(ranks[order], costs[order], errors[order])


def _candidates(largest: tuple[int, ...]) -> np.ndarray:
  """Tuples of ranks up to the largest, (n, bonds): all of them, or a grid where they are many."""
  axes, left = {}, _GRID
  for done, bond in enumerate(sorted(range(len(largest)), key=largest.__getitem__)):
    share = math.floor(left ** (1 / (len(largest) - done)) + 1e-9)
    if largest[bond] <= share:
      axes[bond] = np.arange(1, largest[bond] + 1)
    else:
      axes[bond] = np.unique(np.geomspace(1, largest[bond], share).round().astype('int64'))
    left //= len(axes[bond])
  grid = np.meshgrid(*(axes[bond] for bond in range(len(largest))), indexing='ij')
  return np.stack([a.ravel() for a in grid], axis=1) if grid else np.ones((1, 0), 'int64')


def _multilinear(
  full: Parametrization, count: Callable[[Parametrization], int]
) -> Callable[[np.ndarray], np.ndarray]:
  """`count` as a function of many ranks (n, bonds), from its values at ranks of 0 and 1.

  Entry by entry of the table, differences along every axis are the coefficients of the products
  of ranks.
  """
  bonds = len(full.ranks)
  table = np.array(
    [count(dataclasses.replace(full, ranks=corner)) for corner in np.ndindex(*(2,) * bonds)],
    'int64',
  ).reshape((2,) * bonds)
  for axis in range(bonds):
    first, second = np.split(table, 2, axis)
    table = np.concatenate([first, second - first], axis)

  def evaluate(ranks: np.ndarray) -> np.ndarray:
    total = np.zeros(len(ranks), 'int64')
    for corner in np.argwhere(table):
      total += table[tuple(corner)] * ranks[:, corner == 1].prod(1)
    return total

  return evaluate


def _tails(matrix: np.ndarray) -> np.ndarray:
  """Squared error of every rank of a matrix, from its Gram matrix.

  In double precision, so that errors are right down to 1e-8 of the norm.
  """
  scale = np.abs(matrix).max() or 1.0
  short = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T) / scale
  energies = np.linalg.eigvalsh(short @ short.conj().T)[::-1]
  return tail_energies(np.sqrt(np.maximum(energies, 0))) * scale**2
