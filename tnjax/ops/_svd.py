"""Truncated singular value decomposition that never forms a square factor of the long side.

Four routes to the leading singular vectors of the short side of a matrix, cheapest first:

- `randomized`: two products per power iteration with a thin random matrix (Halko et al. 2011);
- `gram`: eigenvectors of A^H A, one large product. It squares the condition number: directions
  whose singular value is below sqrt(eps) of the largest are lost;
- `qr`: a triangular factor of the long side, a block of rows at a time, then its SVD;
- `full`: LAPACK's SVD at once, for matrices that are small anyway.

`auto` takes the Gram route where what is cut off is itself so large that the loss does not matter,
which is only known once the eigenvalues are there, and the QR route otherwise.

Derivatives divide by differences of squared singular values; where two coincide, the term is set
to zero, which is exact for every function that does not depend on the choice of basis inside the
repeated subspace, and finite for the others.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.custom_batching import custom_vmap

from tnjax.ops._check import integer, one_of, prng_key
from tnjax.ops._engine import choose, namespace
from tnjax.ops._normal import host_normal
from tnjax.ops._products import matmul
from tnjax.ops._thin import noise, reciprocal, thin_left, upright

METHODS = ('auto', 'gram', 'qr', 'full', 'randomized')
_SMALL = 2**12  # entries up to which one call of LAPACK beats every other route
_BLOCK = 2**17  # entries of a block of rows in the QR route
_POWER = 2  # power iterations of the randomized range finder
_OVERSAMPLE = 10


def left_singular(
  a: Array, rank: int, method: str = 'auto', key: Array | None = None
) -> tuple[Array, Array]:
  """Leading left singular vectors and values of a matrix (m, n).

  Returns `u` of shape (m, rank) and `s` of shape (min(m, n),), descending (of shape (rank,) by the
  randomized route); `s` is accurate to eps of the largest one, but to sqrt(eps) where 'gram' or
  'auto' took the Gram route. The largest entry of every column of `u` is real and positive, so the
  result does not depend on the LAPACK in use.

  Args:
    a: real or complex matrix.
    rank: number of vectors.
    method: 'auto', 'gram', 'qr', 'full' or 'randomized', as the module describes. The squared
      error of the projection onto `u` exceeds the least one by at most about 1 % by 'auto'.
    key: PRNG key of 'randomized'; with it, 'auto' takes that route for ranks far below both sides.

  Raises:
    ValueError: not a matrix, `rank` outside 1..min(m, n), an unknown method or no key for it.

  >>> a = jnp.diag(jnp.array([3., 2., 1.]))[:, :2]
  >>> u, s = left_singular(a, 1)
  >>> u.ravel().tolist(), s.tolist()
  ([1.0, 0.0, 0.0], [3.0, 2.0])
  """
  return _solve(a, rank, 'left', method, key)


def right_singular(
  a: Array, rank: int, method: str = 'auto', key: Array | None = None
) -> tuple[Array, Array]:
  """Leading right singular vectors `v` (n, rank) and values: `a @ v @ v^H` approximates `a`.

  As `left_singular` of a^H, without transposing a.

  >>> a = jnp.ones((1000, 2))
  >>> v, s = right_singular(a, 1)
  >>> bool(jnp.allclose(a @ v @ v.T, a, atol=1e-5))
  True
  """
  return _solve(a, rank, 'right', method, key)


def truncated_svd(
  a: Array, rank: int, method: str = 'auto', key: Array | None = None
) -> tuple[Array, Array, Array]:
  """Best rank-`rank` approximation `(u * s) @ vh` of a matrix (m, n) (Eckart and Young 1936).

  Shapes (m, rank), (rank,), (rank, n). Rows of `vh` that belong to zero singular values are zero.
  Arguments as in `left_singular`.

  >>> a = jnp.outer(jnp.arange(1., 4.), jnp.ones(5))
  >>> u, s, vh = truncated_svd(a, 1)
  >>> bool(jnp.allclose((u * s[None]) @ vh, a, atol=1e-5))
  True
  """
  u, s = left_singular(a, rank, method, key)
  s = s[:rank]
  return u, s, reciprocal(s, s > noise(a) * s[0])[:, None] * matmul(u.conj().T, a)


def resolved(lost: Array, total: Array) -> Array:
  """Whether `lost`, a difference of energies near `total`, can be trusted in this precision.

  Squared norms and Gram matrices are rounded by some eps of the total energy, so a part of it
  means something (to 1 % of its root, or better) where it exceeds 1e4 eps of the whole: relative
  errors above 0.035 in float32 and 1.5e-6 in float64. False for energies that over- or underflow.

  >>> [resolved(jnp.array(lost), jnp.array(1.)).item() for lost in (0.1, 1e-4)]
  [True, False]
  """
  limits = jnp.finfo(total.dtype)
  in_range = (total < limits.max) & (total > limits.tiny / limits.eps)
  return in_range & (lost >= 1e4 * limits.eps * total)


def _check(a: Array, rank: int, method: str, key: Array | None) -> None:
  if a.ndim != 2 or not 1 <= integer(rank, 'rank', least=None) <= min(a.shape):
    raise ValueError(f'rank={rank} does not fit a matrix of shape {a.shape}')
  one_of(method, 'method', METHODS)
  if key is not None:
    prng_key(key)
  if method == 'randomized' and key is None:
    raise ValueError("key=None: method='randomized' needs key=jax.random.key(seed)")


def _solve(a: Array, rank: int, side: str, method: str, key: Array | None) -> tuple[Array, Array]:
  _check(a, rank, method, key)
  short = min(a.shape)
  if method == 'auto':
    if a.size <= _SMALL:
      method = 'full'
    elif key is not None and 4 * (rank + _OVERSAMPLE) < short:
      method = 'randomized'
  sketch = None
  if method == 'randomized':
    width = min(rank + _OVERSAMPLE, short)
    length = a.shape[1] if side == 'left' else a.shape[0]
    draw = host_normal if namespace(a) is np else jax.random.normal
    sketch = draw(key, (length, width), a.dtype)
  if namespace(a) is np:
    vectors, s = _ROUTES[method](a, rank, side, sketch)
    return upright(vectors), s
  return _solver(rank, side, method)(a, sketch)


@functools.cache
def _solver(rank: int, side: str, method: str) -> Callable:
  """`solve(a, sketch) -> vectors, s`, differentiable, and batched as one call."""

  @custom_vmap
  def batched(a: Array, sketch: Array | None) -> tuple[Array, Array]:
    """Any number of leading dimensions; the choice of `auto` is made once for all of them."""
    vectors, s = _ROUTES[method](a, rank, side, sketch)
    return upright(vectors), s

  @batched.def_vmap
  def _(size: int, in_batched: Sequence, *args: Array | None) -> tuple:
    args = jax.tree.map(
      lambda x, b: x if b else jnp.broadcast_to(x[None], (size, *x.shape)), args, tuple(in_batched)
    )
    return batched(*args), (True, True)

  together = jax.jit(batched)  # one program, also where the caller is not traced

  @jax.custom_jvp
  def solve(a: Array, sketch: Array | None) -> tuple[Array, Array]:
    return together(a, sketch)

  @solve.defjvp
  def _(primals: tuple, tangents: tuple) -> tuple:
    a, da = primals[0], tangents[0]
    if side == 'right':
      a, da = a.conj().T, da.conj().T
    (u, s), (du, ds) = jax.jvp(thin_left, (a,), (da,))
    kept = rank if method == 'randomized' else len(s)
    return (u[:, :rank], s[:kept]), (du[:, :rank], ds[:kept])

  return solve


def _full(a: Array, rank: int, side: str, _: None) -> tuple[Array, Array]:
  u, s, vh = namespace(a).linalg.svd(a, full_matrices=False)
  return (u if side == 'left' else _adjoint(vh))[..., :rank], s


def _qr(a: Array, rank: int, side: str, _: None) -> tuple[Array, Array]:
  """SVD of the triangular factor of the long side."""
  if namespace(a) is np:
    tall = _adjoint(a) if _short_is_left(a, side) else a
    triangular = np.linalg.qr(tall, mode='r')
  else:
    triangular = _triangular(a, side)
  _, s, vh = namespace(a).linalg.svd(triangular)
  return _of_side(a, _adjoint(vh)[..., :rank], side), s


def _triangular(a: Array, side: str) -> Array:
  """The triangular factor, updated with one block of the long side at a time."""
  axis = a.ndim - (1 if _short_is_left(a, side) else 2)
  long, short = a.shape[axis], min(a.shape[-2:])
  size = min(long, max(_BLOCK // short, 4 * short))

  def rows(start: Array | int, count: int) -> Array:
    block = jax.lax.dynamic_slice_in_dim(a, start, count, axis)
    return block if axis == a.ndim - 2 else _adjoint(block)

  first = long % size or size
  triangular = jnp.linalg.qr(rows(0, first), mode='r')
  if first < short:  # the first few rows alone have a factor of another shape
    padding = [(0, 0)] * (a.ndim - 2) + [(0, short - first), (0, 0)]
    triangular = jnp.pad(triangular, padding)

  def update(i: Array, triangular: Array) -> Array:
    stacked = jnp.concatenate([triangular, rows(first + i * size, size)], axis=-2)
    return jnp.linalg.qr(stacked, mode='r')

  return jax.lax.fori_loop(0, (long - first) // size, update, triangular)


def _gram(a: Array, rank: int, side: str, _: None) -> tuple[Array, Array]:
  basis, s, _ = _eigen(a, rank, side)
  return _of_side(a, basis, side), s


def _auto(a: Array, rank: int, side: str, _: None) -> tuple[Array, Array]:
  basis, s, safe = _eigen(a, rank, side)
  across = basis.shape[-2] != a.shape[-2 if side == 'left' else -1]
  if across:  # all that is kept must stand far above the noise, so that a division orthonormalises
    eps = jnp.finfo(s.dtype).eps
    safe &= s[..., rank - 1] ** 2 > 1e3 * eps * (s**2).sum(axis=-1)

  def fast() -> tuple[Array, Array]:
    if not across:
      return basis, s
    return matmul(a if side == 'left' else _adjoint(a), basis) / s[..., None, :rank], s

  return choose(safe.all(), fast, lambda: _qr(a, rank, side, None))


def _eigen(a: Array, rank: int, side: str) -> tuple[Array, Array, Array]:
  """Basis of the short side by its Gram matrix, singular values, and whether they are safe."""
  gram = matmul(a, _adjoint(a)) if _short_is_left(a, side) else matmul(_adjoint(a), a)
  xp = namespace(a)
  values, vectors = xp.linalg.eigh(gram)
  values = xp.maximum(values[..., ::-1], 0)
  safe = resolved(values[..., rank:].sum(-1), values.sum(-1))
  return vectors[..., ::-1][..., :rank], xp.sqrt(values), safe


def _randomized(a: Array, rank: int, side: str, sketch: Array) -> tuple[Array, Array]:
  """Subspace iteration from a random sketch (Halko, Martinsson and Tropp 2011, algorithm 4.4)."""
  xp = namespace(a)
  forth = (lambda x: matmul(a, x)) if side == 'left' else (lambda x: matmul(_adjoint(a), x))
  back = (lambda x: matmul(_adjoint(a), x)) if side == 'left' else (lambda x: matmul(a, x))
  basis = xp.linalg.qr(forth(sketch))[0]
  for _ in range(_POWER):
    basis = xp.linalg.qr(forth(xp.linalg.qr(back(basis))[0]))[0]
  # basis^H a = (R W^H)^H with back(basis) = W R
  u, s, _ = xp.linalg.svd(_adjoint(xp.linalg.qr(back(basis), mode='r')))
  return matmul(basis, u[..., :rank]), s[..., :rank]


def _of_side(a: Array, basis: Array, side: str) -> Array:
  """A basis of the short side's subspace, carried over to the long side if that was asked for."""
  if basis.shape[-2] == a.shape[-2 if side == 'left' else -1]:
    return basis
  return namespace(a).linalg.qr(matmul(a if side == 'left' else _adjoint(a), basis))[0]


def _short_is_left(a: Array, side: str) -> bool:
  """Which side to work on: the short one, or the one asked for where they are equal."""
  return a.shape[-2] < a.shape[-1] or (a.shape[-2] == a.shape[-1] and side == 'left')


def _adjoint(a: Array) -> Array:
  return a.conj().swapaxes(-1, -2)


_ROUTES = {'full': _full, 'gram': _gram, 'qr': _qr, 'auto': _auto, 'randomized': _randomized}
