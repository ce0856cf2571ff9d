"""Array in, array out: the multilinear algebra everything else is written with.

Nothing in here knows of tensor formats, layers or models.
"""

from tnjax.ops._check import integer, integers, number, numeric, one_of, prng_key, tolerance
from tnjax.ops._dtype import inexact_dtype, working_dtype
from tnjax.ops._engine import (
  batched,
  choose,
  fixed,
  materialized,
  namespace,
  one_thread,
  varying_with,
)
from tnjax.ops._normal import host_normal, normal
from tnjax.ops._norms import peak, squared_norm
from tnjax.ops._orthonormal import orthonormal, qr
from tnjax.ops._permute import permutation
from tnjax.ops._products import (
  HIGHEST,
  khatri_rao,
  matmul,
  mode_product,
  multi_mode_product,
  tensordot,
)
from tnjax.ops._split import prime_factors, split_modes
from tnjax.ops._svd import left_singular, resolved, right_singular, truncated_svd
from tnjax.ops._triangular import lower_inverse
from tnjax.ops._unfold import fold, unfold
from tnjax.ops._value import Value, value

__all__ = [
  'HIGHEST',
  'Value',
  'batched',
  'choose',
  'fixed',
  'fold',
  'host_normal',
  'inexact_dtype',
  'integer',
  'integers',
  'khatri_rao',
  'left_singular',
  'lower_inverse',
  'materialized',
  'matmul',
  'mode_product',
  'multi_mode_product',
  'namespace',
  'normal',
  'number',
  'numeric',
  'one_of',
  'one_thread',
  'orthonormal',
  'peak',
  'permutation',
  'prime_factors',
  'prng_key',
  'qr',
  'resolved',
  'right_singular',
  'split_modes',
  'squared_norm',
  'tensordot',
  'tolerance',
  'truncated_svd',
  'unfold',
  'value',
  'varying_with',
  'working_dtype',
]
