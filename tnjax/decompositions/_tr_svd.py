"""TR-SVD and its refinement by alternating least squares."""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._iterate import iterate
from tnjax.decompositions._least_squares import damped_solve
from tnjax.decompositions._prepare import (
  at_unit_scale,
  check_input,
  check_iteration,
  widened,
)
from tnjax.decompositions._record import Decomposition, direct, relative_error
from tnjax.decompositions._tolerance import by_tolerance, check_choice, host, tr_ranks_for
from tnjax.decompositions._tr_host import host_sweep
from tnjax.decompositions._tt_svd import chain
from tnjax.formats import TR
from tnjax.ops import left_singular, matmul, namespace, squared_norm, tensordot


def tr_svd(
  x: Array, ranks: int | Sequence[int] | None = None, tol: float | None = None
) -> Decomposition:
  """Tensor-ring decomposition by successive truncated SVDs (Zhao et al. 2016, algorithm 1).

  The first unfolding is cut at rank r_0 r_1 and its vectors are dealt to the first core's two
  bonds, the rest is a TT-SVD. Where r_0 r_1 exceeds the first mode, the whole mode is kept and
  spread over the r_0 r_1 slices by a fixed orthonormal basis, so nothing is lost at this cut.

  Args:
    x: array of order >= 1, real or complex; put a large mode first.
    ranks: the d ring ranks (r_0, ..., r_{d-1}), or an int for all; capped.
    tol: relative error to reach, in place of ranks; with ranks too, those are upper limits and
      may prevent it. Of all splits of the first cut into r_0 r_1, the ring of fewest entries is
      taken. Chosen on the host, so not under jit.

  Returns:
    A `Decomposition` with a `TR`.

  Raises:
    ValueError: as `tt_svd`; ranks are d in number.

  >>> import jax.numpy as jnp
  >>> x = jnp.ones((4, 3, 2))
  >>> d = tr_svd(x, ranks=(1, 1, 1))
  >>> d.tensor.ranks, bool(d.relative_error < 1e-6)
  ((1, 1, 1), True)
  """
  x = check_input(x)
  tol = check_choice(x, ranks, tol)
  if ranks is not None:
    ranks = ranks_lib.tr_ranks(x.shape, ranks)
  if tol is None:
    return _svd_jitted(x, ranks)
  data = host(x)
  return by_tolerance(
    tol,
    lambda tol: ranks_lib.tr_ranks(x.shape, tr_ranks_for(data, tol, ranks)),
    partial(_svd_jitted, x),
  )


def tr_als(
  x: Array, ranks: int | Sequence[int], max_iters: int = 50, tol: float = 1e-6
) -> Decomposition:
  """Tensor ring by alternating least squares from a TR-SVD start (Zhao et al. 2016, algorithm 2).

  Core n solves the least squares problem with the subchain of all other cores as matrix, damped
  towards its last value, so the error never rises and rank-deficient subchains stay finite.

  Args:
    x, ranks: as in `tr_svd`.
    max_iters: sweeps over all cores.
    tol: stop when five sweeps together changed the fit by less than this relative amount, or the
      squared error by less than a rounding; 0. runs all sweeps.

  Returns:
    A `Decomposition` with a `TR` whose error is at most that of `tr_svd`.

  >>> import jax.numpy as jnp
  >>> x = jnp.arange(24.).reshape(4, 3, 2)
  >>> bool(tr_als(x, 2).relative_error <= tr_svd(x, 2).relative_error + 1e-6)
  True
  """
  x = check_input(x)
  max_iters, tol = check_iteration(max_iters, tol)
  return _als_jitted(x, ranks_lib.tr_ranks(x.shape, ranks), max_iters, tol)


