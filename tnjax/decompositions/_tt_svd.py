"""TT-SVD."""

from collections.abc import Sequence
from functools import partial

import jax
from jax import Array

from tnjax import ranks as ranks_lib
from tnjax.decompositions._prepare import cast, check_input, unit_scale, working
from tnjax.decompositions._record import Decomposition, direct
from tnjax.formats import TT
from tnjax.ops import left_singular, matmul


def tt_svd(x: Array, ranks: int | Sequence[int]) -> Decomposition:
  """Tensor-train decomposition by successive truncated SVDs (Oseledets 2011, algorithm 1).

  The squared error is at most the sum of the squared errors of the d - 1 truncated unfoldings,
  hence at most sqrt(d - 1) times that of the best TT of these ranks. Cores are left-orthogonal.
  Time O(prod(shape) times the largest short side, r_{k-1} n_k, of the cuts).

  Args:
    x: array of any order >= 1, real or complex.
    ranks: the d - 1 inner TT-ranks, or an int for all; capped at what the shape allows.

  Returns:
    A `Decomposition` with a `TT`.

  Raises:
    ValueError: integer or empty input, non-finite entries (when not traced), or ranks that are
      not positive or not d - 1 in number.

  >>> import jax.numpy as jnp
  >>> x = jnp.arange(24.).reshape(2, 3, 4)
  >>> d = tt_svd(x, ranks=2)  # sums of indices have TT-rank 2
  >>> d.tensor.ranks, bool(d.relative_error < 1e-5)
  ((2, 2), True)
  """
  x = check_input(x)
  return _kernel(x, ranks_lib.tt_ranks(x.shape, ranks))


@partial(jax.jit, static_argnums=1)
def _kernel(x: Array, ranks: tuple[int, ...]) -> Decomposition:
  dense = working(x)
  rest, scale = unit_scale(dense)
  cores = chain(rest.reshape(1, -1), x.shape, ranks, 1)
  tensor = TT((*cores[:-1], cores[-1] * scale))
  return direct(cast(tensor, x.dtype), dense)


def chain(rest: Array, shape: Sequence[int], ranks: Sequence[int], last: int) -> tuple[Array, ...]:
  """Cores of `rest`, a matrix (r_0, prod(shape) * last), cut after every mode but the last."""
  cores = []
  for n, rank in zip(shape, ranks):
    left = rest.shape[0]
    matrix = rest.reshape(left * n, -1)
    u, _ = left_singular(matrix, rank)
    cores.append(u.reshape(left, n, rank))
    rest = matmul(u.conj().T, matrix)
  return (*cores, rest.reshape(rest.shape[0], shape[-1], last))
