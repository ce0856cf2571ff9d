"""Inner product of any two formats, and the norm, without densifying."""

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.formats._algebra import scale
from tnjax.formats._convert import to_tt
from tnjax.formats._cp import CP
from tnjax.formats._orthogonal import orthogonalize
from tnjax.formats._record import Record, check_format, check_shapes
from tnjax.formats._shuffled import Shuffled
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker
from tnjax.ops import HIGHEST, multi_mode_product, peak, qr, working_dtype

_Operand = tuple[Array, tuple]


def inner(a: Record, b: Record) -> Array:
  """The inner product sum conj(a) b of two tensors of one shape, `jnp.vdot` of their `full()`.

  The formats may differ. One sweep over the modes: O(d n r^3) for two trains, O(d n R^2) for two
  CPs, O(d n r^5) for two rings. 16-bit arrays are summed in float32.

  Raises:
    ValueError: different shapes, or a `Shuffled`.

  >>> from tnjax import formats
  >>> a = formats.random(formats.TT, jax.random.key(0), (3, 4, 5), 2)
  >>> b = formats.random(formats.CP, jax.random.key(1), (3, 4, 5), 3)
  >>> bool(jnp.allclose(inner(a, b), jnp.vdot(a.full(), b.full()), atol=1e-4))
  True
  """
  check_format(a, 'a')
  check_format(b, 'b')
  check_shapes(a, b)
  return _inner(a, b)


def norm(a: Record) -> Array:
  """The Frobenius norm, real, to rounding relative to the terms that make up the tensor.

  Not the root of `inner(a, a)`, which would lose half the digits of a nearly cancelling sum such
  as `norm(a - b)`: QR factors are swept to one core, whose norm is the tensor's. O(d n r^3) for a
  TT; CP and TR go through `to_tt`, O(d n R^3) and O(d n r^6). The gradient at zero is zero.

  >>> from tnjax import formats
  >>> x = formats.random(formats.TT, jax.random.key(0), (3, 4, 5), 2)
  >>> bool(jnp.allclose(norm(x), jnp.linalg.norm(x.full().ravel()), rtol=1e-5))
  True
  """
  if isinstance(a, Shuffled):
    return norm(a.tensor)
  check_format(a, 'a')
  return _norm(a)


@jax.jit
def _inner(a: Record, b: Record) -> Array:
  result = jnp.result_type(a.dtype, b.dtype)
  conjugate = jax.tree.map(jnp.conj, a.cast(working_dtype(result)))
  core_a, modes_a = _operands(conjugate, 'a')
  core_b, modes_b = _operands(b.cast(working_dtype(result)), 'b')
  groups = [core_a, *(x + y for x, y in zip(modes_a, modes_b)), core_b]
  groups = [g for g in groups if g]
  carry: list[_Operand] = []
  for k, group in enumerate(groups):
    later = {label for rest in groups[k + 1 :] for _, labels in rest for label in labels}
    carry = [_meet(carry + group, later)]
  return carry[0][0].astype(result)


def _operands(x: Record, side: str) -> tuple[list[_Operand], list[list[_Operand]]]:
  """A Tucker's core, and the array of every mode; labels are k for mode k, (side, k) for bonds."""
  order = len(x.shape)
  match x:
    case TT(cores) | TR(cores):
      end = 0 if isinstance(x, TR) else order
      bonds = [(side, k) for k in (*range(order), end)]
      return [], [[(c, (bonds[k], k, bonds[k + 1]))] for k, c in enumerate(cores)]
    case CP(weights, (first, *rest)):
      factors = [first * weights.astype(first.dtype)[None], *rest]
      return [], [[(f, (k, (side, 0)))] for k, f in enumerate(factors)]
    case Tucker(core, factors):
      labels = tuple(k if f is None else (side, k) for k, f in enumerate(factors))
      modes = [[] if f is None else [(f, (k, (side, k)))] for k, f in enumerate(factors)]
      return [(core, labels)], modes


def _meet(operands: list[_Operand], later: set) -> _Operand:
  """Contracts a few operands, keeping the labels that later ones carry."""
  numbers: dict = {}
  arguments = []
  for array, labels in operands:
    arguments += [array, [numbers.setdefault(x, len(numbers)) for x in labels]]
  kept = tuple(x for x in numbers if x in later)
  output = [numbers[x] for x in kept]
  return jnp.einsum(*arguments, output, optimize='optimal', precision=HIGHEST), kept


@jax.custom_jvp
def _norm(x: Record) -> Array:
  return _norm_kernel(x)


@_norm.defjvp
def _norm_jvp(primals: tuple, tangents: tuple) -> tuple:
  """d ||x|| = Re <x / ||x||, dx>: no derivative of a QR, none of a root at zero."""
  (x,), (dx,) = primals, tangents
  size = _norm(x)
  unit = scale(x, jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0))
  _, slope = jax.jvp(lambda y: _inner(unit, y), (x,), (dx,))
  return size, slope.real.astype(size.dtype)


@jax.jit
def _norm_kernel(x: Record) -> Array:
  wide = x.cast(working_dtype(x.dtype))
  if isinstance(wide, Tucker):
    center = multi_mode_product(wide.core, [f if f is None else qr(f)[1] for f in wide.factors])
  else:
    center = orthogonalize(to_tt(wide), 0).cores[0]
  largest = peak(center)
  largest = jnp.where(largest == 0, 1, largest)  # squares stay in range
  size = largest * jnp.linalg.norm((center / largest).ravel())
  return size.astype(jnp.finfo(x.dtype).dtype)
