"""Is one network better than another of its size? Differences, and how sure they are."""

from collections.abc import Mapping, Sequence

import numpy as np

_DRAWS = 2000
Marks = tuple[np.ndarray, np.ndarray]


def difference(
  one: Sequence[Marks], other: Sequence[Marks], scored: np.ndarray, seed: int = 0
) -> dict[str, float]:
  """How much better one is than the other, and an interval that holds 95 % of what other images
  would give (bootstrap: the images are drawn again, for both sides and all networks alike).

  Args:
    one, other: of every network of a side, such as those of several seeds, which joints were right
      and which count, bool (n, J), of the same n people; see `metrics.marks`.
    scored: joints that the mean takes in, bool (J,).
    seed: of the draws.

  Returns:
    difference (of the means over a side's networks, fractions), low, high.

  >>> counted = np.ones((50, 2), bool)
  >>> half = np.arange(50)[:, None] < 25
  >>> found = difference([(counted, counted)], [(counted & half, counted)], np.ones(2, bool))
  >>> found['difference'], 0.3 < found['low'] < 0.5 < found['high'] < 0.7
  (0.5, True)
  """
  count = len(one[0][1])
  draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), _DRAWS)
  weights = np.concatenate([np.ones((1, count)), draws])
  left, right = (
    np.mean([_means(weights, *marks, scored) for marks in side], 0) for side in (one, other)
  )
  found, drawn = (left - right)[0], (left - right)[1:]
  low, high = np.nanquantile(drawn, (0.025, 0.975))
  return {'difference': float(found), 'low': float(low), 'high': float(high)}


def _means(
  weights: np.ndarray, right: np.ndarray, counted: np.ndarray, scored: np.ndarray
) -> np.ndarray:
  """Mean over joints, for every weighting (d, n) of the people."""
  total = weights @ counted[:, scored]
  with np.errstate(invalid='ignore', divide='ignore'):
    parts = (weights @ right[:, scored]) / total
  return np.nanmean(np.where(total > 0, parts, np.nan), 1)


def pairs(rows: Sequence[Mapping]) -> list[tuple[float, str, str]]:
  """Ratio and two methods of every question: each T-Net against each rival of its size."""
  found = []
  for ratio in dict.fromkeys(row['value'] for row in rows):
    here = dict.fromkeys(row['method'] for row in rows if row['value'] == ratio)
    ours = [name for name in here if name not in ('layerwise', 'trimmed')]
    rivals = [name for name in ('layerwise', 'trimmed') if name in here]
    found += [(ratio, one, other) for one in ours for other in rivals]
  return found
