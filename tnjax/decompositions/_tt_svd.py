"""TT-SVD, from the right end, small modes merged."""

import functools
import math
from collections.abc import Sequence
from functools import partial

import jax
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._prepare import in_range, sized_input, widened
from tnjax.decompositions._record import Decomposition, direct
from tnjax.decompositions._tolerance import by_tolerance, check_choice, host, tt_ranks_for
from tnjax.formats import TT
from tnjax.ops import matmul, namespace, right_singular, squared_norm


def tt_svd(
  x: Array, ranks: int | Sequence[int] | None = None, tol: float | None = None
) -> Decomposition:
  """Tensor-train decomposition by successive truncated SVDs (Oseledets 2011, algorithm 1).

  Cuts from the right, several small modes at once, so that the first pass over the data already
  shrinks it (Roehrig-Zoellner et al. 2022). The squared error is at most the sum of the squared
  errors of the d - 1 truncated unfoldings, hence at most sqrt(d - 1) times that of the best TT of
  these ranks. All cores but the first are right-orthogonal. Time is that of one Gram matrix of
  the last unfolding and one product with it, the rest is a fraction; memory beyond the input is
  a fraction of the input.

  Args:
    x: array of any order >= 1, real or complex.
    ranks: the d - 1 inner TT-ranks, or an int for all; capped at what the shape allows.
    tol: relative error to reach, in place of ranks; with ranks too, those are upper limits and
      may prevent it. Chosen on the host, so not under jit.

  Returns:
    A `Decomposition` with a `TT`.

  Raises:
    ValueError: integer or empty input, non-finite entries (when not traced), or ranks that are
      not positive or not d - 1 in number; neither ranks nor tol; a tol when traced.

  >>> import jax.numpy as jnp
  >>> x = jnp.arange(24.).reshape(2, 3, 4)
  >>> d = tt_svd(x, ranks=2)  # sums of indices have TT-rank 2
  >>> d.tensor.ranks, bool(d.relative_error < 1e-5)
  ((2, 2), True)
  >>> tt_svd(x, tol=1e-3).tensor.ranks
  (2, 2)
  """
  x, size = sized_input(x)
  tol = check_choice(x, ranks, tol)
  if ranks is not None:
    ranks = ranks_lib.tt_ranks(x.shape, ranks)
  if tol is None:
    return in_range(_jitted, size, x, ranks)
  data = host(x)
  return by_tolerance(
    tol,
    lambda tol: ranks_lib.tt_ranks(x.shape, tt_ranks_for(data, tol, ranks)),
    partial(in_range, _jitted, size, x),
  )


def tt_svd_kernel(x: Array, ranks: tuple[int, ...]) -> Decomposition:
  """`ranks` are within what the shape allows."""
  dense = widened(x)
  cores = chain(dense, 1, x.shape, ranks, 1)
  return direct(TT(cores).cast(x.dtype), dense, kept=squared_norm(cores[0]))


_jitted = jax.jit(tt_svd_kernel, static_argnums=1)


def chain(
  rest: Array,
  first: int,
  shape: Sequence[int],
  ranks: Sequence[int],
  last: int,
  merge: bool = True,
) -> tuple[Array, ...]:
  """Cores of a tensor (first, *shape, last), whose ends are bonds.

  All cores but the first have orthonormal rows, so the first one's norm is the tensor's. The order
  of cuts shows in the error; without `merge` it does not depend on sizes.
  """
  bonds = (first, *ranks, last)
  cores: tuple[Array, ...] = ()
  end = len(shape)
  cuts = range(end - 1, 0, -1)
  if merge:
    cuts = _cuts(first, tuple(shape), tuple(ranks), last)
  for start in cuts:
    matrix = rest.reshape(first * math.prod(shape[:start]), -1)
    modes, ends = shape[start:end], bonds[start : end + 1]
    if ends[0] == matrix.shape[1]:  # nothing to cut
      group = _split(namespace(rest).eye(ends[0], dtype=rest.dtype), None, modes, ends)
    else:
      v, s = right_singular(matrix, ends[0])
      group = _split(v.conj().T, s[: ends[0]], modes, ends)
      rest = matmul(matrix, _interface(group).conj().T)
    cores, end = (*group, *cores), start
  return (rest.reshape(first, shape[0], -1), *cores)


def _split(
  rows: Array, s: Array | None, shape: Sequence[int], bonds: Sequence[int]
) -> tuple[Array, ...]:
  """Cores of a small matrix (r_0, n_1 ... n_k r_k) of orthonormal rows that weigh `s`."""
  weighted = rows if s is None else rows * s[:, None].astype(rows.dtype)
  cores: tuple[Array, ...] = ()
  for k in range(len(shape) - 1, 0, -1):
    width = shape[k] * bonds[k + 1]
    rows, weighted = rows.reshape(-1, width), weighted.reshape(-1, width)
    v = namespace(rows).eye(width, dtype=rows.dtype)
    if bonds[k] < width:
      v, _ = right_singular(weighted, bonds[k])
      rows, weighted = matmul(rows, v), matmul(weighted, v)
    cores = (v.conj().T.reshape(bonds[k], shape[k], bonds[k + 1]), *cores)
  rows = rows.reshape(bonds[0], -1)
  if any(r < n * after for r, n, after in zip(bonds[1:], shape[1:], bonds[2:])):
    rows = right_singular(rows, bonds[0])[0].conj().T  # the inner cuts made them shorter
  return (rows.reshape(bonds[0], shape[0], bonds[1]), *cores)


def _interface(cores: Sequence[Array]) -> Array:
  """The cores contracted to a matrix (r_0, everything to the right)."""
  out = cores[0].reshape(-1, cores[0].shape[2])
  for core in cores[1:]:
    out = matmul(out, core.reshape(core.shape[0], -1)).reshape(-1, core.shape[2])
  return out.reshape(cores[0].shape[0], -1)


_MERGED = 1024  # widest unfolding made by merging modes: beyond it, the small cuts inside cost more


@functools.cache
def _cuts(first: int, shape: tuple[int, ...], ranks: tuple[int, ...], last: int) -> tuple[int, ...]:
  """The bonds at which the large tensor is cut, from the right; those between are cut within.

  Exact dynamic program over the positions, each cut at its estimated time.
  """
  bonds = (first, *ranks, last)
  best: dict[int, tuple[float, tuple[int, ...]]] = {1: (0.0, ())}
  for end in range(2, len(shape) + 1):
    options = []
    for start in range(end - 1, 0, -1):
      rows = first * math.prod(shape[:start])
      width = math.prod(shape[start:end]) * bonds[end]
      if width > _MERGED and start < end - 1:
        break
      seconds = _seconds(rows, width, bonds[start]) + best[start][0]
      options.append((seconds, (start, *best[start][1])))
    best[end] = min(options)
  return best[len(shape)][1]


def _seconds(rows: int, width: int, rank: int) -> float:
  """Rough time of one cut. Only ratios matter: 100 GFLOP/s, 12 GB/s read, 3 GB/s newly written."""
  if rank == width:
    return 0.0
  short = min(rows, width)
  products = 2 * rows * width * (short + rank) / 1e11 + 6e-10 * short**3
  return products + 8 * rows * width / 12e9 + 4 * rows * rank / 3e9 + 1e-4
