"""CP by alternating least squares."""

import math
from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._columns import power, safe_unit_columns, unit_columns
from tnjax.decompositions._iterate import iterate
from tnjax.decompositions._least_squares import damped_solve
from tnjax.decompositions._prepare import (
  at_unit_scale,
  check_input,
  check_iteration,
  relative,
  widened,
)
from tnjax.decompositions._record import Decomposition, relative_error
from tnjax.formats import CP
from tnjax.ops import (
  HIGHEST,
  batched,
  host_normal,
  integer,
  khatri_rao,
  left_singular,
  materialized,
  matmul,
  namespace,
  prng_key,
  squared_norm,
  tensordot,
  unfold,
  varying_with,
)


def cp_als(
  x: Array,
  rank: int,
  key: Array,
  max_iters: int = 100,
  tol: float = 1e-6,
  init: str | CP = 'random',
  restarts: int = 1,
  fixed: Sequence[int] = (),
) -> Decomposition:
  """CP decomposition by alternating least squares (Kolda and Bader 2009, figure 3.3).

  Every update is damped towards the last iterate by a few roundings, so that rank-deficient and
  over-ranked input gives finite factors and the error never rises beyond rounding. Sweeps start
  ahead of where the last one ended, along the line from the one before (Bro 1998, section 4.6),
  which leads out of swamps; one that ends higher is undone.

  Args:
    x: array of order >= 1, real or complex.
    rank: number of terms R, capped at the product of all modes but the largest.
    key: PRNG key, for a random start and for the columns an HOSVD start cannot fill.
    max_iters: sweeps over all modes.
    tol: stop when five sweeps together changed the fit by less than this relative amount, or the
      squared error by less than a rounding, or two of the first three did, a hundredth of the
      one before; 0. runs all sweeps.
    init: 'random' (Gaussian columns) or 'hosvd' (leading left singular vectors of the
      unfoldings, filled up with random columns), or a `CP` of that shape and rank to go on from.
    restarts: number of starts, run as one vmapped batch; the one of least error is returned. With
      an 'hosvd' start they differ only in the columns it cannot fill.
    fixed: modes whose factors stay those of a given `CP`, up to the scale and the order of columns.

  Returns:
    A `Decomposition` with a `CP` in canonical form: unit columns, the largest entry of each real
    and positive in all factors but the last, weights descending.

  Raises:
    ValueError: as `tt_svd`; an unknown `init` or one of another shape or rank, restarts below 1 or
      beside a given start, fixed modes without one, or all of them fixed.

  >>> import jax.numpy as jnp
  >>> a = jnp.arange(1., 4.)
  >>> x = jnp.einsum('i,j,k->ijk', a, a, jnp.ones(5))
  >>> d = cp_als(x, rank=1, key=jax.random.key(0))
  >>> d.tensor.ranks, bool(d.relative_error < 1e-5)
  ((1,), True)
  """
  x = check_input(x)
  key, (max_iters, tol) = prng_key(key), check_iteration(max_iters, tol)
  restarts = integer(restarts, 'restarts')
  (rank,) = ranks_lib.cp_ranks(x.shape, rank, name='rank')
  given = init if isinstance(init, CP) else None
  fixed = _checked_start(x, rank, init, restarts, fixed)
  if given is not None:
    init, given = 'given', given.cast(x.dtype).factors
  return _jitted(x, key, rank, max_iters, tol, init, restarts, fixed, given)


def _checked_start(
  x: Array, rank: int, init: str | CP, restarts: int, fixed: Sequence[int]
) -> tuple[int, ...]:
  """The fixed modes, counted from the front."""
  if isinstance(init, CP):
    if init.shape != x.shape or init.ranks != (rank,):
      raise ValueError(
        f'init has shape {init.shape} and rank {init.ranks[0]}; it needs {x.shape} and {rank}'
      )
    if restarts > 1:
      raise ValueError(f'restarts={restarts} would repeat one start, the init that is given')
  elif not isinstance(init, str) or init not in ('random', 'hosvd'):
    raise ValueError(f"init={init!r} must be 'random', 'hosvd' or a CP")
  elif fixed:
    raise ValueError(f'fixed={tuple(fixed)} needs their factors: pass a CP as init')
  modes = range(-x.ndim, x.ndim)
  if any(m not in modes for m in fixed) or len({m % x.ndim for m in fixed}) in (
    x.ndim,
    *range(len(fixed)),
  ):
    raise ValueError(
      f'fixed={tuple(fixed)} must be distinct modes of x, of shape {x.shape}, and not all of them'
    )
  return tuple(m % x.ndim for m in fixed)


