"""Tensor formats: frozen pytree records of the arrays that stand for a tensor.

Every format has `full()`, `shape`, `ranks`, `num_params` and `dtype`. All but `Shuffled` have a
static `network(modes, sizes, ranks)` that gives their operands' names and labels without any array.
"""

from tnjax.formats._balance import balance, random_factors
from tnjax.formats._cp import CP
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
  'balance',
  'random_factors',
  'shuffle',
  'unshuffle',
]
