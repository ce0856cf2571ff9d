"""Error-preserving correction of CP: the least sensitive tensor of (nearly) the same error."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.decompositions._columns import power, safe_unit_columns
from tnjax.decompositions._iterate import iterate
from tnjax.decompositions._least_squares import damped_solve
from tnjax.decompositions._prepare import (
  check_input,
  check_iteration,
  largest,
  relative,
  widened,
)
from tnjax.decompositions._record import Decomposition, relative_error
from tnjax.formats import CP
from tnjax.ops import (
  batched,
  khatri_rao,
  matmul,
  namespace,
  number,
  squared_norm,
  unfold,
  varying_with,
  working_dtype,
)

# Penalties that the paths of a round start from, as multiples of the error: hot ones dissolve
# cancelling terms for good, warm ones polish what came of it.
_HOT, _WARM = (0.1, 1.0, 3.0), (0.004, 0.06, 0.3)
_COOLING = 12.0  # e-folds by which the penalty falls in a round that never meets the bound


def sensitivity(tensor: CP) -> Array:
  """Expected squared change of the tensor per unit variance of noise on every factor entry.

      ss = sum_n I_n sum_r prod_{m != n} ||a_{m,r}||^2        (Phan et al. 2020, section 3.1)

  for the factors a of `tensor.absorbed()`, as it depends on how scales are shared. Where the
  columns of a term have equal norms (`cp_als` returns unit columns) this is
  (sum_n I_n) sum_r w_r^(2 - 2/N) for terms of norm w_r: large for terms that cancel. The best
  sharing, ||a_{n,r}||^2 in proportion to I_n, changes it by N (prod_n I_n)^(1/N) / sum_n I_n
  whatever the terms, so ratios of sensitivities are the same under both.

  >>> x = CP(jnp.array([8.]), (jnp.array([[1.], [0.]]),) * 3)  # I_n = 2, columns of norm 2
  >>> float(sensitivity(x))
  96.0
  """
  sizes = [
    jnp.sum(jnp.abs(f) ** 2, axis=0)
    for f in tensor.absorbed().cast(working_dtype(tensor.dtype)).factors
  ]
  total = jnp.zeros((), sizes[0].dtype)
  for n, rows in enumerate(tensor.shape):
    product = jnp.ones_like(sizes[0])
    for m, size in enumerate(sizes):
      product = product * size if m != n else product
    total = total + rows * jnp.sum(product)
  return total


def cp_correct(x: Array, tensor: CP, max_iters: int = 1000, slack: float = 1.001) -> Decomposition:
  """Error-preserving correction of a degenerate CP (Phan et al., ECCV 2020, problem 6).

      minimise sensitivity([[A]])  subject to  ||x - [[A]]|| <= slack ||x - tensor||

  Sharing the scale of every rank-one term in the best way leaves sum_r w_r^(2 - 2/N) to minimise,
  w_r the norm of term r. A sweep of ridge regressions, weighted by w_r^(-2/N), lowers
  ||x - [[A]]||^2 + mu sum_r w_r^(2 - 2/N) (each majorises it). The penalty mu starts where it
  dissolves the cancelling terms, cools until the error is within the bound again, and then
  follows the bound. Three such paths run as one batch, and three more from the best of them; the
  best tensor within the bound is returned, the given one at worst. The paper instead keeps the
  bound in every step, which crawls where ALS does: ten to a hundred times as many sweeps for the
  same effect. The points where both come to rest are the same.

  More sweeps cool more slowly and find less sensitive tensors; a tensor that took ALS thousands
  of sweeps needs about as many. A sweep costs three of ALS and three dense tensors.

  Args:
    x: array of order >= 1, real or complex.
    tensor: a CP of x's shape and dtype, such as `cp_als(x, ...).tensor`.
    max_iters: sweeps over all modes; always all are run, and reverse mode differentiates them.
    slack: the error allowed, as a multiple of the given tensor's.

  Returns:
    A `Decomposition` with a `CP` of unit columns. `errors` are the true errors of the path, at
    first above the bound; `converged` says whether a less sensitive tensor was found.

  Raises:
    ValueError: as `tt_svd`; `tensor` is no CP, or of another shape or dtype; slack below 1.

  >>> a, b = jnp.eye(2)  # x has rank 3 and is the limit of tensors of rank 2, which diverge
  >>> x = sum(jnp.einsum('i,j,k->ijk', *v) for v in ((a, a, b), (a, b, a), (b, a, a)))
  >>> near = CP(jnp.array([30., -30.]), (jnp.stack([a + b / 30, a], axis=1),) * 3)
  >>> d = cp_correct(x, near)
  >>> bool(sensitivity(d.tensor) < sensitivity(near) / 10)
  True
  >>> error = jnp.linalg.norm(x - near.full()) / jnp.linalg.norm(x)
  >>> bool(d.relative_error <= 1.001 * error)
  True
  """
  x = check_input(x)
  max_iters, _ = check_iteration(max_iters, 0.0)
  slack = number(slack, 'slack', 'of at least 1, not traced', lambda s: s >= 1)
  if not isinstance(tensor, CP):
    raise ValueError(f'tensor is a {type(tensor).__name__}; give a CP, such as cp_als(...).tensor')
  if tensor.shape != x.shape or tensor.dtype != x.dtype:
    raise ValueError(
      f'tensor has shape {tensor.shape} and dtype {tensor.dtype}, x has {x.shape} and {x.dtype}; '
      'pass a decomposition of x itself'
    )
  return _jitted(x, tensor, max_iters, slack)


def cp_correct_kernel(x: Array, given: CP, max_iters: int, slack: float) -> Decomposition:
  """Arguments are checked."""
  dense = widened(x)
  scale = largest(dense)
  xp = namespace(dense)
  norm = relative(squared_norm(dense, scale), xp.ones_like(scale))
  scale = scale * xp.where(norm == 0, 1, norm)
  start = _unit_terms(given.cast(dense.dtype).factors, given.weights / scale)
  best, errors = _rounds(dense / scale, start, max_iters, slack)  # in units of ||x||
  less = _size(best) < 0.999 * _size(start)  # in proportion to the sensitivities, and in range
  best = CP(best.weights * scale, best.factors).cast(x.dtype)
  given = CP(given.weights.astype(best.weights.dtype), given.factors)
  before, after = relative_error(given, dense), relative_error(best, dense)
  found = (after <= slack * before) & less
  tensor = jax.tree.map(lambda a, b: xp.where(found, a, b), best, given)
  count = xp.asarray(max_iters, 'int32')
  return Decomposition(tensor, xp.where(found, after, before), count, found, errors)


_jitted = jax.jit(cp_correct_kernel, static_argnums=(2, 3))


def _rounds(x: Array, start: CP, max_iters: int, slack: float) -> tuple[CP, Array]:
  """Best tensor within the bound, and the errors on the way to it, half of them in either round.

  A round cools from several temperatures as one batch, since they end in different valleys.
  """
  xp = namespace(x)
  first = _gap(x, start)
  bound = (1 + 0.99 * (slack - 1)) * first  # a little less than allowed, for rounding
  half = max_iters // 2
  best, history = start, []
  for heats, sweeps in ((_HOT, max_iters - half), (_WARM, half)):
    if sweeps:
      cool = partial(_cool, x, best, bound=bound, sweeps=sweeps)
      tensors, errors = batched(cool, xp)(xp.asarray(heats, bound.dtype) * first)
      least = xp.argmin(batched(_size, xp)(tensors))
      best = jax.tree.map(lambda a, k=least: a[k], tensors)
      history.append(errors[least])
  return best, xp.concatenate(history)


def _cool(x: Array, start: CP, penalty: Array, bound: Array, sweeps: int) -> tuple[CP, Array]:
  """The penalty falls until the error is within the bound, then follows the bound."""
  xp = namespace(x)
  rate = xp.asarray(_COOLING / sweeps, bound.dtype)

  def step(state: tuple) -> tuple[tuple, Array]:
    tensor, best, penalty, pace, within = state
    for n in range(x.ndim):
      tensor = _update(x, tensor, n, penalty)
    error = _gap(x, tensor)
    now = error <= bound
    better = now & (_size(tensor) < _size(best))
    best = jax.tree.map(lambda a, b: xp.where(better, a, b), tensor, best)
    # Half the step at every crossing of the bound, but enough to go on following it.
    pace = xp.where(now == within, pace, xp.maximum(pace / 2, rate / 5))
    penalty = penalty * xp.exp(xp.where(now, pace, -pace))
    return (tensor, best, penalty, pace, now), error

  state = varying_with((start, start, penalty, rate, xp.zeros((), bool)), bound)
  (_, best, *_), errors, _, _ = iterate(step, state, sweeps, 0.0, bound.dtype)
  return best, errors


def _gap(x: Array, tensor: CP) -> Array:
  """||x - tensor||, from the residual itself: norms could not resolve a small one."""
  lost = squared_norm(x - tensor.full())
  return relative(lost, namespace(lost).ones_like(lost))


def _update(x: Array, tensor: CP, n: int, penalty: Array) -> CP:
  """Factor n of unit-column terms, by ridge regression weighted with w_r^(-2/N).

  The weights go into the design as w^(1/N), so that a term of weight 0 needs no division.
  """
  xp = namespace(x)
  share = power(tensor.weights, 1 / x.ndim)[None]
  gram = (share.T * share).astype(x.dtype)
  others = [f for m, f in enumerate(tensor.factors) if m != n]
  for f in others:
    gram = gram * matmul(f.T, f.conj())
  krao = khatri_rao(others) if others else xp.ones((1, share.size), x.dtype)
  mttkrp = matmul(unfold(x, n), (krao * share.astype(x.dtype)).conj())
  gram = gram + penalty.astype(x.dtype) * xp.eye(share.size, dtype=x.dtype)
  previous = tensor.factors[n] * power(tensor.weights, 1 - 1 / x.ndim)[None].astype(x.dtype)
  columns, sizes = safe_unit_columns(damped_solve(gram, mttkrp, previous) * share.astype(x.dtype))
  return CP(sizes, (*tensor.factors[:n], columns, *tensor.factors[n + 1 :]))


def _size(tensor: CP) -> Array:
  """What is left of the sensitivity once scales are shared well: sum_r w_r^(2 - 2/N)."""
  return namespace(tensor.weights).sum(power(tensor.weights, 2 - 2 / len(tensor.factors)))


def _unit_terms(factors: tuple[Array, ...], weights: Array) -> CP:
  """Unit columns and non-negative weights."""
  xp = namespace(weights)
  columns, sizes = zip(*map(safe_unit_columns, factors))
  signs = xp.where(weights < 0, -1, 1).astype(columns[-1].dtype)
  weights = xp.abs(weights).astype(sizes[0].dtype)
  for size in sizes:
    weights = weights * size
  return CP(weights, (*columns[:-1], columns[-1] * signs[None]))
