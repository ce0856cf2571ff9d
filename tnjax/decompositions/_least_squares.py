"""The least squares step that alternating methods share."""

import jax.numpy as jnp
from jax import Array
from jax.scipy.linalg import cho_factor, cho_solve


def damped_solve(gram: Array, rhs: Array, previous: Array) -> Array:
  """Minimises ||A D^T - X||^2 + lam ||A - previous||^2 given `gram` = D^T D* and `rhs` = X D*.

  The damping lam is a few roundings of the trace: it leaves the fixed points where they are,
  never lets the error rise, and keeps the system positive definite when D loses rank, where
  plain normal equations give infinities.
  """
  eps = jnp.finfo(gram.dtype).eps
  lam = 10 * eps * jnp.trace(gram).real + eps**2
  system = gram + lam.astype(gram.dtype) * jnp.eye(gram.shape[0], dtype=gram.dtype)
  factor = cho_factor(system.T)  # A (gram) = rhs, so gram^T A^T = rhs^T
  return cho_solve(factor, (rhs + lam * previous).T).T
