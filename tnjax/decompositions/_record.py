"""The one record every decomposition returns."""

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.formats import Record


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decomposition:
  """A tensor in a format, and how well it stands for the input.

  Attributes:
    tensor: the format record; `tensor.full()` approximates the input.
    relative_error: ||x - tensor.full()|| / ||x||, from the residual; 0 for a zero tensor,
      NaN for input that is not finite.
    num_iters: sweeps done, 0 for a direct method.
    converged: whether the stopping rule was met; with tol=0., or a direct method, which have
      none, whether the result is finite.
    errors: (max_iters,) estimated relative error after every sweep, NaN where none was done;
      the estimates come from norms and cannot resolve below about sqrt(eps).
  """

  tensor: Record
  relative_error: Array
  num_iters: Array
  converged: Array
  errors: Array


def direct(tensor: Record, x: Array) -> Decomposition:
  """Record of a direct method, given the tensor at x's scale."""
  error = residual(tensor, x)
  return Decomposition(
    tensor, error, jnp.zeros((), 'int32'), jnp.isfinite(error), jnp.zeros(0, error.dtype)
  )


def residual(tensor: Record, x: Array) -> Array:
  """True relative error; the norms are taken at unit scale, so neither over- nor underflow."""
  size = jnp.max(jnp.abs(x))
  size = jnp.where(size == 0, 1, size)
  norm = jnp.linalg.norm((x / size).ravel())
  gap = jnp.linalg.norm(((x - tensor.full()) / size).ravel())
  return jnp.where(norm == 0, 0, gap / jnp.where(norm == 0, 1, norm))
