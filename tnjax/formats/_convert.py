"""Exact conversions between formats, with ranks that follow from shapes and ranks alone.

There is no `to_cp`: an exact CP of low rank cannot be read off another format; fit one to
`x.full()` with `tnjax.cp_als`.
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.formats._cp import CP
from tnjax.formats._record import Record, check_format
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker
from tnjax.ops import fold, mode_product, qr, unfold, working_dtype


def to_tt(x: Record) -> TT:
  """The same tensor as a tensor train; only a Tucker costs arithmetic.

  Ranks: of a CP all R (diagonal cores); of a TR r_0 r_k (the first bond is carried along the
  train); of a Tucker what its core allows, min(R_1..R_k, R_{k+1}..R_N); a TT comes back as it is.

  Raises:
    ValueError: a `Shuffled`.

  >>> from tnjax import formats
  >>> x = formats.random(CP, jax.random.key(0), (3, 4, 5), 2)
  >>> y = to_tt(x)
  >>> y.ranks, bool(jnp.allclose(x.full(), y.full(), atol=1e-5))
  ((2, 2), True)
  """
  check_format(x, 'x')
  match x:
    case CP():
      return TT(_cp_cores(x))
    case TR(cores):
      return TT(_opened(cores))
    case Tucker(core, factors):
      cores = _core_cores(core)
      return TT(tuple(c if f is None else mode_product(c, f, 1) for c, f in zip(cores, factors)))
  return x


def to_tr(x: Record) -> TR:
  """The same tensor as a ring: that of `to_tt`, closed by r_0 = 1; a TR comes back as it is.

  Raises:
    ValueError: a `Shuffled`.

  >>> from tnjax import formats
  >>> to_tr(formats.random(formats.TT, jax.random.key(0), (3, 4, 5), (2, 3))).ranks
  (1, 2, 3)
  """
  return x if isinstance(x, TR) else TR(to_tt(x).cores)


def to_tucker(x: Record) -> Tucker:
  """The same tensor as a Tucker with orthonormal factors, the QR of every core's mode unfolding.

  Ranks min(I_n, R) for a CP and min(I_n, r_{n-1} r_n) for TT and TR; the core of that size is
  dense. 16-bit arrays are computed in float32; derivatives as of `orthogonalize`. A Tucker comes
  back as it is.

  Raises:
    ValueError: a `Shuffled`.

  >>> from tnjax import formats
  >>> x = formats.random(formats.TT, jax.random.key(0), (9, 8, 7), 2)
  >>> y = to_tucker(x)
  >>> y.ranks, bool(jnp.allclose(x.full(), y.full(), atol=1e-5))
  ((2, 4, 2), True)
  """
  check_format(x, 'x')
  return x if isinstance(x, Tucker) else _to_tucker(x)


@jax.jit
def _to_tucker(x: Record) -> Tucker:
  wide = x.cast(working_dtype(x.dtype))
  axis = wide.mode_axis
  factors, small = [], []
  for array in wide.mode_arrays:
    q, r = qr(unfold(array, axis))
    shape = (*array.shape[:axis], q.shape[1], *array.shape[axis + 1 :])
    factors.append(q)
    small.append(fold(r, axis, shape))
  core = wide.with_mode_arrays(small).full()
  return Tucker(core, tuple(factors)).cast(x.dtype)


def _cp_cores(x: CP) -> tuple[Array, ...]:
  """Diagonal slices; the first core is a row, the last a column of the weighted factors."""
  first, *rest = x.factors
  first = first * x.weights.astype(first.dtype)[None]
  if not rest:
    return (first.sum(axis=1)[None, :, None],)
  eye = jnp.eye(first.shape[1], dtype=first.dtype)
  middle = (f.T[:, :, None] * eye[:, None, :] for f in rest[:-1])
  return (first[None], *middle, rest[-1].T[:, :, None])


def _opened(cores: tuple[Array, ...]) -> tuple[Array, ...]:
  """A ring opened at its first bond, which the cores between pass on unchanged."""
  if len(cores) == 1:
    return (jnp.trace(cores[0], axis1=0, axis2=2)[None, :, None],)
  first, *middle, last = cores
  bond = first.shape[0]
  eye = jnp.eye(bond, dtype=first.dtype)
  kept = (
    (eye[:, None, None, :, None] * c[None, :, :, None, :]).reshape(
      bond * c.shape[0], c.shape[1], bond * c.shape[2]
    )
    for c in middle
  )
  return (
    first.transpose(1, 0, 2).reshape(1, first.shape[1], -1),
    *kept,
    last.transpose(2, 0, 1).reshape(-1, last.shape[1], 1),
  )


def _core_cores(core: Array) -> tuple[Array, ...]:
  """A dense array as a train: itself in the middle, identities that collect modes at its sides."""
  sizes = core.shape
  left = [math.prod(sizes[:k]) for k in range(core.ndim + 1)]
  right = [math.prod(sizes[k:]) for k in range(core.ndim + 1)]
  center = next(k for k in range(core.ndim) if left[k + 1] >= right[k + 1])
  cores = []
  for k, n in enumerate(sizes):
    shape = (min(left[k], right[k]), n, min(left[k + 1], right[k + 1]))
    square = core if k == center else jnp.eye(max(shape[0], shape[2]), dtype=core.dtype)
    cores.append(square.reshape(shape))
  return tuple(cores)
