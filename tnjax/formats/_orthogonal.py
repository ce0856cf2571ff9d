"""Orthogonal cores of a tensor train, by QR."""

from functools import partial

import jax
import jax.numpy as jnp

from tnjax.formats._record import check_format, check_mode
from tnjax.formats._tt import TT
from tnjax.ops import HIGHEST, qr, working_dtype


def orthogonalize(tt: TT, center: int) -> TT:
  """The same tensor with orthonormal cores on both sides of core `center`.

  Cores before it have orthonormal columns as (r_{k-1} n_k, r_k) matrices, cores after it
  orthonormal rows as (r_{k-1}, n_k r_k), so that core `center` has the norm of the tensor. Also
  where cores are zero or rank-deficient. A rank is cut, statically, to what its side carries:
  r_k <= r_{k-1} n_k before the center, r_{k-1} <= n_k r_k after it. O(d n r^3) (Oseledets 2011,
  section 3). Derivatives are those of functions that do not depend on the choice of the bases,
  such as of the tensor.

  Args:
    tt: a `TT`; 16-bit cores are computed in float32 and rounded back.
    center: 0..d-1, negative from the back.

  Raises:
    ValueError: not a TT, or no such core.

  >>> from tnjax import formats
  >>> x = formats.random(TT, jax.random.key(0), (3, 4, 5), (3, 4))
  >>> y = orthogonalize(x, 2)
  >>> left = y.cores[1].reshape(12, 4)
  >>> bool(jnp.allclose(left.T @ left, jnp.eye(4), atol=1e-5))
  True
  >>> bool(jnp.allclose(x.full(), y.full(), atol=1e-5))
  True
  """
  check_format(tt, 'tt', (TT,))
  return _orthogonalize(tt, check_mode(tt, center, 'center'))


@partial(jax.jit, static_argnums=1)
def _orthogonalize(tt: TT, center: int) -> TT:
  cores = list(tt.cast(working_dtype(tt.dtype)).cores)
  for k in range(center):
    r, n, s = cores[k].shape
    q, rest = qr(cores[k].reshape(r * n, s))
    cores[k] = q.reshape(r, n, -1)
    cores[k + 1] = jnp.tensordot(rest, cores[k + 1], axes=1, precision=HIGHEST)
  for k in range(len(cores) - 1, center, -1):
    r, n, s = cores[k].shape
    q, rest = qr(cores[k].reshape(r, n * s).conj().T)
    cores[k] = q.conj().T.reshape(-1, n, s)
    cores[k - 1] = jnp.tensordot(cores[k - 1], rest.conj().T, axes=1, precision=HIGHEST)
  return TT(tuple(cores)).cast(tt.dtype)
