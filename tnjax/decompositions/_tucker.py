"""Tucker decompositions: sequentially truncated HOSVD, and HOOI."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._prepare import (
  cast,
  check_input,
  check_iteration,
  iterate,
  relative,
  unit_scale,
  working,
)
from tnjax.decompositions._record import Decomposition, direct, residual
from tnjax.formats import Tucker
from tnjax.ops import left_singular, mode_product, unfold


def hosvd(
  x: Array, ranks: int | Sequence[int], modes: Sequence[int] | None = None
) -> Decomposition:
  """Sequentially truncated higher-order SVD (Vannieuwenhoven et al. 2012).

  Modes are cut one after the other, each on the already smaller tensor, those that shrink it
  most first. The squared error is the sum of the discarded squared singular values, at most N
  times that of the best Tucker approximation. Factors have orthonormal columns.

  Args:
    x: array of order >= 1, real or complex.
    ranks: one multilinear rank per mode (per entry of `modes`), or an int for all; capped.
    modes: modes to decompose, the others are left alone (partial Tucker; Tucker-2 of an HWIO
      kernel is modes=(2, 3)). Default all.

  Returns:
    A `Decomposition` with a `Tucker`, whose factor is None for modes left alone.

  Raises:
    ValueError: as `tt_svd`; or modes that repeat or do not exist.

  >>> d = hosvd(jnp.ones((3, 4, 5)), ranks=1)
  >>> d.tensor.ranks, bool(d.relative_error < 1e-6)
  ((1, 1, 1), True)
  """
  x = check_input(x)
  return _hosvd_kernel(x, *_normalised(x.shape, ranks, modes))


def hooi(
  x: Array,
  ranks: int | Sequence[int],
  modes: Sequence[int] | None = None,
  max_iters: int = 50,
  tol: float = 1e-6,
) -> Decomposition:
  """Higher-order orthogonal iteration (De Lathauwer et al. 2000) from an `hosvd` start.

  Every step is the best factor for its mode given the others, so the error never rises.

  Args:
    x, ranks, modes: as in `hosvd`.
    max_iters: sweeps over all modes.
    tol: stop when the fit changes by less than this relative amount; 0. runs all sweeps.

  Returns:
    A `Decomposition` with a `Tucker`.

  >>> x = jnp.arange(60.).reshape(3, 4, 5)
  >>> d = hooi(x, ranks=2)
  >>> d.tensor.ranks, bool(d.relative_error < 1e-5)
  ((2, 2, 2), True)
  """
  x = check_input(x)
  check_iteration(max_iters, tol)
  return _hooi_kernel(x, *_normalised(x.shape, ranks, modes), max_iters, float(tol))


def _normalised(
  shape: tuple[int, ...], ranks: int | Sequence[int], modes: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
  """Full tuple of capped ranks, and the modes to decompose."""
  order = len(shape)
  if modes is None:
    modes = range(order)
  chosen = tuple(m + order if m < 0 else m for m in modes)
  if len(set(chosen)) != len(chosen) or any(not 0 <= m < order for m in chosen):
    raise ValueError(f'modes={tuple(modes)} must be distinct modes of x, of shape {shape}')
  capped = ranks_lib.tucker_ranks(shape, ranks, chosen)
  full = list(shape)
  for m, r in zip(chosen, capped):
    full[m] = r
  return tuple(full), chosen


def _truncate(
  x: Array, ranks: Sequence[int], modes: Sequence[int]
) -> tuple[Array, tuple[Array | None, ...]]:
  """Core and factors, the modes that shrink most first."""
  factors: list[Array | None] = [None] * x.ndim
  core = x
  for mode in sorted(modes, key=lambda m: ranks[m] / x.shape[m]):
    u, _ = left_singular(unfold(core, mode), ranks[mode])
    factors[mode] = u
    core = mode_product(core, u.conj().T, mode)
  return core, tuple(factors)


@partial(jax.jit, static_argnums=(1, 2))
def _hosvd_kernel(x: Array, ranks: tuple[int, ...], modes: tuple[int, ...]) -> Decomposition:
  dense = working(x)
  unit, scale = unit_scale(dense)
  core, factors = _truncate(unit, ranks, modes)
  return direct(cast(Tucker(core * scale, factors), x.dtype), dense)


@partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _hooi_kernel(
  x: Array, ranks: tuple[int, ...], modes: tuple[int, ...], max_iters: int, tol: float
) -> Decomposition:
  dense = working(x)
  unit, scale = unit_scale(dense)
  energy = jnp.sum(jnp.abs(unit) ** 2)

  def step(state: tuple) -> tuple:
    _, factors = state
    for mode in modes:
      others = [m for m in modes if m != mode]
      partial_core = unit
      for m in sorted(others, key=lambda m: ranks[m] / unit.shape[m]):
        partial_core = mode_product(partial_core, factors[m].conj().T, m)
      u, _ = left_singular(unfold(partial_core, mode), ranks[mode])
      factors = (*factors[:mode], u, *factors[mode + 1 :])
      core = mode_product(partial_core, u.conj().T, mode)
    return (core, factors), relative(energy - jnp.sum(jnp.abs(core) ** 2), energy)

  state = _truncate(unit, ranks, modes)
  if not modes:
    return direct(cast(Tucker(state[0] * scale, state[1]), x.dtype), dense)
  state, errors, count, converged = iterate(step, state, max_iters, tol, energy.dtype)
  tensor = cast(Tucker(state[0] * scale, state[1]), x.dtype)
  return Decomposition(tensor, residual(tensor, dense), count, converged, errors)
