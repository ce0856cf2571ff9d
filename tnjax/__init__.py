"""tnjax: tensor-network compression of neural networks in JAX.

A method is a fold, a format and ranks; see `tnjax.schemes`. Arrays are decomposed by `tt_svd`,
`tr_svd`, `hosvd`, `hooi`, `cp_als` and `shuffled`.
"""

from tnjax import contraction, decompositions, formats, ops, ranks, schemes
from tnjax.decompositions import (
  Decomposition,
  cp_als,
  hooi,
  hosvd,
  shuffled,
  tr_als,
  tr_svd,
  tt_svd,
)
from tnjax.formats import CP, TR, TT, Shuffled, Tucker

__version__ = '0.1.0'
