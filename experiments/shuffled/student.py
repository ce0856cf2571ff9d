"""A network whose kernels are low-rank, drawn anew, and the size of one."""

import math
import re
import zlib

import jax
import numpy as np
from flax import nnx

import tnjax as tn

_BITS = 32  # of a stored entry


def fresh(model: nnx.Module, rules: tuple, key: jax.Array) -> nnx.Module:
  """A copy of an untrained network whose layers named by the rules have factors drawn at random.

  A kernel's root mean square is that of the dense one, so that both start alike.

  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> small = fresh(model, (('.*', tn.schemes.shuffled(ranks=2)),), jax.random.key(0))
  >>> small.layers[0].core_0.shape
  (8, 2)
  """
  dense = tn.compression.walk(model)
  small = tn.compression.skeleton(model, rules)
  for path, place in tn.compression.walk(small).items():
    if not place.factorised:
      continue
    std = float(np.sqrt(np.mean(np.square(dense[path].weights[0]))))
    layer_key = jax.random.fold_in(key, zlib.crc32(path.encode()))
    for name, value in place.layer.parametrization.init(layer_key, std).items():
      getattr(place.layer, name).set_value(value)
  return small


def out_of_reach(table: tn.compression.Report, ratio: float) -> list[str]:
  """Paths of the layers whose rank would be 0: rank 1 stores more than the ratio allows."""
  return [
    row.path for row in table.compressed if row.params > math.floor(row.dense_params / ratio + 1e-9)
  ]


def size(table: tn.compression.Report, entries: str, layers: str) -> dict:
  """What a row says of its layers, the permutation not counted, as its key suffices, and counted.

  An index of n entries takes n ceil(log2 n) bits; layers that share a permutation share it.
  """
  sizes = [row.dense_params for row in table.compressed]
  indices = {'td': [], 'rstd': sizes, 'rstd_shared': set(sizes)}[entries]
  bits = sum(n * math.ceil(math.log2(n)) for n in indices)
  return {
    'ranks': {row.path: list(row.ranks) for row in table.compressed},
    'left_dense': {
      row.path: row.reason
      for row in table.layers
      if row.scheme is None and re.fullmatch(layers, row.path)
    },
    'not_converged': sum(row.converged is False for row in table.compressed),
    'kernel_params': table.kernel_params,
    'realised_ratio': sum(sizes) / table.kernel_params,
    'network_ratio': table.dense_params / table.params,
    'index_bits': bits,
    'ratio_with_index': _BITS * sum(sizes) / (_BITS * table.kernel_params + bits),
  }
