"""Tucker decompositions: sequentially truncated HOSVD, and HOOI."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._iterate import iterate
from tnjax.decompositions._prepare import (
  at_unit_scale,
  check_input,
  check_iteration,
  in_range,
  relative,
  sized_input,
  widened,
)
from tnjax.decompositions._record import Decomposition, direct, relative_error
from tnjax.decompositions._tolerance import by_tolerance, check_choice, host, tucker_ranks_for
from tnjax.formats import Tucker
from tnjax.ops import (
  fixed,
  integers,
  left_singular,
  matmul,
  mode_product,
  namespace,
  orthonormal,
  right_singular,
  squared_norm,
  unfold,
)


def hosvd(
  x: Array,
  ranks: int | Sequence[int] | None = None,
  modes: Sequence[int] | None = None,
  tol: float | None = None,
) -> Decomposition:
  """Sequentially truncated higher-order SVD (Vannieuwenhoven et al. 2012).

  Modes are cut one after the other, each on the already smaller tensor, those that shrink it
  most first. The squared error is the sum of the discarded squared singular values, at most N
  times that of the best Tucker approximation. Factors have orthonormal columns; a mode at full
  rank has the identity.

  Args:
    x: array of order >= 1, real or complex.
    ranks: one multilinear rank per mode (per entry of `modes`), or an int for all; capped.
    modes: modes to decompose, the others are left alone (partial Tucker; Tucker-2 of an HWIO
      kernel is modes=(2, 3)). Default all.
    tol: relative error to reach, in place of ranks; with ranks too, those are upper limits and
      may prevent it. Chosen on the host, so not under jit.

  Returns:
    A `Decomposition` with a `Tucker`, whose factor is None for modes left alone.

  Raises:
    ValueError: as `tt_svd`; or modes that repeat or do not exist.

  >>> import jax.numpy as jnp
  >>> d = hosvd(jnp.ones((3, 4, 5)), ranks=1)
  >>> d.tensor.ranks, bool(d.relative_error < 1e-6)
  ((1, 1, 1), True)
  >>> hosvd(jnp.ones((3, 4, 5)), tol=1e-3).tensor.ranks
  (1, 1, 1)
  """
  x, size = sized_input(x)
  tol = check_choice(x, ranks, tol)
  modes = _checked_modes(x.shape, modes)
  if ranks is not None:
    ranks = ranks_lib.tucker_ranks(x.shape, ranks, modes)
  if tol is None:
    return in_range(_hosvd_jitted, size, x, ranks, modes)
  data = host(x)
  return by_tolerance(
    tol,
    lambda tol: ranks_lib.tucker_ranks(x.shape, tucker_ranks_for(data, tol, modes, ranks), modes),
    lambda found: in_range(_hosvd_jitted, size, x, found, modes),
  )


def hooi(
  x: Array,
  ranks: int | Sequence[int],
  modes: Sequence[int] | None = None,
  max_iters: int = 300,
  tol: float = 1e-8,
) -> Decomposition:
  """Higher-order orthogonal iteration (De Lathauwer et al. 2000) from an `hosvd` start.

  In the first sweep every factor is the best one given the others. From then on each takes two
  steps of orthogonal iteration on its own unfolding, all others projected out, from where it
  stands, in place of a whole eigendecomposition: no step lets the error rise, and where a factor
  comes to rest against small changes it is the best one. The products with the other factors are
  shared between modes by a binary tree, two large ones a sweep. Sweeps start ahead of where the
  last one ended, along the line from the one before (Bro 1998); one that ends higher is undone.

  Args:
    x, modes: as in `hosvd`.
    ranks: as in `hosvd`.
    max_iters: sweeps over all modes.
    tol: stop when five sweeps together changed the fit by less than this relative amount, or the
      squared error by less than a rounding, or two of the first three did, a hundredth of the
      one before; 0. runs all sweeps.

  Returns:
    A `Decomposition` with a `Tucker`.

  >>> import jax.numpy as jnp
  >>> x = jnp.arange(60.).reshape(3, 4, 5)
  >>> d = hooi(x, ranks=2)
  >>> d.tensor.ranks, bool(d.relative_error < 1e-5)
  ((2, 2, 2), True)
  """
  x = check_input(x)
  max_iters, tol = check_iteration(max_iters, tol)
  modes = _checked_modes(x.shape, modes)
  ranks = ranks_lib.tucker_ranks(x.shape, ranks, modes)
  return _hooi_jitted(x, ranks, modes, max_iters, tol)


def _checked_modes(shape: tuple[int, ...], modes: Sequence[int] | None) -> tuple[int, ...]:
  order = len(shape)
  if modes is None:
    modes = range(order)
  chosen = tuple(m + order if m < 0 else m for m in integers(modes, 'modes', least=None))
  if len(set(chosen)) != len(chosen) or any(not 0 <= m < order for m in chosen):
    raise ValueError(f'modes={modes} must be distinct modes of x, of shape {shape}')
  return chosen


def _all_ranks(
  shape: tuple[int, ...], ranks: Sequence[int], modes: Sequence[int]
) -> tuple[int, ...]:
  given = dict(zip(modes, ranks))
  return tuple(given.get(m, n) for m, n in enumerate(shape))


def _by_shrinkage(modes: Sequence[int], ranks: Sequence[int], shape: tuple[int, ...]) -> list[int]:
  """Modes that shrink most first; among equals the last, then the first, which lie in memory."""
  order = len(shape)
  return sorted(modes, key=lambda m: (ranks[m] / shape[m], -(m in (0, order - 1)), -m))


def _truncate(
  x: Array, ranks: Sequence[int], modes: Sequence[int]
) -> tuple[Array, tuple[Array | None, ...]]:
  """Core and factors, the modes that shrink most first."""
  factors: list[Array | None] = [None] * x.ndim
  core, xp = x, namespace(x)
  for mode in _by_shrinkage(modes, ranks, x.shape):
    if ranks[mode] == x.shape[mode]:
      factors[mode] = xp.eye(ranks[mode], dtype=x.dtype)
      continue
    if mode == x.ndim - 1:  # as it lies in memory
      v, _ = right_singular(core.reshape(-1, core.shape[mode]), ranks[mode])
      factors[mode] = v.conj()
    else:
      factors[mode], _ = left_singular(unfold(core, mode), ranks[mode])
    core = mode_product(core, factors[mode].conj().T, mode)
  return core, tuple(factors)


def hosvd_kernel(x: Array, ranks: tuple[int, ...], modes: tuple[int, ...]) -> Decomposition:
  """`ranks`, one per entry of `modes`, are within what the shape allows."""
  ranks = _all_ranks(x.shape, ranks, modes)
  dense = widened(x)
  core, factors = _truncate(dense, ranks, modes)
  return direct(Tucker(core, factors).cast(x.dtype), dense, kept=squared_norm(core))


_hosvd_jitted = jax.jit(hosvd_kernel, static_argnums=(1, 2))


@at_unit_scale
def hooi_kernel(
  x: Array, ranks: tuple[int, ...], modes: tuple[int, ...], max_iters: int, tol: float
) -> Decomposition:
  """As `hosvd_kernel`."""
  ranks = _all_ranks(x.shape, ranks, modes)
  dense = widened(x)
  xp = namespace(dense)
  core, factors = _truncate(dense, ranks, modes)
  active = tuple(m for m in modes if ranks[m] < x.shape[m])
  if len(active) < 2:  # the start is the best there is
    d = direct(Tucker(core, factors).cast(x.dtype), dense, kept=squared_norm(core))
    count = max_iters if tol == 0.0 else 1
    errors = xp.where(xp.arange(max_iters) < count, d.relative_error, xp.nan)
    return dataclasses.replace(d, errors=errors, num_iters=xp.asarray(count, 'int32'))
  energy = squared_norm(dense)

  def shrunk(y: Array, away: Sequence[int], factors: Sequence[Array]) -> Array:
    for m in _by_shrinkage(away, ranks, x.shape):
      y = mode_product(y, factors[m].conj().T, m)
    return y

  def visit(
    y: Array, group: tuple[int, ...], factors: tuple, update: Callable
  ) -> tuple[Array, tuple]:
    """Updates the factors of `group`; y is x, with all other factors projected out."""
    if len(group) > 1:
      first, second = group[: len(group) // 2], group[len(group) // 2 :]
      _, factors = visit(shrunk(y, second, factors), first, factors, update)
      return visit(shrunk(y, first, factors), second, factors, update)
    (mode,) = group
    factor = update(unfold(y, mode), factors[mode])
    core = mode_product(y, factor.conj().T, mode)
    return core, (*factors[:mode], factor, *factors[mode + 1 :])

  def swept(factors: tuple, update: Callable) -> tuple:
    core, factors = visit(dense, active, factors, update)
    return (core, factors), relative(energy - squared_norm(core), energy)

  def ahead(state: tuple, previous: tuple, by: Array) -> tuple:
    (core, factors), (_, old) = state, previous
    moved = list(factors)
    for m in active:
      outside = factors[m] - matmul(old[m], matmul(old[m].conj().T, factors[m]))
      moved[m] = orthonormal(factors[m] + by.astype(x.dtype) * outside)
    return core, tuple(moved)

  state, error = swept(factors, lambda y, factor: left_singular(y, factor.shape[1])[0])
  errors, count, converged = error[None], xp.ones((), 'int32'), xp.isfinite(error)
  if max_iters > 1:
    state, more, count, converged = iterate(
      lambda state: swept(state[1], _turned),
      state,
      max_iters - 1,
      tol,
      energy.dtype,
      ahead,
      error,
    )
    errors, count = xp.concatenate([errors, more]), count + 1
  elif tol > 0:
    converged = xp.zeros((), bool)
  core, factors = state
  tensor = Tucker(core, factors).cast(x.dtype)
  error = relative_error(tensor, dense, squared_norm(core))
  return Decomposition(tensor, error, count, converged, errors)


_hooi_jitted = jax.jit(hooi_kernel, static_argnums=(1, 2, 3, 4))


def _turned(matrix: Array, factor: Array) -> Array:
  """Two steps of orthogonal iteration with `matrix` times its adjoint."""
  xp = namespace(matrix)
  for _ in range(2):
    across = matmul(matrix.conj().T, factor)
    # Columns of equal size: each then keeps its digits, though their squares may differ by 1 / eps.
    size = fixed(xp.linalg.norm(across, axis=0))
    across = across / xp.where(size > 0, size, 1).astype(across.dtype)[None]
    factor = orthonormal(matmul(matrix, across))
  return factor
