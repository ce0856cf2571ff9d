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
  in_range,
  sized_input,
  widened,
)
from tnjax.decompositions._record import Decomposition, direct, relative_error
from tnjax.decompositions._tolerance import by_tolerance, check_choice, host, tr_ranks_for
from tnjax.decompositions._tr_host import host_sweep
from tnjax.decompositions._tr_split import best, svd_ring
from tnjax.formats import TR
from tnjax.ops import (
  batched,
  host_normal,
  integer,
  matmul,
  namespace,
  one_of,
  prng_key,
  squared_norm,
  tensordot,
  varying_with,
)


def tr_svd(
  x: Array, ranks: int | Sequence[int] | None = None, tol: float | None = None
) -> Decomposition:
  """Tensor-ring decomposition by successive truncated SVDs (Zhao et al. 2016, algorithm 1).

  The ring is opened at a mode n, the left singular vectors of whose unfolding are dealt to the
  slots (r_n, r_{n+1}) of core n; the rest is a TT-SVD. Every mode is tried, and every shape of a
  block of slots that the vectors fill (of large tensors the most promising few), and the ring of
  least error is returned. Where the ranks are enough for any tensor of the shape, one is known to
  be exact, and none tried.

  Args:
    x: array of order >= 1, real or complex.
    ranks: the d ring ranks (r_0, ..., r_{d-1}), or an int for all; capped.
    tol: relative error to reach, in place of ranks; with ranks too, those are upper limits and
      may prevent it. Of all splits of the first mode's cut into r_0 r_1, the ring of fewest
      entries is taken. Chosen on the host, so not under jit.

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
  x, size = sized_input(x)
  tol = check_choice(x, ranks, tol)
  if ranks is not None:
    ranks = ranks_lib.tr_ranks(x.shape, ranks)
  if tol is None:
    return in_range(_svd_jitted, size, x, ranks)
  data = host(x)
  return by_tolerance(
    tol,
    lambda tol: ranks_lib.tr_ranks(x.shape, tr_ranks_for(data, tol, ranks)),
    partial(in_range, _svd_jitted, size, x),
  )


def tr_als(
  x: Array,
  ranks: int | Sequence[int],
  max_iters: int = 50,
  tol: float = 1e-6,
  init: str = 'svd',
  restarts: int = 1,
  key: Array | None = None,
) -> Decomposition:
  """Tensor ring by alternating least squares (Zhao et al. 2016, algorithm 2).

  Core n solves the least squares problem with the subchain of all other cores as matrix, damped
  towards its last value, so the error never rises and rank-deficient subchains stay finite.

  Args:
    x, ranks: as in `tr_svd`.
    max_iters: sweeps over all cores.
    tol: stop when five sweeps together changed the fit by less than this relative amount, or the
      squared error by less than a rounding, or two of the first three did, a hundredth of the
      one before; 0. runs all sweeps.
    init: 'svd' (that of `tr_svd`) or 'random' (Gaussian cores).
    restarts: number of starts, run as one vmapped batch; the result of least error is returned.
      With 'svd' all starts but the first are random.
    key: PRNG key, for random starts.

  Returns:
    A `Decomposition` with a `TR` whose error is at most that of `tr_svd`, from any start.

  Raises:
    ValueError: as `tr_svd`; an unknown `init`, restarts below 1, or a random start without a key.

  >>> import jax.numpy as jnp
  >>> x = jnp.arange(24.).reshape(4, 3, 2)
  >>> bool(tr_als(x, 2).relative_error <= tr_svd(x, 2).relative_error + 1e-6)
  True
  """
  x = check_input(x)
  max_iters, tol = check_iteration(max_iters, tol)
  init, restarts = one_of(init, 'init', ('svd', 'random')), integer(restarts, 'restarts')
  if init == 'random' or restarts > 1:
    key = prng_key(key)
  return _als_jitted(x, key, ranks_lib.tr_ranks(x.shape, ranks), max_iters, tol, init, restarts)


def tr_svd_kernel(x: Array, ranks: tuple[int, ...]) -> Decomposition:
  """`ranks` are within what the shape allows."""
  dense = widened(x)
  cores, kept = svd_ring(dense, ranks)
  return direct(TR(cores).cast(x.dtype), dense, kept)


_svd_jitted = jax.jit(tr_svd_kernel, static_argnums=1)


@at_unit_scale
def tr_als_kernel(
  x: Array,
  key: Array | None,
  ranks: tuple[int, ...],
  max_iters: int,
  tol: float,
  init: str,
  restarts: int,
) -> Decomposition:
  """As `tr_svd_kernel`; a `key` is only read for random starts."""
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

  def run(start: tuple[Array, ...]) -> tuple:
    cores, *history = iterate(step, start, max_iters, tol, norm.dtype, _ahead)
    return TR(cores).cast(x.dtype), history

  svd, _ = svd_ring(dense, ranks)
  random = partial(_random_ring, dense, ranks)

  def one(tree: object) -> object:
    return jax.tree.map(lambda a: a[None], tree)

  def joined(*trees: object) -> object:
    return jax.tree.map(lambda *a: xp.concatenate(a), *trees)

  if restarts == 1:  # without a batch, so that reverse mode says what it lacks
    start = svd if init == 'svd' else varying_with(random(key), dense)
    tensors, histories = one(run(start))
  else:
    kept = [one(svd)] if init == 'svd' else []
    drawn = batched(random, xp)(jax.random.split(key, restarts - len(kept)))
    tensors, histories = batched(run, xp)(varying_with(joined(*kept, drawn), dense))
  # An exact start is not improved by normal equations, nor need a random one reach it.
  tensors = joined(one(TR(svd).cast(x.dtype)), tensors)
  histories = jax.tree.map(lambda a: xp.concatenate([a[:1], a]), histories)
  error, tensor, (errors, count, converged) = best(
    lambda end: (relative_error(end[0], dense), *end), (tensors, histories)
  )
  return Decomposition(tensor, error, count, converged, errors)


_als_jitted = jax.jit(tr_als_kernel, static_argnums=(2, 3, 4, 5, 6))


def _ahead(cores: tuple[Array, ...], previous: tuple[Array, ...], by: Array) -> tuple[Array, ...]:
  return tuple(new + by.astype(new.dtype) * (new - old) for new, old in zip(cores, previous))


def _random_ring(x: Array, ranks: tuple[int, ...], key: Array) -> tuple[Array, ...]:
  """Gaussian cores whose slices along the first bond have norms of about 1."""
  draw = host_normal if namespace(x) is np else jax.random.normal
  shapes = zip(ranks, x.shape, (*ranks[1:], ranks[0]))
  keys = jax.random.split(key, x.ndim)
  return tuple(draw(k, s, x.dtype) / (s[1] * s[2]) ** 0.5 for k, s in zip(keys, shapes))


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
