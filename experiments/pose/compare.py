"""Is one network better than another of its size? Differences, and how sure they are."""

from collections.abc import Iterable, Sequence

import numpy as np

from experiments.pose.config import CONTROL

_DRAWS = 2000
_RIVALS = ('layerwise', 'trimmed')
Marks = tuple[np.ndarray, np.ndarray]
Key = tuple[str, str, float]


def difference(
  one: Sequence[Marks],
  other: Sequence[Marks],
  scored: np.ndarray,
  images: np.ndarray,
  seed: int = 0,
) -> dict[str, float | list[float]]:
  """How much better one is than the other, and an interval that holds 95 % of what other images
  would give (bootstrap: the images are drawn again, with all who are in them, for both sides and
  all networks alike). Other seeds are not in the interval; `by_seed` shows how far they differ.

  Args:
    one, other: of every network of a side, such as those of several seeds, which joints were right
      and which count, bool (n, J), of the same n people; see `metrics.marks`.
    scored: joints that the mean takes in, bool (J,).
    images: who is in the same image has the same entry, (n,).
    seed: of the draws.

  Returns:
    difference (of the means over a side's networks, fractions), low, high, by_seed (of every pair
    of networks).

  >>> counted = np.ones((50, 2), bool)
  >>> half = np.arange(50)[:, None] < 25
  >>> sides = [(counted, counted)], [(counted & half, counted)]
  >>> found = difference(*sides, np.ones(2, bool), np.arange(50))
  >>> found['difference'], 0.3 < found['low'] < 0.5 < found['high'] < 0.7
  (0.5, True)
  """
  names, image = np.unique(images, return_inverse=True)
  count = len(names)
  draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), _DRAWS)
  weights = np.concatenate([np.ones((1, count)), draws])[:, image]
  left, right = (
    np.array([_means(weights, *marks, scored) for marks in side]) for side in (one, other)
  )
  better = left - right
  found, drawn = better.mean(0)[0], better.mean(0)[1:]
  low, high = np.nanquantile(drawn, (0.025, 0.975))
  return {
    'difference': float(found), 'low': float(low), 'high': float(high),
    'by_seed': better[:, 0].tolist(),
  }  # fmt: skip


def _means(
  weights: np.ndarray, right: np.ndarray, counted: np.ndarray, scored: np.ndarray
) -> np.ndarray:
  """Mean over joints, for every weighting (d, n) of the people."""
  total = weights @ counted[:, scored]
  with np.errstate(invalid='ignore', divide='ignore'):
    parts = (weights @ right[:, scored]) / total
  return np.nanmean(np.where(total > 0, parts, np.nan), 1)


def pairs(keys: Iterable[Key]) -> list[tuple[Key, Key]]:
  """What is compared: every row with its study's control, and T-Nets with rivals of their size.

  Args:
    keys: study, method and value of the rows there are.

  >>> pairs([('methods', 'dense', 1), ('methods', 'mps', 3.0), ('methods', 'trimmed', 3.0)])[1]
  (('methods', 'mps', 3.0), ('methods', 'trimmed', 3.0))
  """
  keys, found = list(keys), []
  for study, method, value in keys:
    others = [] if method == CONTROL else [(study, CONTROL, 1)]
    if study == 'methods' and method not in (CONTROL, *_RIVALS):
      others += [(study, rival, value) for rival in _RIVALS]
    found += [((study, method, value), other) for other in others if other in keys]
  return found
