"""How well two CP tensors agree component by component."""

import numpy as np

from tnjax.formats._cp import CP
from tnjax.formats._record import check_format, check_shapes


def factor_match_score(a: CP, b: CP, weights: bool = True) -> float:
  """Factor match score (FMS) of two CP tensors of one shape and rank: 1 for equal components.

  Component r of `a` and s of `b` agree by the product over the modes of |cos| of the angle
  between their columns, times 1 - |w_r - v_s| / max(w_r, v_s) with w, v their norms (weight times
  the norms of its columns); the score is the mean over the best one-to-one pairing (Acar et al.
  2011; `score` of the MATLAB Tensor Toolbox, with an optimal instead of a greedy pairing).
  Invariant to order, sign or phase, and to how scale is spread over weights and factors. Two
  components that vanish agree, one that vanishes and one that does not score 0. NaN where an
  entry is not finite.

  On the host, in float64: not for traced arrays.

  Args:
    a, b: the two tensors.
    weights: whether a difference of the components' norms counts.

  Raises:
    ValueError: not two CPs of one shape and rank.

  >>> import jax.numpy as jnp
  >>> a = CP(jnp.array([2., 1.]), (jnp.eye(3)[:, :2], jnp.eye(4)[:, :2]))
  >>> b = CP(jnp.array([-1., 4.]), (jnp.eye(3)[:, 1::-1], jnp.eye(4)[:, 1::-1]))
  >>> factor_match_score(a, b), factor_match_score(a, b, weights=False)
  (0.75, 1.0)
  """
  from scipy.optimize import linear_sum_assignment  # a quarter of a second, only needed here

  check_format(a, 'a', (CP,))
  check_format(b, 'b', (CP,))
  check_shapes(a, b)
  if a.ranks != b.ranks:
    raise ValueError(f'b has rank {b.ranks[0]}; it needs the rank of a, {a.ranks[0]}')
  columns_a, sizes_a = _normalised(a)
  columns_b, sizes_b = _normalised(b)
  if not np.isfinite([sizes_a, sizes_b]).all():
    return float('nan')
  scores = np.ones((a.ranks[0], a.ranks[0]))
  for x, y in zip(columns_a, columns_b):
    scores *= np.abs(x.conj().T @ y)
  alive_a, alive_b = sizes_a[:, None] > 0, sizes_b[None, :] > 0
  scores = np.where(alive_a & alive_b, scores, alive_a == alive_b)
  if weights:
    larger = np.maximum(sizes_a[:, None], sizes_b[None, :])
    scores *= 1 - np.abs(sizes_a[:, None] - sizes_b[None, :]) / np.where(larger > 0, larger, 1)
  return float(scores[linear_sum_assignment(scores, maximize=True)].mean())


def _normalised(x: CP) -> tuple[list[np.ndarray], np.ndarray]:
  """Columns of norm 1, or 0, per mode, and the norm of every component."""
  sizes = np.abs(np.asarray(x.weights, 'float64'))
  wide = 'complex128' if np.issubdtype(x.dtype, np.complexfloating) else 'float64'
  columns = []
  for factor in x.factors:
    factor = np.asarray(factor).astype(wide)
    norms = np.linalg.norm(factor, axis=0)
    columns.append(factor / np.where(norms > 0, norms, 1)[None])
    sizes = sizes * norms
  return columns, sizes
