"""The one record every decomposition returns, and its error."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.formats import Record, take
from tnjax.ops import (
  Value,
  choose,
  fixed,
  namespace,
  peak,
  resolved,
  squared_norm,
  value,
  varying_with,
)

_BLOCK = 2**20  # entries of the model that are rebuilt at a time


@value
class Decomposition(Value):
  """A tensor in a format, and how well it stands for the input.

  Prints in one line, and `==` compares all that it holds.

  Attributes:
    tensor: the format record; `tensor.full()` approximates the input.
    relative_error: ||x - tensor.full()|| / ||x||, true to 1 %; 0 for a zero tensor, NaN for input
      that is not finite. No gradient flows through it.
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


def direct(tensor: Record, x: Array, kept: Array | None = None) -> Decomposition:
  """Record of a direct method; `kept` as in `relative_error`."""
  error = relative_error(tensor, x, kept)
  xp = namespace(error)
  return Decomposition(
    tensor, error, xp.zeros((), 'int32'), xp.isfinite(error), xp.zeros(0, error.dtype)
  )


def relative_error(
  tensor: Record, x: Array, kept: Array | None = None, terms: Array | float = 0.0
) -> Array:
  """||x - tensor.full()|| / ||x||, never with the whole of `tensor.full()` in memory.

  Args:
    tensor: of x's shape.
    x: array in the working dtype.
    kept: ||x||^2 - ||x - tensor||^2, where the caller knows it (the energy of an orthogonal
      projection); the error follows from it, if that much is lost that rounding does not matter.
    terms: energy of the terms that `kept` was summed from, where they cancel.
  """
  tensor, x = fixed((tensor, x))
  if kept is None or tensor.dtype != x.dtype:  # rounded factors have another error
    return residual(tensor, x)
  total = squared_norm(x)
  lost = total - fixed(kept)
  xp = namespace(total)
  safe = resolved(lost, xp.maximum(total, fixed(terms)))
  return choose(safe, lambda: xp.sqrt(lost / total), lambda: residual(tensor, x))


def residual(tensor: Record, x: Array) -> Array:
  """The relative error, from the difference; norms at unit scale neither over- nor underflow."""
  xp = namespace(x)
  size = peak(x)
  size = xp.where(size == 0, 1, size)
  shape = x.shape
  if x.size <= _BLOCK or xp is np:  # the host decomposes small tensors
    norm = xp.sqrt(squared_norm(x, size))
    gap = xp.sqrt(squared_norm(x - tensor.full(), size))
  else:
    # Modes before `split` are fixed one index at a time, mode `split` is cut into ranges.
    split = next(k for k in range(x.ndim) if math.prod(shape[k + 1 :]) <= _BLOCK)
    rest = math.prod(shape[split + 1 :])
    width = max(1, min(shape[split], _BLOCK // rest))
    ranges = -(-shape[split] // width)
    rows = x.reshape(-1, shape[split], rest)

    def block(i: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
      lead, offset = i // ranges, (i % ranges) * width
      start = jnp.minimum(offset, shape[split] - width)
      part = tensor
      for index in jnp.unravel_index(lead, shape[:split]) if split else ():
        part = take(part, index, 0)
      index = start + jnp.arange(width)
      part = take(part, index, 0).full().reshape(width, rest)
      data = jax.lax.dynamic_slice(rows, (lead, start, 0), (1, width, rest))[0]
      fresh = (index >= offset)[:, None]  # the last range overlaps the one before
      data, gap = (jnp.where(fresh, a / size, 0) for a in (data, data - part))
      return sums[0] + jnp.sum(jnp.abs(data) ** 2), sums[1] + jnp.sum(jnp.abs(gap) ** 2)

    zero = varying_with(jnp.zeros((), x.real.dtype), x)
    norm, gap = map(jnp.sqrt, jax.lax.fori_loop(0, rows.shape[0] * ranges, block, (zero, zero)))
  return xp.where(norm == 0, 0, gap / xp.where(norm == 0, 1, norm))
