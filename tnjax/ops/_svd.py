"""Truncated singular value decomposition that never forms a square factor of the long side.

A wide matrix A (m x n, m <= n) is first reduced to its m x m triangular factor by a QR of A^H, so
that time is O(m^2 n) and memory a small multiple of A's; the right factor follows as U^H A.
Derivatives divide by differences of squared singular values; where two coincide, the term is set
to zero, which is exact for every function that does not depend on the choice of basis inside the
repeated subspace, and finite for the others.
"""

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.ops._products import matmul


def left_singular(a: Array, rank: int) -> tuple[Array, Array]:
  """Leading left singular vectors and all singular values of a matrix (m, n).

  Returns `u` of shape (m, rank) and `s` of shape (min(m, n),), descending. The largest entry of
  every column of `u` is real and positive, so the result does not depend on the LAPACK in use.

  Raises:
    ValueError: `rank` outside 1..min(m, n).

  >>> a = jnp.diag(jnp.array([3., 2., 1.]))[:, :2]
  >>> u, s = left_singular(a, 1)
  >>> u.ravel().tolist(), s.tolist()
  ([1.0, 0.0, 0.0], [3.0, 2.0])
  """
  if not 1 <= rank <= min(a.shape):
    raise ValueError(f'rank={rank} does not fit a matrix of shape {a.shape}')
  u, s = _thin_left(a)
  return u[:, :rank], s


def truncated_svd(a: Array, rank: int) -> tuple[Array, Array, Array]:
  """Best rank-`rank` approximation `(u * s) @ vh` of a matrix (m, n) (Eckart and Young 1936).

  Shapes (m, rank), (rank,), (rank, n). Rows of `vh` that belong to zero singular values are zero.

  >>> a = jnp.outer(jnp.arange(1., 4.), jnp.ones(5))
  >>> u, s, vh = truncated_svd(a, 1)
  >>> bool(jnp.allclose((u * s[None]) @ vh, a, atol=1e-5))
  True
  """
  u, s = left_singular(a, rank)
  s = s[:rank]
  return u, s, _reciprocal(s, s > _noise(a) * s[0])[:, None] * matmul(u.conj().T, a)


@jax.custom_jvp
def _thin_left(a: Array) -> tuple[Array, Array]:
  m, n = a.shape
  if m < n:
    triangular = jnp.linalg.qr(a.conj().T, mode='r')
    u, s, _ = jnp.linalg.svd(triangular.conj().T, full_matrices=False)
  elif m > n:
    q, triangular = jnp.linalg.qr(a)
    u, s, _ = jnp.linalg.svd(triangular, full_matrices=False)
    u = matmul(q, u)
  else:
    u, s, _ = jnp.linalg.svd(a, full_matrices=False)
  pivot = jnp.take_along_axis(u, jnp.argmax(jnp.abs(u), axis=0)[None], axis=0)
  size = jnp.abs(pivot)
  return u * jnp.where(size > 0, pivot.conj() / jnp.where(size > 0, size, 1), 1), s


@_thin_left.defjvp
def _thin_left_jvp(primals: tuple, tangents: tuple) -> tuple:
  """First-order perturbation of the eigenvectors of A A^H (Townsend 2016, with a guarded gap)."""
  (a,), (da,) = primals, tangents
  u, s = _thin_left(a)
  uh = u.conj().T
  right = matmul(a.conj().T, u)  # V diag(s)
  change = matmul(matmul(uh, da), right)
  change = change + change.conj().T  # U^H d(A A^H) U
  tol = 8 * _noise(a) * s[0]
  row, column = s[:, None], s[None, :]
  inverse_gap = _reciprocal((column - row) * (column + row), jnp.abs(column - row) > tol)
  du = matmul(u, inverse_gap * change)
  if a.shape[0] > a.shape[1]:  # the part of du outside the span of u
    outside = matmul(da, right)
    outside = outside - matmul(u, matmul(uh, outside))
    du = du + outside * _reciprocal(s * s, s > tol)[None]
  if jnp.iscomplexobj(u):  # the pivots stay real: turn every column's phase back
    place = jnp.argmax(jnp.abs(u), axis=0)[None]
    pivot, shift = (jnp.take_along_axis(v, place, axis=0) for v in (u, du))
    du = du - 1j * u * (shift.imag * _reciprocal(pivot.real, pivot.real > 0))
  ds = jnp.real(jnp.diagonal(change)) * _reciprocal(2 * s, s > tol)
  return (u, s), (du.astype(u.dtype), ds.astype(s.dtype))


def _noise(a: Array) -> float:
  """Relative size below which a singular value or a gap is rounding noise."""
  return float(jnp.finfo(a.dtype).eps) * max(a.shape) ** 0.5


def _reciprocal(x: Array, valid: Array) -> Array:
  return jnp.where(valid, 1 / jnp.where(valid, x, 1), 0)
