"""A sweep of TR-ALS on the host: the normal equations from small products, no design matrix.

The compiled sweep forms the subchain of all other cores, r^2 times as large as the rest of the
tensor, and multiplies by it. For small tensors on one core it is much cheaper to contract x with
one core after the other, and to get the Gram matrix from those of the single cores.
"""

from collections.abc import Sequence

import numpy as np

from tnjax.decompositions._least_squares import damped_solve
from tnjax.decompositions._prepare import relative


def host_sweep(
  x: np.ndarray, energy: np.ndarray, cores: Sequence[np.ndarray]
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
  """One update of every core, in order, and the relative error after the last one."""
  cores, order = list(cores), len(cores)
  transfers = [_transfer(core) for core in cores]
  for n, (a, size, b) in enumerate(core.shape for core in cores):
    others = [(n + k) % order for k in range(1, order)]
    gram = np.eye(b * b, dtype=x.dtype)
    for k in others:
      gram = gram @ transfers[k]
    gram = gram.reshape(b, b, a, a).transpose(2, 0, 3, 1).reshape(a * b, a * b)
    rhs = _contracted(x, cores, n, others)
    old = cores[n].transpose(1, 0, 2).reshape(size, a * b)
    new = damped_solve(gram, rhs, old)
    cores[n] = new.reshape(size, a, b).transpose(1, 0, 2)
    transfers[n] = _transfer(cores[n])
  # ||X - G D^T||^2 = ||X||^2 - 2 Re <X D*, G> + <G gram, G>
  found = 2 * np.vdot(rhs, new) - np.vdot(new, new @ gram)
  return tuple(cores), relative(energy - found.real, energy)


def _transfer(core: np.ndarray) -> np.ndarray:
  """sum_i G[:, i, :] (x) conj(G[:, i, :]), which takes pairs of bonds (r r') to (s s')."""
  r, n, s = core.shape
  rows = core.transpose(1, 0, 2).reshape(n, r * s)
  return (rows.T @ rows.conj()).reshape(r, s, r, s).transpose(0, 2, 1, 3).reshape(r * r, s * s)


def _contracted(
  x: np.ndarray, cores: Sequence[np.ndarray], n: int, others: Sequence[int]
) -> np.ndarray:
  """x times the conjugates of all cores but n: (I_n, r_n r_{n+1}).

  The chain of the others is walked from the end with the larger mode, which shrinks x most.
  """
  if not others:
    bond = np.eye(cores[n].shape[0], dtype=x.dtype)
    return x[:, None] * bond.reshape(1, -1)
  mirrored = x.shape[others[-1]] > x.shape[others[0]]
  order = others[::-1] if mirrored else others
  chain = [cores[k].conj().transpose(2, 1, 0) if mirrored else cores[k].conj() for k in order]
  first, *rest = chain
  outer, size, bond = first.shape
  part = x.transpose(*order, n).reshape(size, -1)
  part = first.transpose(0, 2, 1).reshape(-1, size) @ part
  for core in rest:
    bond, size, after = core.shape
    matrix = core.transpose(2, 0, 1).reshape(after, bond * size)
    part = matrix @ part.reshape(outer, bond * size, -1)
  part = part.reshape(outer, -1, x.shape[n])  # bonds (b, a), or (a, b) where mirrored
  bonds = (0, 1) if mirrored else (1, 0)
  return part.transpose(2, *bonds).reshape(x.shape[n], -1)
