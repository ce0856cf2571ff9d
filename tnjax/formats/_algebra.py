"""Sums, multiples and elementwise products of tensors in one format, without densifying.

Sum and product are the same walk over two records: bonds meet in a direct sum (block-diagonal
slices, ranks add) or in a Kronecker product (ranks multiply), modes elementwise.
"""

from jax import Array

from tnjax.formats._blocks import direct_sum, kronecker
from tnjax.formats._record import Record, check_format, paired


def add(a: Record, b: Record) -> Record:
  """The sum a + b of two tensors of one shape and format; their ranks add.

  TT and TR cores are block-diagonal (Oseledets 2011, section 4.1), CP factors side by side, a
  Tucker core block-diagonal between factors side by side. A mode that a partial Tucker leaves
  alone stays so: its core is dense there, and a factor the other one has is multiplied in.

  Raises:
    ValueError: different shapes or formats, or a `Shuffled`.

  >>> from tnjax.formats import TT, random
  >>> import jax
  >>> import jax.numpy as jnp
  >>> a, b = (random(TT, jax.random.key(i), (3, 4, 5), (2, 3)) for i in (0, 1))
  >>> (a + b).ranks, bool(jnp.allclose((a + b).full(), a.full() + b.full(), atol=1e-5))
  ((4, 6), True)
  """
  return paired(a, b, direct_sum)


def hadamard(a: Record, b: Record) -> Record:
  """The elementwise product of two tensors of one shape and format; their ranks multiply.

  Slices of TT and TR cores, rows of CP and Tucker factors, and a Tucker core meet in Kronecker
  products (Oseledets 2011, section 4.2; Lee and Cichocki 2018). Partial Tucker as in `add`.

  Raises:
    ValueError: different shapes or formats, or a `Shuffled`.

  >>> from tnjax.formats import CP, random
  >>> import jax
  >>> import jax.numpy as jnp
  >>> a, b = (random(CP, jax.random.key(i), (3, 4, 5), 2) for i in (0, 1))
  >>> (a * b).ranks, bool(jnp.allclose((a * b).full(), a.full() * b.full(), atol=1e-5))
  ((4,), True)
  """
  return paired(a, b, kronecker)


def scale(a: Record, c: complex | Array) -> Record:
  """The multiple c a by a scalar, of the dtype JAX gives to their product.

  The first core takes it, or the weights of a CP; these are real, so that a complex c goes into
  the first factor. Any format, `Shuffled` included.

  Raises:
    ValueError: `c` is not a scalar.

  >>> import jax.numpy as jnp
  >>> from tnjax.formats import TR
  >>> x = TR((jnp.ones((2, 3, 5)), jnp.ones((5, 4, 2))))
  >>> float((-2 * x).full()[0, 0])
  -20.0
  """
  check_format(a, 'a', (Record,))
  return a * c
