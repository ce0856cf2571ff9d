"""Ranks that depend on the weight: frozen rules, resolved on the host before anything is bound.

A rule sees a weight as its `Unfoldings`; `NEEDS` is the part of them that the format must have.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from tnjax.ops import number
from tnjax.ranks._evbmf import evbmf
from tnjax.ranks._spectrum import energy_rank, spectrum

_LEAST = 8  # ranks that EVBMF leaves alone, and never falls below


@dataclasses.dataclass(frozen=True)
class Unfoldings:
  """What a format shows a rule of one folded weight.

  Attributes:
    matrices: the unfolding at every bond, in the order of the format's ranks, that of a mode with
      the mode as its rows; None where no unfolding belongs to a bond (CP, TR).
    largest: the rank of every bond that loses nothing.
    within: ranks for a relative error of the whole tensor; None where no direct method has them.
  """

  matrices: Callable[[], Sequence[np.ndarray]] | None
  largest: tuple[int, ...]
  within: Callable[[float], tuple[int, ...]] | None


@dataclasses.dataclass(frozen=True)
class Tolerance:
  """The ranks a direct method needs for a relative error of at most `eps` of the whole weight.

  As `tol=` of `tt_svd`, `tr_svd` and `hosvd`; an iterative solver starts from that result and ends
  no worse. For every format but CP.

  >>> import tnjax as tn
  >>> w = np.outer(np.arange(1., 9.), np.ones(6)).astype('float32')
  >>> tn.schemes.svd(ranks=Tolerance(1e-3)).resolve(w).ranks
  (1,)
  """

  NEEDS: ClassVar[str] = 'within'

  eps: float

  def __post_init__(self) -> None:
    """Refuses what is no relative error."""
    _settle(self, 'eps', lambda x: x >= 0, 'of at least 0, a relative error')

  def resolve(self, weight: Unfoldings) -> tuple[int, ...]:
    """Ranks for the weight."""
    return weight.within(self.eps)


@dataclasses.dataclass(frozen=True)
class Energy:
  """The smallest rank of every unfolding that keeps the fraction `share` of its squared norm.

  For TT and Tucker. The whole tensor keeps at least 1 - d (1 - share) for d unfoldings.

  >>> import tnjax as tn
  >>> w = np.diag(np.array([3., 2., 1.], 'float32'))
  >>> [tn.schemes.svd(ranks=Energy(share)).resolve(w).ranks for share in (0.5, 0.9, 1.0)]
  [(1,), (2,), (3,)]
  """

  NEEDS: ClassVar[str] = 'matrices'

  share: float

  def __post_init__(self) -> None:
    """Refuses what is no fraction."""
    _settle(self, 'share', lambda x: 0 < x <= 1, 'in (0, 1]')

  def resolve(self, weight: Unfoldings) -> tuple[int, ...]:
    """Ranks for the weight."""
    spectra = (spectrum(m) for m in weight.matrices())
    return tuple(energy_rank(s, self.share) for s in spectra)


@dataclasses.dataclass(frozen=True)
class Evbmf:
  """Weakened ranks of empirical variational Bayes, int(R0 - weaken (R0 - R)), as MUSCO takes them.

  R0 is the size of a channel mode, R the number of components of its unfolding that stand out
  from the noise (`evbmf`); 1 is the extreme rank, 0 no compression. Where nothing stands out, or
  R0 is at most 8, R0 stays; no result is below 8 (Gusak et al. 2019, arXiv 1903.09973; the guards
  are the released package's). For `tk` and `svd`, of real weights.

  >>> import tnjax as tn
  >>> rng = np.random.RandomState(0)
  >>> w = (rng.randn(32, 10) @ rng.randn(10, 96) + 0.1 * rng.randn(32, 96)).astype('float32')
  >>> [tn.schemes.svd(ranks=Evbmf(weaken=x)).resolve(w).ranks for x in (0.0, 0.5, 1.0)]
  [(32,), (21,), (10,)]
  """

  NEEDS: ClassVar[str] = 'matrices'

  weaken: float = 0.8

  def __post_init__(self) -> None:
    """Refuses what is no weakening factor."""
    _settle(self, 'weaken', lambda x: 0 <= x <= 1, 'in [0, 1]')

  def resolve(self, weight: Unfoldings) -> tuple[int, ...]:
    """Ranks for the weight."""
    return tuple(map(self._weakened, weight.matrices(), weight.largest))

  def _weakened(self, matrix: np.ndarray, largest: int) -> int:
    if largest <= _LEAST:
      return largest
    extreme = evbmf(matrix).significant or largest
    return max(_LEAST, int(largest - self.weaken * (largest - extreme)))


Rule = Tolerance | Energy | Evbmf


def _settle(rule: object, name: str, fits: Callable[[float], bool], meaning: str) -> None:
  """A number, as the plain float that JSON can hold."""
  value = number(getattr(rule, name), f'{type(rule).__name__}: {name}', meaning, fits)
  object.__setattr__(rule, name, value)
