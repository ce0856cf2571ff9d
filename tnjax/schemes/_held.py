"""A weight that is held as factors already, and the small tensor that decides how it compresses."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
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
  free: tuple[int, ...]
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

  @property
  def core_shape(self) -> tuple[int, ...]:
    """Shape of the core, from the ranks alone."""
    sizes = self.parametrization.fold.mode_shape
    return tuple(cut or size for cut, size in zip(self._cuts, sizes))

  @functools.cached_property
  def core(self) -> tuple[np.ndarray, Bases]:
    """The core, in double precision, and every mode's basis (size, rank), None for a whole one.

    A mode is left whole that Tucker keeps, or where a basis would be no smaller; and the outputs of
    a matrix of two factors, of which MUSCO decomposes the second as it is.
    """
    own = self.parametrization
    arrays = _widened(own, self.factors)
    with one_thread():
      bases = tuple(
        None if cut is None else np.linalg.qr(_matrix(own, arrays, mode))[0]
        for mode, cut in zip(own.fold.modes, self._cuts)
      )
      return _projected(own, arrays, bases), bases

  def error_of(self, p: Stored, factors: Mapping[str, Array]) -> float:
    """||W - W'|| / ||W|| for other factors of the same fold and format; nothing is rebuilt.

    Both cores in a basis that spans both, so that small differences are not those of large numbers.
    """
    own, bases = self.parametrization, []
    ours, theirs = _widened(own, self.factors), _widened(p, factors)
    with one_thread():
      for mode, cut in zip(own.fold.modes, self._cuts):
        both = cut and np.hstack([_matrix(own, ours, mode), _matrix(p, theirs, mode)])
        bases.append(None if cut is None else np.linalg.qr(both)[0])
      whole = _projected(own, ours, bases)
      lost = np.linalg.norm(whole - _projected(p, theirs, bases))
    return float(lost / (np.linalg.norm(whole) or 1.0))

  @property
  def _cuts(self) -> tuple[int | None, ...]:
    """The rank of every mode's basis, None where the mode stays whole."""
    p = self.parametrization
    net, modes = p.arrays_network, p.fold.modes
    matrix = len(modes) == len(net.names) == 2
    cuts = []
    for k, mode in enumerate(modes):
      own = net.labels[_holder(net, mode)]
      rank = net.size([x for x in own if x not in mode])
      kept = (p.free and k not in p.free) or (matrix and k == 1)
      cuts.append(None if kept or rank >= net.size(mode) else rank)
    return tuple(cuts)

  def again(self, p: Stored) -> bool:
    """Whether another parametrization is of the same fold and format, and no shuffle."""
    own = self.parametrization
    return not own.fold.opaque and (own.fold, own.format) == (p.fold, p.format)

  @property
  def _first(self) -> Array:
    return self.factors[self.parametrization.arrays_network.names[0]]


def _holder(net: Network, mode: tuple[str, ...]) -> int:
  """The operand that has a mode's labels."""
  return next(i for i, own in enumerate(net.labels) if mode[0] in own)


def _widened(p: Stored, factors: Mapping[str, Array]) -> dict[str, np.ndarray]:
  """The factors in double precision, in the shapes of their network."""
  found = {}
  for name, shape in p.arrays_network.shapes().items():
    array = np.asarray(factors[name])
    found[name] = array.astype('complex128' if np.iscomplexobj(array) else 'float64').reshape(shape)
  return found


def _matrix(p: Stored, arrays: Mapping[str, np.ndarray], mode: tuple[str, ...]) -> np.ndarray:
  """The factor of a mode, with the mode as its rows and the bonds as its columns."""
  net = p.arrays_network
  at = _holder(net, mode)
  order = [net.labels[at].index(x) for x in mode]
  rest = [i for i in range(len(net.labels[at])) if i not in order]
  return arrays[net.names[at]].transpose(*order, *rest).reshape(net.size(mode), -1)


def _projected(p: Stored, arrays: Mapping[str, np.ndarray], bases: Sequence) -> np.ndarray:
  """The weight as a tensor in orthonormal bases of its modes, None for one that stays whole."""
  net, found = p.arrays_network, dict(arrays)
  labels, sizes, output = list(net.labels), dict(net.sizes), []
  for k, (mode, basis) in enumerate(zip(p.fold.modes, bases)):
    if basis is None:
      output.append(mode)
      continue
    at = _holder(net, mode)
    rest = tuple(x for x in net.labels[at] if x not in mode)
    labels[at], sizes[f'q{k}'] = (f'q{k}', *rest), basis.shape[1]
    output.append((f'q{k}',))
    small = basis.conj().T @ _matrix(p, arrays, mode)
    found[net.names[at]] = small.reshape([sizes[x] for x in labels[at]])
  small = Network(net.names, tuple(labels), tuple(sizes.items()))
  full = contract(small, found, [x for mode in output for x in mode])
  return full.reshape([math.prod(sizes[x] for x in mode) for mode in output])


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
