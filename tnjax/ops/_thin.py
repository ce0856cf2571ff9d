"""The thin SVD and its derivative, the reference that all faster routes differentiate like."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.ops._engine import namespace
from tnjax.ops._products import matmul


@jax.custom_jvp
def thin_left(a: Array) -> tuple[Array, Array]:
  """All min(m, n) left singular vectors and values of a matrix (m, n), by QR and LAPACK."""
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
  return upright(u), s


@thin_left.defjvp
def _thin_left_jvp(primals: tuple, tangents: tuple) -> tuple:
  """First-order perturbation of the eigenvectors of A A^H (Townsend 2016, with a guarded gap)."""
  (a,), (da,) = primals, tangents
  u, s = thin_left(a)
  values = s
  largest = jnp.where(s[0] > 0, s[0], 1)  # at unit scale, squares stay in range
  a, da, s = a / largest, da / largest, s / largest
  uh = u.conj().T
  right = matmul(a.conj().T, u)  # V diag(s)
  change = matmul(matmul(uh, da), right)
  change = change + change.conj().T  # U^H d(A A^H) U
  tol = 8 * noise(a) * s[0]
  row, column = s[:, None], s[None, :]
  inverse_gap = reciprocal((column - row) * (column + row), jnp.abs(column - row) > tol)
  du = matmul(u, inverse_gap * change)
  if a.shape[0] > a.shape[1]:  # the part of du outside the span of u
    outside = matmul(da, right)
    outside = outside - matmul(u, matmul(uh, outside))
    du = du + outside * reciprocal(s * s, s > tol)[None]
  if jnp.iscomplexobj(u):  # the pivots stay real: turn every column's phase back
    place = jnp.argmax(jnp.abs(u), axis=0)[None]
    pivot, shift = (jnp.take_along_axis(v, place, axis=0) for v in (u, du))
    du = du - 1j * u * (shift.imag * reciprocal(pivot.real, pivot.real > 0))
  ds = jnp.real(jnp.diagonal(change)) * reciprocal(2 * s, s > tol)
  return (u, values), (du.astype(u.dtype), (ds * largest).astype(s.dtype))


def upright(u: Array) -> Array:
  """Columns turned so that the largest entry of each is real and positive."""
  xp = namespace(u)
  if xp is np and u.ndim == 2:  # the general form takes longer than the rest of a small QR
    pivot = u[np.abs(u).argmax(axis=0), np.arange(u.shape[1])]
  else:
    place = xp.argmax(xp.abs(u), axis=-2, keepdims=True)
    pivot = xp.take_along_axis(u, place, axis=-2)
  size = xp.abs(pivot)
  return u * xp.where(size > 0, pivot.conj() / xp.where(size > 0, size, 1), 1)


def noise(a: Array) -> float:
  """Relative size below which a singular value or a gap is rounding noise."""
  return float(jnp.finfo(a.dtype).eps) * max(a.shape) ** 0.5


def reciprocal(x: Array, valid: Array) -> Array:
  """1 / x where valid, 0 elsewhere, with finite gradients."""
  xp = namespace(x)
  return xp.where(valid, 1 / xp.where(valid, x, 1), 0)
