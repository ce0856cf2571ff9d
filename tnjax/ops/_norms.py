"""Norms of whole tensors, exact and in one fast pass whatever the number of modes.

A sum over many modes is a slow loop on CPU, and in float32 a wrong one: XLA adds 2^26 entries in 26
modes one by one, and the sum stops growing (18 % were missing). So the entries are laid flat first,
behind a barrier, or XLA would turn the sum back. The barrier holds a view, not a copy.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.ops._engine import materialized, namespace


def squared_norm(x: Array, scale: Array | float = 1.0) -> Array:
  """Squared Frobenius norm of `x / scale`, a real scalar.

  >>> squared_norm(jnp.array([[3., 4.], [0., 12.]])).item()
  169.0
  """
  if namespace(x) is np:
    flat = x.ravel() if isinstance(scale, float) and scale == 1 else x.ravel() / scale
    return np.vdot(flat, flat).real
  return jnp.sum(jnp.abs(_flat(x) / scale) ** 2)


def peak(x: Array) -> Array:
  """Absolute value of the largest entry; NaN where there is one.

  >>> peak(jnp.array([[3., -4.], [0., 1.]])).item()
  4.0
  """
  xp = namespace(x)
  return xp.max(xp.abs(_flat(x)))


def _flat(x: Array) -> Array:
  return materialized(x.ravel())
