"""A scheme is a fold, a format and ranks; the methods of the papers are rows of one table.

>>> import tnjax as tn
>>> p = tn.schemes.r_tt(rate=0.1, order=3).bind((3, 3, 64, 64))
>>> p.ranks, p.num_params
((11, 11, 9), 3777)
"""

from tnjax.schemes._fit import Fit, fit_all, needs_program
from tnjax.schemes._fold import Fold, spatial_labels
from tnjax.schemes._formats import FORMATS, Format
from tnjax.schemes._held import Held, rebuild
from tnjax.schemes._joint import Kernel, expand, expansion, pick, stack_shape
from tnjax.schemes._parametrization import Forecast, Parametrization
from tnjax.schemes._scheme import Scheme, check_scheme
from tnjax.schemes._shuffle import draw_index, on_host
from tnjax.schemes._solver import Solver
from tnjax.schemes._table import (
  NAMES,
  by_name,
  cp,
  cp4,
  joint,
  r_cp,
  r_tk,
  r_tt,
  shuffled,
  svd,
  tk,
  tr,
  tt,
)

__all__ = [
  'FORMATS',
  'NAMES',
  'Fit',
  'Fold',
  'Forecast',
  'Format',
  'Held',
  'Kernel',
  'Parametrization',
  'Scheme',
  'Solver',
  'by_name',
  'check_scheme',
  'cp',
  'cp4',
  'draw_index',
  'expand',
  'expansion',
  'fit_all',
  'needs_program',
  'joint',
  'on_host',
  'pick',
  'r_cp',
  'r_tk',
  'r_tt',
  'rebuild',
  'shuffled',
  'spatial_labels',
  'stack_shape',
  'svd',
  'tk',
  'tr',
  'tt',
]