@at_unit_scale
def cp_als_kernel(
  x: Array,
  key: Array | None,
  rank: int,
  max_iters: int,
  tol: float,
  init: str,
  restarts: int,
  fixed: tuple[int, ...] = (),
  given: tuple[Array, ...] | None = None,
) -> Decomposition:
  """`rank` is within what the shape allows; a `key` is only read where columns are drawn.

  With init='given', the factors `given` are the start.
  """
  dense = widened(x)
  xp = namespace(dense)
  energy = squared_norm(dense)

  def run(key: Array) -> tuple:
    if init == 'given':
      factors = tuple(safe_unit_columns(widened(f))[0] for f in given)
    else:
      factors = _start(dense, key, rank, init)
    step = partial(_sweep, dense, energy, fixed)
    state = varying_with((factors, xp.zeros(rank, energy.dtype)), (factors, energy))
    (factors, weights), *history = iterate(step, state, max_iters, tol, energy.dtype, _ahead)
    tensor = _canonical(factors, weights)
    # bf16 columns; the weights keep the working precision, as they hold the scale.
    return tensor.cast(x.dtype), history

  if restarts == 1:
    tensor, (errors, count, converged) = run(key)
    kept = (1 - errors[count - 1] ** 2) * energy
    error = relative_error(tensor, dense, kept, terms=xp.sum(tensor.weights**2))
    return Decomposition(tensor, error, count, converged, errors)
  tensors, histories = batched(run, xp)(jax.random.split(key, restarts))
  errors_of = batched if xp is np else lambda f, _: partial(jax.lax.map, f)  # one at a time
  found = errors_of(lambda tensor: relative_error(tensor, dense), xp)(tensors)
  best = xp.argmin(xp.where(xp.isnan(found), xp.inf, found))
  tensor, (errors, count, converged) = jax.tree.map(lambda a: a[best], (tensors, histories))
  return Decomposition(tensor, found[best], count, converged, errors)


_jitted = jax.jit(cp_als_kernel, static_argnums=(2, 3, 4, 5, 6, 7))


def _sweep(
  x: Array, energy: Array, fixed: tuple[int, ...], state: tuple[tuple[Array, ...], Array]
) -> tuple[tuple, Array]:
  """One update of every factor that is not fixed, in order, and the relative error after the last.

  x meets the factors along a binary tree over the modes (Phan, Tichavsky and Cichocki 2013): two
  products with all of x, each by the Khatri-Rao product of one half of the modes, serve all
  updates. Further down, a partial result meets the columns one by one, which moves little data.
  Partial results have the axis R first: each column's part then lies together in memory.
  """
  rank = state[1].shape[0]

  def visit(part: Array, modes: tuple[int, ...], state: tuple) -> tuple:
    """Updates `modes`. `part` is x times all other factors: R, then one axis for each of them."""
    if set(modes) <= set(fixed):
      return state
    if len(modes) == 1:
      return _update(part.T, modes[0], state, energy)
    cut = _balanced([x.shape[m] for m in modes])
    first = part
    for m in reversed(modes[cut:]):
      first = _times_columns(first, state[0][m], first.ndim - 1)
    state = visit(first, modes[:cut], state)
    second = part
    for m in modes[:cut]:
      second = _times_columns(second, state[0][m], 1)
    return visit(second, modes[cut:], state)

  modes, state = tuple(range(x.ndim)), (*state, energy)
  if x.ndim == 1:
    *state, lost = visit(namespace(x).ones((rank, 1), x.dtype) * x[None], modes, state)
    return tuple(state), relative(lost, energy)
  cut = _balanced(x.shape)
  matrix = x.reshape(math.prod(x.shape[:cut]), -1)
  # The large matrix first, and last contracted with a tall operand: on CPU XLA takes up to twice as
  # long for the other forms of the same products, into which it would turn these.
  first = materialized(matmul(matrix, khatri_rao(state[0][cut:]).conj()))
  state = visit(first.T.reshape(rank, *x.shape[:cut]), modes[:cut], state)
  second = materialized(tensordot(khatri_rao(state[0][:cut]).conj(), matrix, (0, 0)))
  *state, lost = visit(second.reshape(rank, *x.shape[cut:]), modes[cut:], state)
  return tuple(state), relative(lost, energy)


