"""tnjax: tensor-network compression of neural networks in JAX.

A method is a fold, a format and ranks; see `tnjax.schemes`. Arrays are decomposed by `tt_svd`,
`tr_svd`, `hosvd`, `hooi`, `cp_als` and `shuffled`.
"""

from tnjax import compression, contraction, decompositions, formats, models, nn, ops, ranks, schemes
from tnjax.compression import compress, export, load, save, to_dense
from tnjax.decompositions import (
  Decomposition,
  cp_als,
  hooi,
  hosvd,
  shuffled,
  tr_als,
  tr_svd,
  tt_round,
  tt_svd,
)
from tnjax.formats import CP, TR, TT, Shuffled, Tucker

__version__ = '0.1.0'

__all__ = [
  'CP',
  'TR',
  'TT',
  'Decomposition',
  'Shuffled',
  'Tucker',
  'compress',
  'compression',
  'contraction',
  'cp_als',
  'decompositions',
  'export',
  'formats',
  'hooi',
  'hosvd',
  'load',
  'models',
  'nn',
  'ops',
  'ranks',
  'save',
  'schemes',
  'shuffled',
  'to_dense',
  'tr_als',
  'tr_svd',
  'tt_round',
  'tt_svd',
]
