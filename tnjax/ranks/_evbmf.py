"""Rank of a noisy matrix by empirical variational Bayes, in closed form."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar


@dataclasses.dataclass(frozen=True)
class Evbmf:
  """Result of `evbmf`.

  Attributes:
    rank: number of singular values that stand out from the noise; may be 0.
    noise_variance: estimated variance of the noise per entry.
    free_energy: of the fitted model.
    shrunk: (rank,) posterior singular values, smaller than the observed ones.
  """

  rank: int
  noise_variance: float
  free_energy: float
  shrunk: np.ndarray


def evbmf(matrix: ArrayLike, noise_variance: float | None = None) -> Evbmf:
  """Global analytic solution of empirical variational Bayes matrix factorisation.

  Nakajima, Sugiyama, Babacan and Tomioka, JMLR 14 (2013), theorem 2 and corollary 1: of an
  (L, M) matrix with L <= M (a tall one is transposed), the components whose singular value
  exceeds sqrt(M s2 x) are kept, x = (1 + t)(1 + a/t), a = L/M, t = 2.5129 sqrt(a); the noise
  variance s2 minimises a one-dimensional function of the singular values. O(L^2 M), in float64.

  Args:
    matrix: real, two modes, finite.
    noise_variance: known variance of the noise; estimated by default.

  Returns:
    An `Evbmf` record. Its rank is 0 for pure noise: a rank rule has to guard against that.

  Raises:
    ValueError: not a real matrix, or not finite.

  >>> rng = np.random.RandomState(0)
  >>> signal = rng.randn(32, 5) @ rng.randn(5, 96)
  >>> evbmf(signal + 0.1 * rng.randn(32, 96)).rank
  5
  """
  y = np.asarray(matrix)
  if y.ndim != 2 or y.size == 0 or np.iscomplexobj(y):
    raise ValueError(f'matrix has shape {y.shape} and dtype {y.dtype}; evbmf needs a real (L, M)')
  y = y.astype('float64')
  if not np.isfinite(y).all():
    raise ValueError(f'matrix of shape {y.shape} has NaN or infinite entries; clean it first')
  rows, columns = sorted(y.shape)
  singular = np.linalg.svd(y, compute_uv=False)
  if singular[0] == 0:
    return Evbmf(0, 0.0, -math.inf, np.zeros(0))
  scale = np.linalg.norm(singular) / math.sqrt(y.size)  # so that the largest variance is 1
  floor = np.finfo('float64').eps * singular[0]  # exact zeros have no logarithm
  g2 = (np.maximum(singular, floor) / scale) ** 2
  alpha = rows / columns
  ratio = 2.5129 * math.sqrt(alpha)
  threshold = (1 + ratio) * (1 + alpha / ratio)
  if noise_variance is None:
    variance = _search(g2, rows, columns, alpha, threshold)
  else:
    variance = noise_variance / scale**2
  kept = g2[g2 > columns * variance * threshold]
  spread = (rows + columns) * variance / kept
  root = np.sqrt(np.maximum(0, (1 - spread) ** 2 - 4 * rows * columns * variance**2 / kept**2))
  shrunk = np.sqrt(kept) / 2 * (1 - spread + root)
  t = shrunk * np.sqrt(kept) / (columns * variance)
  gain = columns * np.log(t + 1) + rows * np.log(t / alpha + 1) - columns * t
  true_variance = variance * scale**2
  noise = rows * columns * math.log(2 * math.pi * true_variance) if true_variance > 0 else -math.inf
  energy = (noise + g2.sum() / variance + gain.sum()) / 2 if variance > 0 else -math.inf
  return Evbmf(len(kept), true_variance, energy, shrunk * scale)


def _search(g2: np.ndarray, rows: int, columns: int, alpha: float, threshold: float) -> float:
  """The noise variance of least free energy, between the bounds of the paper."""
  last = min(math.ceil(rows / (1 + alpha)) - 1, rows) - 1
  tail = g2[last + 1 :]
  lower = max(tail[0] / (columns * threshold), tail.mean() / columns)
  upper = g2.sum() / (rows * columns)
  if not lower < upper:
    return upper
  found = minimize_scalar(
    _objective,
    args=(g2, columns, alpha, threshold),
    bounds=(lower, upper),
    method='bounded',
    options={'xatol': 1e-12},
  )
  return float(found.x)


def _objective(
  variance: float, g2: np.ndarray, columns: int, alpha: float, threshold: float
) -> float:
  x = g2 / (columns * variance)
  signal, noise = x[x > threshold], x[x <= threshold]
  part = signal - (1 + alpha)
  tau = (part + np.sqrt(part**2 - 4 * alpha)) / 2
  kept = signal - tau + np.log((tau + 1) / signal) + alpha * np.log(tau / alpha + 1)
  return float(kept.sum() + (noise - np.log(noise)).sum())