def _ahead(state: tuple, previous: tuple, by: Array) -> tuple:
  """Further along the line between two states, whose terms share their scale among the modes."""
  shares = [power(weights, 1 / len(factors))[None] for factors, weights in (state, previous)]
  moved = []
  for new, old in zip(state[0], previous[0]):
    new, old = (f * share.astype(f.dtype) for f, share in zip((new, old), shares))
    moved.append(unit_columns(new + by.astype(new.dtype) * (new - old)))
  columns, sizes = zip(*moved)
  return columns, math.prod(sizes)


def _update(mttkrp: Array, mode: int, state: tuple, energy: Array) -> tuple:
  """Least squares for one factor; the state is factors, weights, and ||X - model||^2."""
  xp = namespace(mttkrp)
  factors, weights, _ = state
  gram = xp.ones((len(weights), len(weights)), mttkrp.dtype)
  for f in (*factors[:mode], *factors[mode + 1 :]):
    gram = gram * matmul(f.T, f.conj())
  previous = factors[mode] * weights.astype(mttkrp.dtype)[None]
  updated = damped_solve(gram, mttkrp, previous)
  # ||X - model||^2 = ||X||^2 - 2 Re <mttkrp, A> + <A gram, A>
  found = 2 * xp.vdot(mttkrp, updated) - xp.vdot(updated, matmul(updated, gram))
  column, weights = unit_columns(updated)
  return (*factors[:mode], column, *factors[mode + 1 :]), weights, energy - xp.real(found)


def _balanced(sizes: Sequence[int]) -> int:
  """Where to halve the modes so that the two partial results are smallest together."""
  cuts = range(1, len(sizes))
  return min(cuts, key=lambda k: math.prod(sizes[:k]) + math.prod(sizes[k:]))


def _times_columns(part: Array, factor: Array, axis: int) -> Array:
  """Sums `axis` of (R, ..., I_n, ...) against a factor (I_n, R), the r-th slice with column r."""
  if namespace(part, factor) is np:
    columns = factor.conj().T
    if axis == 1:  # as both lie in memory
      matrices = part.reshape(*part.shape[:2], -1)
      return (columns[:, None] @ matrices).reshape(part.shape[:1] + part.shape[2:])
    matrices = part.reshape(part.shape[0], -1, part.shape[axis])
    return (matrices @ columns[:, :, None]).reshape(part.shape[:-1])
  along = (((axis,), (0,)), ((0,), (1,)))
  return jax.lax.dot_general(part, factor.conj(), along, precision=HIGHEST)


def _start(x: Array, key: Array, rank: int, init: str) -> tuple[Array, ...]:
  """Unit columns; random ones only where they are needed."""
  xp = namespace(x)
  factors = []
  for n, rows in enumerate(x.shape):
    columns = xp.zeros((rows, 0), x.dtype)
    if init == 'hosvd':
      matrix = unfold(x, n)
      columns, _ = left_singular(matrix, min(rank, *matrix.shape), method='gram')
    if columns.shape[1] < rank:
      draw = host_normal if xp is np else jax.random.normal
      drawn = draw(jax.random.split(key, x.ndim)[n], (rows, rank), x.dtype)
      columns = xp.concatenate([columns, drawn[:, columns.shape[1] :]], axis=1)
    factors.append(unit_columns(columns)[0])
  return tuple(factors)


def _canonical(factors: tuple[Array, ...], weights: Array) -> CP:
  """Weights descending; the phase of every column but the last factor's moved to the last."""
  xp = namespace(weights)
  order = xp.argsort(-weights, stable=True)
  factors = [f[:, order] for f in factors]
  for n in range(len(factors) - 1):
    pivot = xp.take_along_axis(factors[n], xp.argmax(xp.abs(factors[n]), axis=0)[None], axis=0)
    size = xp.abs(pivot)
    phase = xp.where(size > 0, pivot / xp.where(size > 0, size, 1), 1)
    factors[n] = factors[n] * phase.conj()
    factors[-1] = factors[-1] * phase
  return CP(weights[order], tuple(factors))
