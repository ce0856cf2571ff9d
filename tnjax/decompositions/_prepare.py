"""What every door does first: check the input, and bring it to a working dtype and scale."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.ops import (
  fixed,
  integer,
  namespace,
  numeric,
  peak,
  tolerance,
  varying_with,
  working_dtype,
)


def check_input(x: Array, name: str = 'x') -> Array:
  """The input as an array, or a ValueError that says what to pass instead."""
  x = numeric(x, name)
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


def iterate(
  step: Callable, state: object, max_iters: int, tol: float, dtype: np.dtype
) -> tuple[object, Array, Array, Array]:
  """Runs `state, error = step(state)` until the fit 1 - error changes by less than `tol` of itself.

  Returns state, errors (max_iters,), sweeps done and whether it converged. `tol=0.` scans exactly
  `max_iters` sweeps, which reverse-mode differentiates; `tol>0` is a while-loop. What the state
  holds beside data must be `varying_with` it.
  """
  if namespace(*jax.tree.leaves(state)) is np:
    return _iterate_on_host(step, state, max_iters, tol, dtype)
  if tol == 0.0:
    state, errors = jax.lax.scan(lambda s, _: step(s), state, None, length=max_iters)
    done = jnp.asarray(max_iters, 'int32')
    return state, errors, done, jnp.isfinite(errors[-1])

  def unfinished(carry: tuple) -> Array:
    _, _, count, converged = carry
    return (count < max_iters) & ~converged

  def advance(carry: tuple) -> tuple:
    state, errors, count, _ = carry
    state, error = step(state)
    before = jnp.where(count == 0, jnp.inf, errors[jnp.maximum(count - 1, 0)])
    converged = jnp.abs(before - error) <= tol * jnp.abs(1 - error)
    return state, errors.at[count].set(error), count + 1, converged

  counts = (jnp.full(max_iters, jnp.nan, dtype), jnp.zeros((), 'int32'), jnp.zeros((), bool))
  carry = (state, *varying_with(counts, state))
  return _forward_only(jax.lax.while_loop(unfinished, advance, carry))


def _iterate_on_host(
  step: Callable, state: object, max_iters: int, tol: float, dtype: np.dtype
) -> tuple[object, np.ndarray, np.ndarray, np.ndarray]:
  errors, before, converged, count = np.full(max_iters, np.nan, dtype), np.inf, False, 0
  while count < max_iters and not converged:
    state, error = step(state)
    errors[count], count = error, count + 1
    converged = tol > 0 and abs(before - error) <= tol * abs(1 - error)
    before = error
  if tol == 0.0:
    converged = np.isfinite(before)
  return state, errors, np.asarray(count, 'int32'), np.asarray(converged)


@jax.custom_jvp
def _forward_only(values: tuple) -> tuple:
  """The identity, whose reverse-mode derivative says why there is none."""
  return values


@_forward_only.defjvp
def _forward_only_jvp(primals: tuple, tangents: tuple) -> tuple:
  def refuse(*_: object) -> None:
    raise ValueError(
      'no reverse-mode gradient through tol > 0, whose number of sweeps is not known in advance; '
      'pass tol=0. for exactly max_iters sweeps'
    )

  return primals[0], jax.tree.map(
    lambda t: (
      t
      if t.dtype == jax.dtypes.float0
      else jax.custom_derivatives.linear_call(lambda _, t: t, refuse, (), t)
    ),
    tangents[0],
  )


def relative(lost: Array, energy: Array) -> Array:
  """sqrt(lost / energy), both squared norms; 0, with a finite gradient, where nothing is lost."""
  xp = namespace(lost, energy)
  share = lost / xp.where(energy == 0, 1, energy)
  return xp.where(share > 0, xp.sqrt(xp.where(share > 0, share, 1)), share * 0)


def check_iteration(max_iters: int, tol: float) -> tuple[int, float]:
  """A number of sweeps, at least 1, and the tolerance that stops them."""
  return integer(max_iters, 'max_iters'), tolerance(tol)
