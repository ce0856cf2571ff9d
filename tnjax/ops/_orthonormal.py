"""Orthonormal bases, with a derivative that survives a loss of rank."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.ops._engine import namespace
from tnjax.ops._products import matmul
from tnjax.ops._thin import upright


def qr(a: Array) -> tuple[Array, Array]:
  """Orthonormal q (m, k) and r (k, n) with a = q r, k = min(m, n).

  The derivative takes the basis that does not turn within its own span, q^H dq = 0. It is exact
  for every function that does not depend on the choice of basis, and finite for a singular r,
  where that of the triangular gauge is not.

  >>> a = jnp.array([[3., 1.], [4., 1.], [0., 0.]])
  >>> q, r = qr(a)
  >>> bool(jnp.allclose(q @ r, a, atol=1e-6))
  True
  """
  return tuple(np.linalg.qr(a)) if namespace(a) is np else _qr(a)


@jax.custom_jvp
def _qr(a: Array) -> tuple[Array, Array]:
  q, r = jnp.linalg.qr(a)
  return q, r


@_qr.defjvp
def _qr_jvp(primals: tuple, tangents: tuple) -> tuple:
  (a,), (da,) = primals, tangents
  q, r = _qr(a)
  dr = matmul(q.conj().T, da)
  if a.shape[0] <= a.shape[1]:  # q spans everything
    return (q, r), (jnp.zeros_like(q), dr)
  return (q, r), (matmul(da - matmul(q, dr), jnp.linalg.pinv(r)), dr)


def orthonormal(a: Array) -> Array:
  """Orthonormal basis (m, k) of the columns of a matrix (m, n), k = min(m, n), by `qr`.

  The largest entry of every column is real and positive.

  >>> q = orthonormal(jnp.array([[-3., 1.], [4., 1.], [0., 0.]]))
  >>> bool(jnp.allclose(q.T @ q, jnp.eye(2), atol=1e-6)), bool(q[1, 0] > 0)
  (True, True)
  """
  return upright(qr(a)[0])
