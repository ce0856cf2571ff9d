"""What every door does first: check the input, and bring it to a working dtype and scale."""

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.ops import fixed, namespace, peak, working_dtype


def check_input(x: Array, name: str = 'x') -> Array:
  """The input as an array, or a ValueError that says what to pass instead."""
  x = jnp.asarray(x)
  if not jnp.issubdtype(x.dtype, jnp.inexact):
    raise ValueError(
      f'{name} has dtype {x.dtype}; pass a floating or complex array, such as '
      f'{name}.astype("float32")'
    )
  if x.ndim < 1:
    raise ValueError(f'{name} has shape {x.shape}; it needs at least 1 mode')
  if x.size == 0:
    raise ValueError(
      f'{name} has shape {x.shape}, with an empty mode; all sizes must be at least 1'
    )
  if not isinstance(x, jax.core.Tracer) and not bool(_all_finite(x)):
    raise ValueError(f'{name} of shape {x.shape} has NaN or infinite entries; clean it first')
  return x


@jax.jit
def _all_finite(x: Array) -> Array:
  return jnp.isfinite(peak(x))


def widened(x: Array) -> Array:
  """bf16 and f16 are decomposed in f32; other dtypes stay."""
  dtype = working_dtype(x.dtype)
  return x if x.dtype == dtype else x.astype(dtype)


def largest(x: Array) -> Array:
  """Size of the largest entry, 1 for a zero tensor: in units of it, squares stay in range.

  Every method gives c times the result for c times the input, so no gradient passes through.
  """
  scale = fixed(peak(x))
  return namespace(x).where(scale == 0, 1, scale)


def relative(lost: Array, energy: Array) -> Array:
  """sqrt(lost / energy), both squared norms; 0, with a finite gradient, where nothing is lost."""
  xp = namespace(lost, energy)
  share = lost / xp.where(energy == 0, 1, energy)
  return xp.where(share > 0, xp.sqrt(xp.where(share > 0, share, 1)), share * 0)


def check_iteration(max_iters: int, tol: float) -> None:
  """`max_iters` at least 1, `tol` a non-negative Python float."""
  if max_iters < 1:
    raise ValueError(f'max_iters={max_iters} must be at least 1')
  if not isinstance(tol, (int, float)) or tol < 0:
    raise ValueError(f'tol={tol!r} must be a static float >= 0 (0. runs exactly max_iters sweeps)')
