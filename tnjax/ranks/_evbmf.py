"""Rank of a noisy matrix by empirical variational Bayes, in closed form."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from tnjax.ops import Value, number, numeric
from tnjax.ranks._spectrum import spectrum

_GRID = 512  # noise variances looked at before the refinement


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class EvbmfResult(Value):
  """Result of `evbmf`.

  Attributes:
    significant: number of singular values that stand out from the noise; 0 for pure noise.
    noise_variance: estimated (or given) variance of the noise per entry.
    free_energy: of the fitted model, in nats.
    shrunk: (significant,) posterior singular values, smaller than the observed ones.
  """

  significant: int
  noise_variance: float
  free_energy: float
  shrunk: np.ndarray

  @property
  def rank(self) -> int:
    """The rank to use: `significant`, but never 0."""
    return max(1, self.significant)


def evbmf(matrix: ArrayLike, noise_variance: float | None = None) -> EvbmfResult:
  """Global analytic solution of empirical variational Bayes matrix factorisation.

  Nakajima, Sugiyama, Babacan and Tomioka, JMLR 14 (2013), theorem 2 and corollary 1: of an
  (L, M) matrix with L <= M (a tall one is transposed), the components whose singular value
  exceeds sqrt(M s2 x) are kept, x = (1 + t)(1 + a/t), a = L/M, t = 2.5129 sqrt(a); the noise
  variance s2 minimises a one-dimensional function of the singular values. O(L^2 M), in float64 on
  the host.

  Args:
    matrix: real, two modes, finite.
    noise_variance: known variance of the noise, positive; estimated by default.

  Returns:
    An `EvbmfResult`, the same for the transpose. Its `rank` is at least 1, also where the matrix is
    pure noise or zero (noise variance 0, free energy -inf).

  Raises:
    ValueError: not a real matrix, not finite, or a noise variance that is not positive.

  >>> rng = np.random.RandomState(0)
  >>> signal = rng.randn(32, 5) @ rng.randn(5, 96)
  >>> evbmf(signal + 0.1 * rng.randn(32, 96)).rank
  5
  """
  y = numeric(matrix, 'matrix', np)
  if y.ndim != 2 or y.size == 0 or np.iscomplexobj(y):
    raise ValueError(f'matrix has shape {y.shape} and dtype {y.dtype}; evbmf needs a real (L, M)')
  y = y.astype('float64')
  if not np.isfinite(y).all():
    raise ValueError(f'matrix of shape {y.shape} has NaN or infinite entries; clean it first')
  if noise_variance is not None:
    meaning = 'above 0, or None to estimate it'
    noise_variance = number(noise_variance, 'noise_variance', meaning, lambda x: x > 0)
  rows, columns = sorted(y.shape)
  largest = np.abs(y).max()
  if largest == 0:
    energy = y.size * math.log(2 * math.pi * noise_variance) / 2 if noise_variance else -math.inf
    return EvbmfResult(0, noise_variance or 0.0, energy, np.zeros(0))
  singular = spectrum(y / largest)
  root_mean_square = np.linalg.norm(singular) / math.sqrt(y.size)
  scale = float(largest * root_mean_square)  # everything below is for entries of mean square 1
  floor = np.finfo('float64').eps * singular[0]  # exact zeros have no logarithm
  g2 = (np.maximum(singular, floor) / root_mean_square) ** 2
  alpha = rows / columns
  ratio = 2.5129 * math.sqrt(alpha)
  threshold = (1 + ratio) * (1 + alpha / ratio)
  if noise_variance is None:
    variance = _search(g2, rows, columns, alpha, threshold)
  else:
    variance = noise_variance / scale / scale
  kept = g2[g2 > columns * variance * threshold]
  spread = (rows + columns) * variance / kept
  root = np.sqrt(np.maximum(0, (1 - spread) ** 2 - 4 * rows * columns * variance**2 / kept**2))
  shrunk = np.sqrt(kept) / 2 * (1 - spread + root)
  t = shrunk * np.sqrt(kept) / (columns * variance)
  gain = columns * np.log(t + 1) + rows * np.log(t / alpha + 1) - columns * t
  noise = rows * columns * (math.log(2 * math.pi * variance) + 2 * math.log(scale))
  energy = (noise + g2.sum() / variance + gain.sum()) / 2
  return EvbmfResult(len(kept), float(variance) * scale * scale, float(energy), shrunk * scale)


def _search(g2: np.ndarray, rows: int, columns: int, alpha: float, threshold: float) -> float:
  """The noise variance of least free energy, between the bounds of the paper.

  The objective has several local minima where the noise is weak, and the bounds may be decades
  apart: a look at a geometric grid comes before the refinement.
  """
  last = min(math.ceil(rows / (1 + alpha)) - 1, rows) - 1
  tail = g2[last + 1 :]
  lower = max(tail[0] / (columns * threshold), tail.mean() / columns)
  upper = g2.sum() / (rows * columns)
  if not lower < upper:
    return float(upper)

  def objective(log_variances: np.ndarray) -> np.ndarray:
    return _objective(np.exp(log_variances), g2, columns, alpha, threshold)

  grid = np.linspace(math.log(lower), math.log(upper), _GRID)
  best = int(np.argmin(objective(grid)))
  bracket = (grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)])
  found = minimize_scalar(
    lambda v: objective(np.array([v]))[0],
    bounds=bracket,
    method='bounded',
    options={'xatol': 1e-10},
  )
  return math.exp(found.x)


def _objective(
  variances: np.ndarray, g2: np.ndarray, columns: int, alpha: float, threshold: float
) -> np.ndarray:
  x = g2 / (columns * variances[:, None])
  signal = np.maximum(x, threshold)
  part = signal - (1 + alpha)
  tau = (part + np.sqrt(part**2 - 4 * alpha)) / 2
  kept = signal - tau + np.log((tau + 1) / signal) + alpha * np.log(tau / alpha + 1)
  return np.where(x > threshold, kept, x - np.log(x)).sum(axis=1)
