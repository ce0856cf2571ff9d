"""The least squares step that alternating methods share."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.ops import lower_inverse, matmul, namespace


def damped_solve(gram: Array, rhs: Array, previous: Array) -> Array:
  """Minimises ||A D^T - X||^2 + lam ||A - previous||^2 given `gram` = D^T D* and `rhs` = X D*.

  The damping lam is a few roundings of the trace: it leaves the fixed points where they are,
  never lets the error rise, and keeps the system positive definite when D loses rank, where
  plain normal equations give infinities.
  """
  xp = namespace(gram)
  eps = jnp.finfo(gram.dtype).eps
  lam = 10 * eps * xp.trace(gram).real + eps**2
  system = gram + lam.astype(gram.dtype) * xp.eye(gram.shape[0], dtype=gram.dtype)
  if xp is np:
    return np.linalg.solve(system.T, (rhs + lam * previous).T).T
  half = lower_inverse(jnp.linalg.cholesky(system))  # system^-1 = half^H half
  return matmul(matmul(rhs + lam * previous, half.conj().T), half)
