"""Array in, array out: the multilinear algebra everything else is written with.

Nothing in here knows of tensor formats, layers or models.
"""

from tnjax.ops._dtype import working_dtype
from tnjax.ops._engine import batched, choose, fixed, materialized, namespace, one_thread
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

__all__ = [
  'HIGHEST',
  'batched',
  'choose',
  'fixed',
  'fold',
  'host_normal',
  'khatri_rao',
  'left_singular',
  'lower_inverse',
  'materialized',
  'matmul',
  'mode_product',
  'multi_mode_product',
  'namespace',
  'normal',
  'one_thread',
  'orthonormal',
  'peak',
  'permutation',
  'prime_factors',
  'qr',
  'resolved',
  'right_singular',
  'split_modes',
  'squared_norm',
  'tensordot',
  'truncated_svd',
  'unfold',
  'working_dtype',
]
