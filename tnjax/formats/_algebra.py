"""Sums, multiples and elementwise products of tensors in one format, without densifying.

Sum and product are the same walk over two records: bonds meet in a direct sum (block-diagonal
slices, ranks add) or in a Kronecker product (ranks multiply), modes elementwise.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from tnjax.formats._cp import CP
from tnjax.formats._prepare import (
  cast,
  check_format,
  check_shapes,
  mode_arrays,
  with_mode_arrays,
)
from tnjax.formats._record import Record
from tnjax.formats._shuffled import Shuffled
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker
from tnjax.ops import multi_mode_product


def add(a: Record, b: Record) -> Record:
  """The sum a + b of two tensors of one shape and format; their ranks add.

  TT and TR cores are block-diagonal (Oseledets 2011, section 4.1), CP factors side by side, a
  Tucker core block-diagonal between factors side by side. A mode that a partial Tucker leaves
  alone stays so: its core is dense there, and a factor the other one has is multiplied in.

  Raises:
    ValueError: different shapes or formats, or a `Shuffled`.

  >>> from tnjax.formats import TT, random
  >>> import jax
  >>> a, b = (random(TT, jax.random.key(i), (3, 4, 5), (2, 3)) for i in (0, 1))
  >>> (a + b).ranks, bool(jnp.allclose((a + b).full(), a.full() + b.full(), atol=1e-5))
  ((4, 6), True)
  """
  return _combine(a, b, _direct_sum)


def hadamard(a: Record, b: Record) -> Record:
  """The elementwise product of two tensors of one shape and format; their ranks multiply.

  Slices of TT and TR cores, rows of CP and Tucker factors, and a Tucker core meet in Kronecker
  products (Oseledets 2011, section 4.2; Lee and Cichocki 2018). Partial Tucker as in `add`.

  Raises:
    ValueError: different shapes or formats, or a `Shuffled`.

  >>> from tnjax.formats import CP, random
  >>> import jax
  >>> a, b = (random(CP, jax.random.key(i), (3, 4, 5), 2) for i in (0, 1))
  >>> (a * b).ranks, bool(jnp.allclose((a * b).full(), a.full() * b.full(), atol=1e-5))
  ((4,), True)
  """
  return _combine(a, b, _kronecker)


def scale(a: Record, c: complex | Array) -> Record:
  """The multiple c a by a scalar, of the dtype JAX gives to their product.

  The first core takes it, or the weights of a CP; these are real, so that a complex c goes into
  the first factor. Any format, `Shuffled` included.

  Raises:
    ValueError: `c` is not a scalar.

  >>> from tnjax.formats import TR
  >>> x = TR((jnp.ones((2, 3, 5)), jnp.ones((5, 4, 2))))
  >>> float((-2 * x).full()[0, 0])
  -20.0
  """
  if jnp.shape(c) != ():
    raise ValueError(f'c has shape {jnp.shape(c)}; it needs (), a scalar')
  if isinstance(a, Shuffled):
    return dataclasses.replace(a, tensor=scale(a.tensor, c))
  check_format(a, 'a')
  a = cast(a, jnp.result_type(a.dtype, c))
  if isinstance(a, CP) and not jnp.iscomplexobj(c):
    return dataclasses.replace(a, weights=a.weights * jnp.asarray(c, a.weights.dtype))
  c = jnp.asarray(c, a.dtype)
  if isinstance(a, Tucker):
    return dataclasses.replace(a, core=a.core * c)
  (first, *rest), _ = mode_arrays(a)
  return with_mode_arrays(a, (first * c, *rest))


def _combine(a: Record, b: Record, join: Callable[[Array, Array, Sequence[int]], Array]) -> Record:
  """Joins the arrays of two records pairwise along the axes that are bonds."""
  check_format(a, 'a')
  check_format(b, 'b')
  if type(a) is not type(b):
    raise ValueError(
      f'b is a {type(b).__name__} and a is a {type(a).__name__}; bring both to one format first, '
      f'such as with to_tt'
    )
  check_shapes(a, b)
  match a:
    case TT(cores):
      last = len(cores) - 1
      axes = [(0,) * (k > 0) + (2,) * (k < last) for k in range(len(cores))]
      return TT(tuple(join(x, y, bonds) for x, y, bonds in zip(cores, b.cores, axes)))
    case TR(cores):
      return TR(tuple(join(x, y, (0, 2)) for x, y in zip(cores, b.cores)))
    case CP(weights, factors):
      joined = tuple(join(x, y, (1,)) for x, y in zip(factors, b.factors))
      return CP(join(weights, b.weights, (0,)), joined)
    case Tucker():
      pairs = list(zip(a.factors, b.factors))
      bonds = [k for k, pair in enumerate(pairs) if all(f is not None for f in pair)]
      core = join(_multiplied(a, bonds), _multiplied(b, bonds), bonds)
      factors = (join(*pair, (1,)) if k in bonds else None for k, pair in enumerate(pairs))
      return Tucker(core, tuple(factors))


def _multiplied(x: Tucker, bonds: Sequence[int]) -> Array:
  """The core, times the factors of all modes but `bonds`."""
  return multi_mode_product(x.core, [None if k in bonds else f for k, f in enumerate(x.factors)])


def _direct_sum(a: Array, b: Array, axes: Sequence[int]) -> Array:
  """`a` and `b` as the two diagonal blocks along `axes`; their sum where there are none."""
  after = [(0, n if i in axes else 0) for i, n in enumerate(b.shape)]
  before = [(n if i in axes else 0, 0) for i, n in enumerate(a.shape)]
  return jnp.pad(a, after) + jnp.pad(b, before)


def _kronecker(a: Array, b: Array, axes: Sequence[int]) -> Array:
  """Kronecker product along `axes`, elementwise along the others."""
  rows = [n for i, size in enumerate(a.shape) for n in ((size, 1) if i in axes else (size,))]
  columns = [n for i, size in enumerate(b.shape) for n in ((1, size) if i in axes else (size,))]
  shape = [m * n if i in axes else m for i, (m, n) in enumerate(zip(a.shape, b.shape))]
  return (a.reshape(rows) * b.reshape(columns)).reshape(shape)
