"""A weight that is held as factors already, and the small tensor that decides how it compresses."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Protocol

import jax
import numpy as np
from jax import Array

from tnjax.contraction import Network, contract
from tnjax.ops import one_thread, working_dtype
from tnjax.schemes._fold import Fold
from tnjax.schemes._host import HOST, at_hand, beside, cast

Bases = tuple[np.ndarray | None, ...]


class Stored(Protocol):
  """What is asked of a `Parametrization` here."""

  fold: Fold
  format: str
  arrays_network: Network

  def dense(self, factors: Mapping[str, Array]) -> Array:
    """The weight that factors stand for."""


@dataclasses.dataclass(frozen=True, eq=False)
class Held:
  """The weight that factors stand for; an array to NumPy, rebuilt only where that is asked for.

  Decomposed anew in the same fold and format, it need not be rebuilt: with an orthonormal basis Q
  of every mode that its factors span, it is a core with these matrices along its modes, of equal
  norm, and so is every low-rank approximation of it. So the core is decomposed, and what is found
  takes the bases in, mode by mode; for Tucker-2 that is the recompression of MUSCO (Gusak et al.
  2019, arXiv 1903.09973), here with factors made orthonormal first, after which the core's error is
  the weight's.

  Attributes:
    parametrization: what the factors are.
    factors: arrays by name.

  >>> import tnjax as tn
  >>> p = tn.schemes.tk(ranks=3).bind((3, 3, 8, 8))
  >>> held = Held(p, p.init(jax.random.key(0)))
  >>> core, bases = held.core
  >>> core.shape, [None if q is None else q.shape for q in bases]
  ((3, 3, 3, 3), [None, None, (8, 3), (8, 3)])
  >>> bool(np.allclose(np.linalg.norm(core), np.linalg.norm(held), rtol=1e-5))
  True
  """

  parametrization: Stored
  factors: Mapping[str, Array]

  @property
  def shape(self) -> tuple[int, ...]:
    """Of the weight."""
    return self.parametrization.fold.shape

  @property
  def size(self) -> int:
    """Entries of the weight."""
    return math.prod(self.shape)

  @property
  def dtype(self) -> np.dtype:
    """Of the factors."""
    return self._first.dtype

  @property
  def sharding(self) -> jax.sharding.Sharding:
    """Of the factors."""
    return self._first.sharding

  @property
  def finite(self) -> bool:
    """Whether all factors are."""
    return all(np.isfinite(np.asarray(a)).all() for a in self.factors.values())

  @functools.cached_property
  def dense(self) -> Array:
    """The weight."""
    return rebuild(self.parametrization, self.factors)

  def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
    """The weight, as `np.asarray` asks for it."""
    return np.array(self.dense, dtype=dtype, copy=copy)

  @functools.cached_property
  def core(self) -> tuple[np.ndarray, Bases]:
    """The core, in double precision, and every mode's basis (size, rank), None for a whole one.

    A mode is left whole that lies in one array with others (those that Tucker keeps), or where a
    basis would be no smaller; and the outputs of a matrix of two factors, of which MUSCO decomposes
    the second as it is.
    """
    net, modes = self.parametrization.arrays_network, self.parametrization.fold.modes
    wide = 'complex128' if np.iscomplexobj(self._first) else 'float64'
    arrays = {n: np.asarray(a).astype(wide) for n, a in self.factors.items() if n in net.names}
    labels, sizes, bases = list(net.labels), dict(net.sizes), []
    output: list[tuple[str, ...]] = []
    for k, mode in enumerate(modes):
      at = next(i for i, own in enumerate(net.labels) if mode[0] in own)
      name, rest = net.names[at], tuple(x for x in labels[at] if x not in mode)
      alone = sum(other[0] in net.labels[at] for other in modes) == 1
      rows, columns = net.size(mode), math.prod(sizes[x] for x in rest)
      second = len(modes) == len(net.names) == 2 and k == 1
      if not alone or columns >= rows or second:
        bases.append(None)
        output.append(mode)
        continue
      order = [labels[at].index(x) for x in (*mode, *rest)]
      shaped = arrays[name].reshape([sizes[x] for x in labels[at]]).transpose(order)
      basis, triangle = np.linalg.qr(shaped.reshape(rows, columns))
      bases.append(basis)
      output.append((f'q{k}',))
      labels[at], sizes[f'q{k}'] = (f'q{k}', *rest), len(triangle)
      arrays[name] = triangle.reshape([sizes[x] for x in labels[at]])
    small = Network(net.names, tuple(labels), tuple(sizes.items()))
    full = contract(small, arrays, [x for mode in output for x in mode])
    return full.reshape([math.prod(sizes[x] for x in mode) for mode in output]), tuple(bases)

  def again(self, p: Stored) -> bool:
    """Whether another parametrization is of the same fold and format, and no shuffle."""
    own = self.parametrization
    return not own.fold.opaque and (own.fold, own.format) == (p.fold, p.format)

  @property
  def _first(self) -> Array:
    return self.factors[self.parametrization.arrays_network.names[0]]


def rebuild(p: Stored, factors: Mapping[str, Array]) -> Array:
  """`Parametrization.dense` of factors that are to be converted: on the host where `fit` would be.

  >>> import tnjax as tn
  >>> p = tn.schemes.tk(ranks=2).bind((3, 3, 4, 4))
  >>> factors = p.init(jax.random.key(0))
  >>> bool(np.allclose(rebuild(p, factors), p.dense(factors), atol=1e-6))
  True
  """
  if math.prod(p.fold.shape) > HOST or not all(map(at_hand, factors.values())):
    return p.dense(factors)
  some = factors[p.network.names[0]]
  wide = working_dtype(some.dtype)
  with one_thread():
    full = p.dense(cast({n: np.asarray(a) for n, a in factors.items()}, wide))
  return beside(some, full.astype(some.dtype))
