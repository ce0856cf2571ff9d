"""Rounding of a tensor train to smaller ranks."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._prepare import check_input, largest, widened
from tnjax.decompositions._record import Decomposition
from tnjax.decompositions._tolerance import by_tolerance, check_choice, round_ranks_for
from tnjax.formats import TT, add, norm, orthogonalize, scale
from tnjax.ops import left_singular, matmul, one_of, resolved, squared_norm


def tt_round(
  x: TT,
  ranks: int | Sequence[int] | None = None,
  tol: float | None = None,
  method: str = 'auto',
) -> Decomposition:
  """Tensor train of smaller ranks near a tensor train, without forming the tensor.

  After a sum or a Hadamard product, ranks are larger than they need be. 'qr' orthogonalises from
  the left and truncates from the right (Oseledets 2011, algorithm 2, mirrored, so that the result
  looks like that of `tt_svd`); 'gram' takes the Gram matrices of the left parts in place of the
  orthogonalisation (Al Daas, Ballard and Manning 2022), which is products only but squares the
  condition number; 'auto' takes 'gram' where what it cuts off is large enough for that not to
  matter, 'qr' otherwise. All cores of the result but the first are right-orthogonal; the error
  bound is that of `tt_svd`.

  Args:
    x: a `TT`.
    ranks: the d - 1 TT-ranks, or an int for all; capped at x.ranks.
    tol: relative error to reach, in place of ranks; with ranks too, those are upper limits and
      may prevent it. Chosen on the host, so not under jit.
    method: 'auto', 'gram' or 'qr'.

  Returns:
    A `Decomposition` with a `TT`; its relative error is ||x - tensor|| / ||x||.

  Raises:
    ValueError: not a `TT`, an unknown method, or as `tt_svd`.

  >>> import tnjax as tn
  >>> a = tn.formats.random(tn.TT, jax.random.key(0), (4, 5, 6), 2)
  >>> d = tt_round(a + a, tol=1e-3)
  >>> (a + a).ranks, d.tensor.ranks, bool(d.relative_error < 1e-3)
  ((4, 4), (2, 2), True)
  """
  if not isinstance(x, TT):
    raise ValueError(f'x is a {type(x).__name__}; give a TT (tn.formats.to_tt converts)')
  one_of(method, 'method', ('auto', 'gram', 'qr'))
  for k, core in enumerate(x.cores):
    check_input(core, f'core {k} of x')
  tol = check_choice(x, ranks, tol)
  if ranks is not None:
    ranks = ranks_lib.tt_ranks(x.shape, ranks)
    ranks = ranks_lib.tt_ranks(x.shape, [min(pair) for pair in zip(ranks, x.ranks)])
  if tol is None:
    return _kernel(x, ranks, method)
  cores = [np.asarray(widened(core)) for core in x.cores]
  return by_tolerance(
    tol, lambda tol: round_ranks_for(cores, tol, ranks), lambda found: _kernel(x, found, method)
  )


@partial(jax.jit, static_argnums=(1, 2))
def _kernel(x: TT, ranks: tuple[int, ...], method: str) -> Decomposition:
  # All that follows goes from the left end of the train read backwards.
  unit, grams, size = _normalised(_mirrored([widened(core) for core in x.cores]))
  cores = _rounded(ranks[::-1], method, unit.cores, grams)
  # The norm sits in the last core here, the first one of the result.
  tensor = _mirrored([*cores[:-1], cores[-1] * size.astype(unit.dtype)]).cast(x.dtype)
  fixed = jax.lax.stop_gradient
  error = _error(fixed(unit), fixed(TT(cores)), fixed(size))
  return Decomposition(
    tensor, error, jnp.zeros((), 'int32'), jnp.isfinite(error), jnp.zeros(0, error.dtype)
  )


def _mirrored(cores: Sequence[Array]) -> TT:
  return TT(tuple(core.transpose(2, 1, 0) for core in reversed(cores)))


def _normalised(x: TT) -> tuple[TT, tuple[Array, ...], Array]:
  """x at unit norm, the Gram matrix of everything right of each bond, and the norm of x."""
  gram = jnp.ones((1, 1), x.dtype)
  cores, grams, sizes = [], [], []
  for core in reversed(x.cores):
    left, n, right = core.shape
    # At unit size first, so that the squares stay in range.
    peak = largest(core)
    core = core / peak
    grams.insert(0, gram)
    product = matmul(core.reshape(-1, right), gram).reshape(left, -1)
    gram = matmul(product, core.reshape(left, -1).conj().T)
    energy = jnp.trace(gram).real
    root = jnp.where(energy > 0, jnp.sqrt(jnp.where(energy > 0, energy, 1)), 1)
    cores.insert(0, core / root)
    gram = gram / root**2
    sizes += [peak, root]
  # Large times small, so that the product stays in range wherever its value is.
  sizes = jnp.sort(jnp.stack(sizes))
  size = jnp.prod((sizes * sizes[::-1])[: len(x.cores)])
  return TT(tuple(cores)), tuple(grams), jnp.where(energy > 0, size, 0 * energy)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _rounded(
  ranks: tuple[int, ...], method: str, cores: tuple[Array, ...], grams: tuple[Array, ...]
) -> tuple[Array, ...]:
  if method == 'qr':
    return _by_qr(ranks, cores)
  found, safe = _by_gram(ranks, cores, grams)
  if method == 'gram':
    return found
  return jax.lax.cond(safe, lambda: found, lambda: _by_qr(ranks, cores))


@_rounded.defjvp
def _(ranks: tuple[int, ...], method: str, primals: tuple, tangents: tuple) -> tuple:
  return jax.jvp(partial(_by_qr, ranks), primals[:1], tangents[:1])


def _by_qr(ranks: tuple[int, ...], cores: tuple[Array, ...]) -> tuple[Array, ...]:
  cores = orthogonalize(TT(cores), 0).cores
  rest, done = cores[0], []
  for rank, core in zip(ranks, cores[1:]):
    matrix = rest.reshape(-1, rest.shape[2])
    u, _ = left_singular(matrix, rank, method='qr')
    done.append(u.reshape(*rest.shape[:2], rank))
    rest = jnp.tensordot(matmul(u.conj().T, matrix), core, 1, precision='highest')
  return (*done, rest)


def _by_gram(
  ranks: tuple[int, ...], cores: tuple[Array, ...], grams: tuple[Array, ...]
) -> tuple[tuple[Array, ...], Array]:
  """Cores, and whether every cut is far above what the Gram matrices lose."""
  rest, done, safe = cores[0], [], jnp.asarray(True)
  for rank, core, gram in zip(ranks, cores[1:], grams):
    matrix = rest.reshape(-1, rest.shape[2])
    if rank == min(matrix.shape):
      u, change = jnp.linalg.qr(matrix)
    else:
      # Left singular vectors of matrix @ gram^(1/2), by the eigenvectors z of its Gram matrix.
      values, v = jnp.linalg.eigh(gram)
      root = v * jnp.sqrt(jnp.maximum(values, 0))[None].astype(v.dtype)
      inner = matmul(matrix.conj().T, matrix)
      squares, z = jnp.linalg.eigh(matmul(matmul(root.conj().T, inner), root))
      squares, z = jnp.maximum(squares[::-1], 0), z[:, ::-1][:, :rank]
      safe &= resolved(squares[rank:].sum(), squares.sum())
      s = jnp.sqrt(squares[:rank])
      w = matmul(root, z) / jnp.where(s > 0, s, 1)[None].astype(z.dtype)
      u, change = matmul(matrix, w), matmul(w.conj().T, inner)
    done.append(u.reshape(*rest.shape[:2], rank))
    rest = jnp.tensordot(change, core, 1, precision='highest')
  return (*done, rest), safe


def _error(unit: TT, rounded: TT, size: Array) -> Array:
  """Relative error; all truncations are orthogonal projections, so the norms tell it if it is
  large, and the difference itself if it is small.
  """
  lost = 1 - squared_norm(rounded.cores[-1])
  one = jnp.ones_like(lost)
  error = jax.lax.cond(
    resolved(lost, one),
    lambda: jnp.sqrt(lost),
    lambda: norm(add(unit, scale(rounded, -1.0))).astype(lost.dtype),
  )
  return jnp.where(size == 0, 0, error) + 0 * size  # a norm out of range is no success
