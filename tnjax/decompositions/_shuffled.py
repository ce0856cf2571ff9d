"""Randomly shuffled decomposition: any method, behind a seeded permutation of the entries."""

import inspect
import math
from collections.abc import Callable, Sequence

import jax
from jax import Array

from tnjax.decompositions._prepare import check_input
from tnjax.decompositions._record import Decomposition
from tnjax.formats import Shuffled, shuffle
from tnjax.ops import integers, permutation, prng_key


def shuffled(
  x: Array,
  method: Callable[..., Decomposition],
  key: Array,
  shape: Sequence[int] | None = None,
  **options: object,
) -> Decomposition:
  """Decomposes x after all its entries were permuted at random (RsTD, Li et al. 2019).

  Args:
    x: array of any order.
    method: a decomposition of this library, such as `tt_svd`.
    key: PRNG key of the permutation; where `method` takes a key too, the key is split and each
      gets one half.
    shape: shape into which the permuted entries are folded; default x.shape.
    **options: passed on to `method`, such as `ranks=8`.

  Returns:
    The method's `Decomposition` with a `Shuffled` tensor; the permutation is orthogonal, so the
    relative error carries over.

  Raises:
    ValueError: a shape with another number of entries than x, or whatever `method` raises.

  >>> import tnjax as tn
  >>> x = jax.random.normal(jax.random.key(0), (4, 5, 6))
  >>> d = shuffled(x, tn.tt_svd, key=jax.random.key(1), ranks=30)  # full rank
  >>> d.tensor.shape, bool(d.relative_error < 1e-5)
  ((4, 5, 6), True)
  """
  x, key = check_input(x), prng_key(key)
  shape = x.shape if shape is None else integers(shape, 'shape')
  if math.prod(shape) != x.size:
    raise ValueError(
      f'shape={shape} has {math.prod(shape)} entries; x, of shape {x.shape}, has {x.size}'
    )
  if 'key' in inspect.signature(method).parameters:
    key, options['key'] = jax.random.split(key)
  index = permutation(key, x.size)
  d = method(shuffle(x, index, shape), **options)
  tensor = Shuffled(d.tensor, index, x.shape)
  return Decomposition(tensor, d.relative_error, d.num_iters, d.converged, d.errors)
