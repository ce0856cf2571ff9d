"""Columns of factor matrices at norm one, and powers that are safe to differentiate at zero."""

from jax import Array

from tnjax.ops import fixed, namespace


def unit_columns(a: Array) -> tuple[Array, Array]:
  """Columns of norm 1 (or 0) and their norms, for columns near unit scale."""
  xp = namespace(a)
  energy = xp.sum(xp.abs(a) ** 2, axis=0)
  safe = xp.sqrt(xp.where(energy > 0, energy, 1))  # a gradient at zero columns stays finite
  return a / safe.astype(a.dtype)[None], xp.where(energy > 0, safe, 0)


def safe_unit_columns(a: Array) -> tuple[Array, Array]:
  """Columns of norm 1 (or 0) and their norms, whose squares may be out of range."""
  xp = namespace(a)
  size = fixed(xp.max(xp.abs(a), axis=0))
  size = xp.where(size > 0, size, 1)
  a = a / size[None].astype(a.dtype)
  norm = power(xp.sum(xp.abs(a) ** 2, axis=0), 0.5)
  return a / xp.where(norm > 0, norm, 1)[None].astype(a.dtype), norm * size


def power(a: Array, exponent: float) -> Array:
  """a**exponent of non-negative a, 0 with gradient 0 at 0."""
  xp = namespace(a)
  return xp.where(a > 0, xp.where(a > 0, a, 1) ** exponent, 0)