@at_unit_scale
def tr_svd_kernel(x: Array, ranks: tuple[int, ...]) -> Decomposition:
  """`ranks` are within what the shape allows."""
  dense = widened(x)
  cores = _svd_cores(dense, ranks)
  kept = None
  if len(cores) > 1 and ranks[0] * ranks[1] <= min(x.shape[0], x.size // x.shape[0]):
    kept = squared_norm(cores[1])  # all cuts were orthogonal projections of x
  return direct(TR(cores).cast(x.dtype), dense, kept)


_svd_jitted = jax.jit(tr_svd_kernel, static_argnums=1)


@at_unit_scale
def tr_als_kernel(x: Array, ranks: tuple[int, ...], max_iters: int, tol: float) -> Decomposition:
  """As `tr_svd_kernel`."""
  dense = widened(x)
  xp = namespace(dense)
  norm = xp.sqrt(squared_norm(dense))

  def step(cores: tuple[Array, ...]) -> tuple[tuple[Array, ...], Array]:
    for n in range(len(cores)):
      cores = (*cores[:n], _update(dense, cores, n), *cores[n + 1 :])
    error = xp.sqrt(squared_norm(dense - TR(cores).full())) / xp.where(norm == 0, 1, norm)
    return cores, error

  if xp is np:
    step = partial(host_sweep, dense, norm**2)
  start = _svd_cores(dense, ranks)
  cores, errors, count, converged = iterate(step, start, max_iters, tol, norm.dtype, _ahead)
  tensor = TR(cores).cast(x.dtype)
  return Decomposition(tensor, relative_error(tensor, dense), count, converged, errors)


_als_jitted = jax.jit(tr_als_kernel, static_argnums=(1, 2, 3))


def _ahead(cores: tuple[Array, ...], previous: tuple[Array, ...], by: Array) -> tuple[Array, ...]:
  return tuple(new + by.astype(new.dtype) * (new - old) for new, old in zip(cores, previous))


def _svd_cores(x: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
  xp = namespace(x)
  first, second = ranks[0], ranks[1 % len(ranks)]
  if x.ndim == 1:  # a ring of one core: X = trace of its slices
    eye = xp.eye(first, dtype=x.dtype) / first
    return (eye[:, None, :] * x[None, :, None],)
  matrix = x.reshape(x.shape[0], -1)
  kept = min(first * second, *matrix.shape)
  u, _ = left_singular(matrix, kept)
  basis = xp.eye(kept, dtype=x.dtype)  # orthonormal rows
  if kept < first * second:
    basis = xp.asarray(_dct(first * second, kept), x.dtype)
  core = matmul(u, basis).reshape(-1, first, second).transpose(1, 0, 2)
  # basis^T U^H X has axes (r_0, r_1, I_2, ..., I_N); r_0 goes last.
  rest = matmul(basis.T, matmul(u.conj().T, matrix)).reshape(first, second, -1)
  rest = rest.transpose(1, 2, 0)
  return (core, *chain(rest, second, x.shape[1:], ranks[2:], first))


def _dct(n: int, rows: int) -> np.ndarray:
  """First rows of the orthonormal DCT-II matrix: a fixed basis that mixes all entries."""
  angle = np.arange(rows)[:, None] * (2 * np.arange(n)[None] + 1) * np.pi / (2 * n)
  matrix = np.sqrt(2 / n) * np.cos(angle)
  matrix[0] /= np.sqrt(2)
  return matrix


def _update(x: Array, cores: Sequence[Array], n: int) -> Array:
  """Least squares for core n, all others fixed."""
  a, size, b = cores[n].shape
  order = len(cores)
  # Axes (r_{n+1}, rest, r_n), modes n+1, ..., n-1.
  subchain = namespace(x).eye(b, dtype=x.dtype)[:, None, :]
  for k in range(1, order):
    core = cores[(n + k) % order]
    product = tensordot(subchain, core, 1)
    subchain = product.reshape(b, -1, core.shape[2])
  design = subchain.transpose(1, 2, 0).reshape(-1, a * b)  # X_(n) = core (I_n, a b) @ design^T
  target = x.transpose(*((n + k) % order for k in range(order))).reshape(size, -1)
  core = cores[n].transpose(1, 0, 2).reshape(size, a * b)
  gram = matmul(design.T, design.conj())
  core = damped_solve(gram, matmul(target, design.conj()), core)
  return core.reshape(size, a, b).transpose(1, 0, 2)
