"""Matrix, mode and Khatri-Rao products at full precision.

Accelerators multiply float32 matrices in fewer bits by default (bf16 on TPU, TF32 on GPU); a
decomposition that does so stalls at an error of 1e-3, so everything here asks for the highest.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.ops._engine import namespace

HIGHEST = jax.lax.Precision.HIGHEST


def matmul(a: Array, b: Array) -> Array:
  """`a @ b` at the highest precision the device offers."""
  if namespace(a, b) is np:
    return a @ b
  return jnp.matmul(a, b, precision=HIGHEST)


def tensordot(a: Array, b: Array, axes: int | tuple) -> Array:
  """`jnp.tensordot` at the highest precision the device offers."""
  if namespace(a, b) is np:
    return np.tensordot(a, b, axes)
  return jnp.tensordot(a, b, axes, precision=HIGHEST)


def mode_product(x: Array, matrix: Array, mode: int) -> Array:
  """Mode product `x x_n matrix`: contracts mode n of `x` with the columns of `matrix` (J, I_n).

  The result has J in place of I_n (Kolda and Bader 2009, section 2.5).

  >>> mode_product(jnp.ones((2, 3, 4)), jnp.ones((5, 3)), 1).shape
  (2, 5, 4)
  """
  if matrix.ndim != 2 or matrix.shape[1] != x.shape[mode]:
    raise ValueError(
      f'matrix has shape {matrix.shape}; mode {mode} of x, of shape {x.shape}, '
      f'needs (any, {x.shape[mode]})'
    )
  mode %= x.ndim
  if mode == x.ndim - 1:  # as it lies in memory: on CPU six times as fast
    if namespace(x, matrix) is np:  # one large product, not one for each leading index
      return (x.reshape(-1, x.shape[-1]) @ matrix.T).reshape(*x.shape[:-1], -1)
    return matmul(x, matrix.T)
  before, after = math.prod(x.shape[:mode]), math.prod(x.shape[mode + 1 :])
  if namespace(x, matrix) is np and before <= after:  # no copy
    product = matrix @ x.reshape(before, x.shape[mode], after)
    return product.reshape(*x.shape[:mode], -1, *x.shape[mode + 1 :])
  product = tensordot(matrix, x, (1, mode))
  return namespace(product).moveaxis(product, 0, mode)


def multi_mode_product(x: Array, matrices: Sequence[Array | None]) -> Array:
  """Mode products with `matrices[n]` along every mode n; `None` leaves a mode alone.

  >>> multi_mode_product(jnp.ones((2, 3, 4)), [jnp.ones((5, 2)), None, jnp.ones((6, 4))]).shape
  (5, 3, 6)
  """
  for mode, matrix in enumerate(matrices):
    if matrix is not None:
      x = mode_product(x, matrix, mode)
  return x


def khatri_rao(matrices: Sequence[Array]) -> Array:
  """Columnwise Kronecker product of matrices (I_n, R): shape (prod I_n, R), last one fastest.

  Its Gram matrix is the elementwise product of the Gram matrices:

  >>> a, b = jnp.array([[1., 2.], [3., 4.]]), jnp.array([[0., 1.], [1., 1.], [2., 0.]])
  >>> k = khatri_rao([a, b])
  >>> bool(jnp.allclose(k.T @ k, (a.T @ a) * (b.T @ b)))
  True
  """
  out = matrices[0]
  for m in matrices[1:]:
    out = (out[:, None, :] * m[None, :, :]).reshape(-1, m.shape[1])
  return out
