"""CP by alternating least squares."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._least_squares import damped_solve
from tnjax.decompositions._prepare import (
  cast,
  check_input,
  check_iteration,
  iterate,
  relative,
  unit_scale,
  working,
)
from tnjax.decompositions._record import Decomposition, residual
from tnjax.formats import CP
from tnjax.ops import khatri_rao, left_singular, matmul, unfold


def cp_als(
  x: Array,
  rank: int,
  key: Array,
  max_iters: int = 100,
  tol: float = 1e-6,
  init: str = 'random',
  restarts: int = 1,
) -> Decomposition:
  """CP decomposition by alternating least squares (Kolda and Bader 2009, figure 3.3).

  Every update is damped towards the last iterate by a few roundings, so that rank-deficient and
  over-ranked input gives finite factors and the error never rises beyond rounding.

  Args:
    x: array of order >= 1, real or complex.
    rank: number of terms R, capped at the product of all modes but the largest.
    key: PRNG key, for a random start and for the columns an HOSVD start cannot fill.
    max_iters: sweeps over all modes.
    tol: stop when the fit changes by less than this relative amount; 0. runs all sweeps.
    init: 'random' (Gaussian columns) or 'hosvd' (leading left singular vectors of the
      unfoldings, filled up with random columns).
    restarts: number of starts, run as one vmapped batch; the one of least error is returned.

  Returns:
    A `Decomposition` with a `CP` in canonical form: unit columns, the largest entry of each real
    and positive in all factors but the last, weights descending.

  Raises:
    ValueError: as `tt_svd`; an unknown `init`, or restarts below 1.

  >>> a = jnp.arange(1., 4.)
  >>> x = jnp.einsum('i,j,k->ijk', a, a, jnp.ones(5))
  >>> d = cp_als(x, rank=1, key=jax.random.key(0))
  >>> d.tensor.ranks, bool(d.relative_error < 1e-5)
  ((1,), True)
  """
  x = check_input(x)
  check_iteration(max_iters, tol)
  if init not in ('random', 'hosvd'):
    raise ValueError(f"init={init!r} must be 'random' or 'hosvd'")
  if restarts < 1:
    raise ValueError(f'restarts={restarts} must be at least 1')
  (rank,) = ranks_lib.cp_ranks(x.shape, rank, name='rank')
  return _kernel(x, key, rank, max_iters, float(tol), init, restarts)


@partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _kernel(
  x: Array, key: Array, rank: int, max_iters: int, tol: float, init: str, restarts: int
) -> Decomposition:
  dense = working(x)
  unit, scale = unit_scale(dense)

  def run(key: Array) -> Decomposition:
    return _als(unit, key, rank, max_iters, tol, init)

  if restarts == 1:
    d = run(key)
  else:
    runs = jax.vmap(run)(jax.random.split(key, restarts))
    best = jnp.argmin(jnp.where(jnp.isnan(runs.relative_error), jnp.inf, runs.relative_error))
    d = jax.tree.map(lambda a: a[best], runs)
  tensor = CP(d.tensor.weights * scale, d.tensor.factors)
  # bf16 columns; the weights keep the working precision, as they hold the scale.
  tensor = CP(tensor.weights, cast(tensor.factors, x.dtype))
  return Decomposition(tensor, residual(tensor, dense), d.num_iters, d.converged, d.errors)


def _als(x: Array, key: Array, rank: int, max_iters: int, tol: float, init: str) -> Decomposition:
  energy = jnp.sum(jnp.abs(x) ** 2)
  factors = _start(x, key, rank, init)

  def step(state: tuple[tuple[Array, ...], Array]) -> tuple[tuple, Array]:
    factors, weights = state
    for n in range(x.ndim):
      others = [f for m, f in enumerate(factors) if m != n]
      gram = jnp.ones((rank, rank), x.dtype)
      for f in others:
        gram = gram * matmul(f.T, f.conj())
      krao = khatri_rao(others) if others else jnp.ones((1, rank), x.dtype)
      mttkrp = matmul(unfold(x, n), krao.conj())
      updated = damped_solve(gram, mttkrp, factors[n] * weights.astype(x.dtype)[None])
      # ||X - model||^2 = ||X||^2 - 2 Re <mttkrp, A> + <A gram, A>
      lost = energy - jnp.real(
        2 * jnp.vdot(mttkrp, updated) - jnp.vdot(updated, matmul(updated, gram))
      )
      column, weights = _unit_columns(updated)
      factors = (*factors[:n], column, *factors[n + 1 :])
    return (factors, weights), relative(lost, energy)

  weights = jnp.zeros(rank, energy.dtype)
  state, errors, count, converged = iterate(step, (factors, weights), max_iters, tol, energy.dtype)
  tensor = _canonical(*state)
  return Decomposition(tensor, residual(tensor, x), count, converged, errors)


def _start(x: Array, key: Array, rank: int, init: str) -> tuple[Array, ...]:
  keys = jax.random.split(key, x.ndim)
  factors = []
  for n, k in enumerate(keys):
    columns = jax.random.normal(k, (x.shape[n], rank), x.dtype)
    if init == 'hosvd':
      matrix = unfold(x, n)
      u, _ = left_singular(matrix, min(rank, *matrix.shape))
      columns = jnp.concatenate([u, columns[:, u.shape[1] :]], axis=1)
    factors.append(_unit_columns(columns)[0])
  return tuple(factors)


def _unit_columns(a: Array) -> tuple[Array, Array]:
  energy = jnp.sum(jnp.abs(a) ** 2, axis=0)
  safe = jnp.sqrt(jnp.where(energy > 0, energy, 1))  # a gradient at zero columns stays finite
  return a / safe.astype(a.dtype)[None], jnp.where(energy > 0, safe, 0)


def _canonical(factors: tuple[Array, ...], weights: Array) -> CP:
  """Weights descending; the phase of every column but the last factor's moved to the last."""
  order = jnp.argsort(-weights)
  factors = [f[:, order] for f in factors]
  for n in range(len(factors) - 1):
    pivot = jnp.take_along_axis(factors[n], jnp.argmax(jnp.abs(factors[n]), axis=0)[None], axis=0)
    size = jnp.abs(pivot)
    phase = jnp.where(size > 0, pivot / jnp.where(size > 0, size, 1), 1)
    factors[n] = factors[n] * phase.conj()
    factors[-1] = factors[-1] * phase
  return CP(weights[order], tuple(factors))
