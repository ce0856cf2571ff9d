"""One row per format: all that schemes, layers and budgets ask of it."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tnjax import decompositions, formats, ranks
from tnjax.contraction import Network
from tnjax.schemes._fold import Fold
from tnjax.schemes._host import HOST, HOST_ALS
from tnjax.schemes._solver import Solver

Modes = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Format:
  """What there is to know of one format.

  Attributes:
    record: its class in `tnjax.formats`.
    solver: how factors are found where a scheme does not say.
    host: entries up to which a weight is decomposed on the host.
    partial: whether modes may stay whole, so that ranks are those of the `free` ones.
    cap: (shape, ranks, free) -> ranks, checked, and capped at what any tensor needs.
    caps: the same for many at once, an array per bond; None where no spectrum tells an error.
    matrices: (x, free) -> the unfolding at every bond, or None.
    within: (x, tol, free) -> ranks for a relative error, or None.
  """

  record: type[formats.Record]
  solver: Solver
  cap: Callable[[Modes, int | Sequence[int], Modes], tuple[int, ...]]
  host: int = HOST
  partial: bool = False
  caps: Callable[[Modes, Sequence[np.ndarray], Modes], list[np.ndarray]] | None = None
  matrices: Callable[[np.ndarray, Modes], list[np.ndarray]] | None = None
  within: Callable[[np.ndarray, float, Modes], tuple[int, ...]] | None = None

  @property
  def solvers(self) -> tuple[str, ...]:
    """Names of the decompositions that find this format."""
    found = decompositions.METHODS.items()
    return tuple(name for name, method in found if method.format is self.record)

  def runs(self, solver: Solver) -> bool:
    """Whether a solver finds this format."""
    return solver.name in self.solvers

  def free(self, fold: Fold) -> Modes:
    """The modes that get a factor; () where the format has no choice."""
    if not self.partial:
      return ()
    return tuple(k for k in range(len(fold.modes)) if k not in fold.kept)

  def network(self, fold: Fold, wanted: Sequence[int], free: Modes) -> Network:
    """The factors as labelled operands, in the order of the record's arrays."""
    if self.partial:
      given = dict(zip(free, wanted))
      wanted = [given.get(k) for k in range(len(fold.modes))]
    return self.record.network(fold.modes, dict(fold.axes), wanted)

  def unfoldings(self, x: np.ndarray, free: Modes) -> ranks.Unfoldings:
    """What a rank rule may ask of a folded weight."""
    largest: tuple[int, ...] = ()
    if self.matrices is not None:  # of a mode its size, of a train's bond what it can carry
      found = self.matrices(x, free)
      largest = tuple(m.shape[0] if self.partial else min(m.shape) for m in found)
    return ranks.Unfoldings(
      self.matrices and partial(self.matrices, x, free),
      largest,
      self.within and partial(self.within, x, free=free),
    )


def _bonds(x: np.ndarray, free: Modes) -> list[np.ndarray]:
  return [x.reshape(math.prod(x.shape[:k]), -1) for k in range(1, x.ndim)]


def _modes(x: np.ndarray, free: Modes) -> list[np.ndarray]:
  return [np.moveaxis(x, m, 0).reshape(x.shape[m], -1) for m in free]


def _within(name: str, choose: Callable, cap: Callable) -> Callable:
  """Ranks at which the direct method `name` keeps a relative error, tried out on the host."""

  def within(x: np.ndarray, tol: float, free: Modes) -> tuple[int, ...]:
    x = x / (np.abs(x).max() or 1)
    d = decompositions.by_tolerance(
      tol,
      lambda tol: cap(x.shape, choose(x, tol, free), free),
      lambda found: decompositions.solve(name, x, found, modes=free or None),
    )
    return tuple(d.tensor.ranks[m] for m in free) if free else d.tensor.ranks

  return within


def _cap_cp(shape: Modes, given: int | Sequence[int], free: Modes) -> tuple[int, ...]:
  return ranks.cp_ranks(shape, given)


def _cap_tk(shape: Modes, given: int | Sequence[int], free: Modes) -> tuple[int, ...]:
  return ranks.tucker_ranks(shape, given, free)


def _cap_tr(shape: Modes, given: int | Sequence[int], free: Modes) -> tuple[int, ...]:
  return ranks.tr_ranks(shape, given)


def _cap_tt(shape: Modes, given: int | Sequence[int], free: Modes) -> tuple[int, ...]:
  return ranks.tt_ranks(shape, given)


FORMATS = {
  'cp': Format(formats.CP, Solver('cp_als', init='hosvd'), _cap_cp, HOST_ALS),
  'tk': Format(
    formats.Tucker,
    Solver('hooi'),
    _cap_tk,
    partial=True,
    caps=lambda shape, given, free: ranks.tucker_caps(shape, given, free, np.minimum),
    matrices=_modes,
    within=_within('hosvd', decompositions.tucker_ranks_for, _cap_tk),
  ),
  'tr': Format(
    formats.TR,
    Solver('tr_als'),
    _cap_tr,
    HOST_ALS,
    within=_within('tr_svd', lambda x, tol, free: decompositions.tr_ranks_for(x, tol), _cap_tr),
  ),
  'tt': Format(
    formats.TT,
    Solver('tt_svd'),
    _cap_tt,
    caps=lambda shape, given, free: ranks.tt_caps(shape, given, np.minimum),
    matrices=_bonds,
    within=_within('tt_svd', lambda x, tol, free: decompositions.tt_ranks_for(x, tol), _cap_tt),
  ),
}
