"""How fast the singular values of kernels fall, with their entries in place and shuffled."""

import math
from collections.abc import Sequence

import jax
import numpy as np

import tnjax as tn

UNFOLDINGS = ('h | w S T', 'h w | S T', 'h w S | T')  # the bonds of a train on (h, w, S, T)
_ENERGY = 0.9


def spectra(kernels: Sequence[np.ndarray], key: jax.Array) -> list[dict]:
  """One record per shape of kernel, unfolding, and arrangement of the entries.

  Args:
    kernels: (h, w, S, T) each.
    key: of the permutations, one for all kernels of a size.

  Returns:
    `values`: singular values over the kernel's norm, averaged over the kernels of a shape;
    `rank`: how many of them hold 90 % of the energy, as a fraction of all.
  """
  shapes = {}
  for kernel in kernels:
    shapes.setdefault(kernel.shape, []).append(np.asarray(kernel, 'float64'))
  data = jax.random.key_data(key)
  found = []
  for shape, same in shapes.items():
    index = np.asarray(tn.schemes.draw_index(data, math.prod(shape)))
    for shuffled in (False, True):
      moved = [kernel.ravel()[index].reshape(shape) if shuffled else kernel for kernel in same]
      for place, name in enumerate(UNFOLDINGS, 1):
        values = np.mean([decay(kernel, place) for kernel in moved], axis=0)
        about = {'shape': list(shape), 'unfolding': name, 'shuffled': shuffled}
        energy = np.cumsum(values**2) / np.sum(values**2)
        rank = float((1 + np.searchsorted(energy, _ENERGY)) / len(values))
        found.append(about | {'rank': rank, 'values': values.round(5).tolist()})
  return found


def decay(kernel: np.ndarray, place: int) -> np.ndarray:
  """Singular values of the unfolding with the first `place` modes as rows, over the norm.

  >>> decay(np.ones((3, 3, 2, 2)), 2).round(6).tolist()
  [1.0, 0.0, 0.0, 0.0]
  """
  matrix = kernel.reshape(math.prod(kernel.shape[:place]), -1)
  return np.linalg.svd(matrix, compute_uv=False) / (np.linalg.norm(matrix) or 1.0)
