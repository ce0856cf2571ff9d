"""What every door does first: check the input, and bring it to a working dtype and scale."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.decompositions._record import Decomposition
from tnjax.ops import fixed, integer, namespace, numeric, peak, tolerance, working_dtype


def check_input(x: Array, name: str = 'x') -> Array:
  """The input as an array, or a ValueError that says what to pass instead."""
  return sized_input(x, name)[0]


def sized_input(x: Array, name: str = 'x') -> tuple[Array, float | None]:
  """`check_input`, and the size of the largest entry, which is not known of a traced tensor."""
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
  if isinstance(x, jax.core.Tracer):
    return x, None
  size = float(_peak(x))
  if not math.isfinite(size):
    raise ValueError(f'{name} of shape {x.shape} has NaN or infinite entries; clean it first')
  if size < float(jnp.finfo(x.dtype).tiny) and x.is_fully_addressable and np.asarray(x).any():
    raise ValueError(
      f'{name} of shape {x.shape} has no entry above {jnp.finfo(x.dtype).tiny:.1e}; XLA takes '
      'smaller ones for zero, so multiply it by a power of two first'
    )
  return x, size


_peak = jax.jit(peak)


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


def at_unit_scale(kernel: Callable[..., Decomposition]) -> Callable[..., Decomposition]:
  """The kernel for tensors of any scale, from one for a largest entry in [1/2, 1).

  The scale is a power of two, so nothing is rounded. Squares, products and sums of entries are then
  in range, and those of cotangents too. The tensor's first array takes the scale, and its last one
  what would bring the first near overflow.
  """

  @functools.wraps(kernel)
  def scaled(x: Array, *args: object, **options: object) -> Decomposition:
    exponent = _exponent(x)
    return _rescaled(kernel(_shifted(x, -exponent), *args, **options), exponent, x.dtype)

  return scaled


def in_range(
  kernel: Callable[..., Decomposition], size: float | None, x: Array, *args: object
) -> Decomposition:
  """`kernel(x, *args)`, at unit scale where squares of entries would leave the range.

  For the direct methods, which a copy of the tensor would slow down: none is made in the usual
  range, nor of a traced tensor. `size` as `sized_input` gives it.
  """
  if size is None:
    return kernel(x, *args)
  limits, exponent = jnp.finfo(x.dtype), math.frexp(size)[1]
  if limits.minexp // 2 < exponent < limits.maxexp // 3:
    return kernel(x, *args)
  return _rescaled(kernel(_shifted(x, -exponent), *args), jnp.asarray(exponent), x.dtype)


def _exponent(x: Array) -> Array:
  """Of the power of two above the largest entry; 0 for a tensor of zeros or that is not finite."""
  xp = namespace(x)
  size = fixed(peak(x)).astype(working_dtype(x.real.dtype))
  return xp.where(xp.isfinite(size) & (size > 0), xp.frexp(size)[1], 0)


def _rescaled(d: Decomposition, exponent: Array, dtype: jnp.dtype) -> Decomposition:
  (first, *rest), tree = jax.tree.flatten(d.tensor)
  xp, limits = namespace(first), jnp.finfo(dtype)
  most = xp.clip(exponent, limits.minexp // 4 * 3, limits.maxexp // 4 * 3) if rest else exponent
  arrays = [_shifted(first, most), *rest]
  if rest:
    arrays[-1] = _shifted(rest[-1], exponent - most)
  fits = xp.isfinite(peak(arrays[0])) & xp.isfinite(peak(arrays[-1]))
  error = xp.where(fits, d.relative_error, xp.inf).astype(d.relative_error.dtype)
  return dataclasses.replace(d, tensor=jax.tree.unflatten(tree, arrays), relative_error=error)


def _shifted(a: Array, exponent: Array) -> Array:
  """a times 2**exponent, exactly, in steps that are powers of two of the dtype."""
  xp = namespace(a)
  for part in (exponent // 2, exponent - exponent // 2):
    a = a * xp.ldexp(xp.ones((), working_dtype(a.real.dtype)), part).astype(a.dtype)
  return a


def relative(lost: Array, energy: Array) -> Array:
  """sqrt(lost / energy), both squared norms; 0, with a finite gradient, where nothing is lost."""
  xp = namespace(lost, energy)
  share = lost / xp.where(energy == 0, 1, energy)
  return xp.where(share > 0, xp.sqrt(xp.where(share > 0, share, 1)), share * 0)


def check_iteration(max_iters: int, tol: float) -> tuple[int, float]:
  """A number of sweeps, at least 1, and the tolerance that stops them."""
  return integer(max_iters, 'max_iters'), tolerance(tol)
