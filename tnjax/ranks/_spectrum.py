"""Ranks from a spectrum: how many singular values to keep for an error that is allowed."""

import math

import numpy as np
from numpy.typing import ArrayLike

from tnjax.ops import number, numeric, one_thread, tolerance

_SAFE = 1e-8  # smallest eigenvalue of a Gram matrix over its largest: true to 1e-6 and better


def spectrum(matrix: np.ndarray) -> np.ndarray:
  """The singular values of a matrix, descending, in float64.

  From the eigenvalues of its Gram matrix, whose errors are some eps of the largest, where all are
  far above that: ten times as fast for the unfoldings of large kernels. Else by an SVD.

  >>> spectrum(np.diag([3.0, 4.0, 0.0])).tolist()
  [4.0, 3.0, 0.0]
  """
  wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
  scale = np.abs(wide).max(initial=0.0) or 1.0
  wide = wide.astype('complex128' if np.iscomplexobj(wide) else 'float64') / scale
  with one_thread():
    energies = np.linalg.eigvalsh(wide @ wide.conj().T)[::-1]
    if energies.size and energies[-1] > _SAFE * energies[0]:
      return scale * np.sqrt(energies)
    return scale * np.linalg.svd(wide, compute_uv=False)


def tail_energies(singular_values: ArrayLike) -> np.ndarray:
  """Squared error of the best approximation of every rank 0, ..., n (Eckart and Young 1936).

  Entry r is the sum of the squared singular values after the first r, added from the small end in
  float64, so that small tails are as accurate as their terms.

  Args:
    singular_values: (n,) real, not negative, descending, n >= 1.

  Returns:
    (n + 1,), descending; the first entry is the squared norm, the last 0.

  Raises:
    ValueError: an array that does not fit the above.

  >>> tail_energies([3.0, 2.0, 1.0]).tolist()
  [14.0, 5.0, 1.0, 0.0]
  """
  s = numeric(singular_values, 'singular_values', np)
  if s.ndim != 1 or not s.size or s.dtype.kind not in 'iuf':
    raise ValueError(
      f'singular_values have shape {s.shape} and dtype {s.dtype}; give a real vector (n,), n >= 1'
    )
  s = s.astype('float64')
  if not np.isfinite(s).all() or s[-1] < 0 or (s[1:] > s[:-1]).any():
    raise ValueError(
      f'singular_values={s} must be finite, not negative and descending; sort them as np.linalg.svd'
    )
  return np.append(np.cumsum(s[::-1] ** 2)[::-1], 0.0)


def tail_rank(singular_values: ArrayLike, budget: float) -> int:
  """Smallest rank, at least 1, whose squared error is at most `budget`, an absolute amount.

  Args:
    singular_values: as in `tail_energies`.
    budget: allowed sum of the discarded squared singular values; met up to rounding (1e-12 of it).

  Raises:
    ValueError: as `tail_energies`, or a budget that is negative or not finite.

  >>> [tail_rank([3.0, 2.0, 1.0], budget) for budget in (0.0, 1.0, 4.9, 5.0, 100.0)]
  [3, 2, 2, 1, 1]
  """
  budget = number(budget, 'budget', 'of at least 0, a squared error', lambda x: x >= 0)
  tails = tail_energies(singular_values)
  return max(1, int((tails > budget * (1 + 1e-12)).sum()))


def energy_rank(singular_values: ArrayLike, energy: float) -> int:
  """Smallest rank, at least 1, that keeps the fraction `energy` of the squared norm.

  Args:
    singular_values: as in `tail_energies`; their scale does not matter.
    energy: in (0, 1]; 1 drops exact zeros only.

  Raises:
    ValueError: as `tail_energies`, or an energy outside (0, 1].

  >>> [energy_rank([3.0, 2.0, 1.0], energy) for energy in (0.5, 0.9, 0.95, 1.0)]
  [1, 2, 3, 3]
  """
  energy = number(energy, 'energy', 'in (0, 1]', lambda x: 0 < x <= 1)
  s = _unit(singular_values)
  return tail_rank(s, (1 - energy) * tail_energies(s)[0])


def tolerance_rank(singular_values: ArrayLike, tol: float) -> int:
  """Smallest rank, at least 1, whose relative error ||A - A_r|| / ||A|| is at most `tol`.

  Args:
    singular_values: as in `tail_energies`; their scale does not matter.
    tol: at least 0; 0 drops exact zeros only.

  Raises:
    ValueError: as `tail_energies`, or a tolerance that is negative or not finite.

  >>> [tolerance_rank([3.0, 2.0, 1.0], tol) for tol in (0.0, 0.1, 0.3, 0.6, 1.0)]
  [3, 3, 2, 1, 1]
  """
  tol = min(tolerance(tol), 1.0)  # where nothing more is asked, and no square overflows
  s = _unit(singular_values)
  return tail_rank(s, tol**2 * tail_energies(s)[0])


def _unit(singular_values: ArrayLike) -> np.ndarray:
  """Divided by a power of two near the largest, so that no square over- or underflows."""
  s = numeric(singular_values, 'singular_values', np)
  largest = float(s.max()) if s.size and s.dtype.kind in 'iuf' else 0.0
  return s / 2.0 ** math.frexp(largest)[1] if 0 < largest < math.inf else s
