"""Array in, `Decomposition` out. One algorithm a file; every door checks its input eagerly and
runs one jitted kernel (`shuffled` that of its method), so that `f(x)` and `jax.jit(f)(x)` agree to
the bit.
"""

from tnjax.decompositions._cp_als import cp_als
from tnjax.decompositions._cp_correct import cp_correct, sensitivity
from tnjax.decompositions._prepare import check_input
from tnjax.decompositions._record import Decomposition
from tnjax.decompositions._shuffled import shuffled
from tnjax.decompositions._solve import METHODS, Method, solve
from tnjax.decompositions._tolerance import (
  by_tolerance,
  tr_ranks_for,
  tt_ranks_for,
  tucker_ranks_for,
)
from tnjax.decompositions._tr_svd import tr_als, tr_svd
from tnjax.decompositions._tt_round import tt_round
from tnjax.decompositions._tt_svd import tt_svd
from tnjax.decompositions._tucker import hooi, hosvd

__all__ = [
  'METHODS',
  'Decomposition',
  'Method',
  'by_tolerance',
  'check_input',
  'cp_als',
  'cp_correct',
  'hooi',
  'hosvd',
  'sensitivity',
  'shuffled',
  'solve',
  'tr_als',
  'tr_ranks_for',
  'tr_svd',
  'tt_ranks_for',
  'tt_round',
  'tt_svd',
  'tucker_ranks_for',
]
