"""Tensor formats: frozen pytree records of the arrays that stand for a tensor, and their algebra.

Every format has `full()`, `shape`, `ndim`, `ranks`, `num_params`, `dtype`, `astype` and `conj`, and
is a value: it compares, prints in one line and turns into a NumPy array. All but `Shuffled` have a
static `network(modes, sizes, ranks)` that gives their operands' names and labels without any array.

The algebra never forms the dense tensor: `add`, `scale` and `hadamard` (also as operators, `a / 2`
and `sum` included), `inner` and `norm`, `mode_product` and `take`, `orthogonalize`, and the exact
conversions `to_tt`, `to_tr` and `to_tucker`. A CP cannot be read off another format exactly; fit
one with `cp_als`.
"""

from tnjax.formats._algebra import add, hadamard, scale
from tnjax.formats._balance import balance, random_factors
from tnjax.formats._convert import to_tr, to_tt, to_tucker
from tnjax.formats._cp import CP
from tnjax.formats._inner import inner, norm
from tnjax.formats._match import factor_match_score
from tnjax.formats._modes import mode_product, take
from tnjax.formats._orthogonal import orthogonalize
from tnjax.formats._random import random
from tnjax.formats._ranks import given_ranks
from tnjax.formats._record import Record
from tnjax.formats._shuffled import Shuffled, shuffle, unshuffle
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker

__all__ = [
  'CP',
  'TR',
  'TT',
  'Record',
  'Shuffled',
  'Tucker',
  'add',
  'balance',
  'factor_match_score',
  'given_ranks',
  'hadamard',
  'inner',
  'mode_product',
  'norm',
  'orthogonalize',
  'random',
  'random_factors',
  'scale',
  'shuffle',
  'take',
  'to_tr',
  'to_tt',
  'to_tucker',
  'unshuffle',
]
