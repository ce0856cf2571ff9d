"""Where TR-SVD opens a ring, and how it deals the vectors of its first cut to two bonds.

Opened at mode n, a ring is the left singular vectors of that mode's unfolding, dealt to the slots
(r_n, r_{n+1}) of core n, and a train through the other modes. Who sits where matters: k vectors in
a block of 1 x k slots leave a plain train, those in a square block a tensor whose two ends need
half the rank each. Which is best depends on the spectra at all bonds, so that it is tried.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax import Array

from tnjax.decompositions._prepare import largest
from tnjax.decompositions._record import relative_error
from tnjax.decompositions._tt_svd import chain
from tnjax.formats import TR
from tnjax.ops import fixed, left_singular, matmul, namespace, squared_norm
from tnjax.ranks import tt_caps

# Entries of all tensors that are tried at one opening; of more than `_SMALL`, only `_ENOUGH` are,
# among which the best of all was in 9 of 10 kernels and random tensors, and 7 % off at worst.
_SMALL, _LARGE, _ENOUGH = 2**19, 2**24, 8


def svd_ring(x: Array, ranks: tuple[int, ...]) -> tuple[tuple[Array, ...], Array | None]:
  """Cores of the best split, and ||x||^2 - ||x - ring||^2 where it is known.

  Slots that the split leaves empty are zero on one side of their bond and a fixed pattern on the
  other: the tensor does not depend on them, and alternating least squares can take them up.
  """
  xp = namespace(x)
  if x.ndim == 1:  # a ring of one core: X = trace of its slices
    eye = xp.eye(ranks[0], dtype=x.dtype) / ranks[0]
    return (eye[:, None, :] * x[None, :, None],), None
  found = [_opened(x, ranks, *opening) for opening in splits(x.shape, ranks)]
  _, kept, cores = _least(jax.tree.map(lambda *a: xp.stack(a), *found))
  return cores, kept


def best(f: Callable[..., tuple], xs: object) -> tuple:
  """Of `f(x)` for every x along the first axis of `xs`, what starts with the least error.

  One at a time; on NumPy, where nothing is stacked, shapes may differ.
  """
  leaves = jax.tree.leaves(xs)
  count, is_host = len(leaves[0]), namespace(*leaves) is np
  if count > 1 and not is_host:
    return _least(jax.lax.map(f, xs))
  found = [f(jax.tree.map(lambda a, i=i: a[i], xs)) for i in range(count)]
  if count == 1:
    return found[0]
  return min(found, key=lambda result: np.nan_to_num(result[0], nan=np.inf))


def _least(stacked: tuple) -> tuple:
  xp = namespace(stacked[0])
  index = xp.argmin(xp.where(xp.isnan(stacked[0]), xp.inf, stacked[0]))
  return jax.tree.map(lambda a: a[index], stacked)


def _opened(
  x: Array, ranks: tuple[int, ...], n: int, count: int, grids: np.ndarray
) -> tuple[Array, Array, tuple[Array, ...]]:
  """The best ring that is opened at mode n: its error, kept energy and cores."""
  xp, order = namespace(x), x.ndim
  x = x.transpose(*range(n, order), *range(n))
  ranks = (*ranks[n:], *ranks[:n])
  matrix = x.reshape(x.shape[0], -1)
  u, _ = left_singular(matrix, count)
  rows = matmul(u.conj().T, matrix)
  u, rows = xp.pad(u, ((0, 0), (0, 1))), xp.pad(rows, ((0, 1), (0, 0)))  # empty slots are zero

  def deal(grid: Array) -> tuple[Array, ...]:
    seated = grid < count
    if xp is np:
      grid, seated = (a[seated.any(1)][:, seated.any(0)] for a in (grid, seated))
    first, second = grid.shape
    inner = _inner(x.shape, ranks, first, second)
    rest = rows[grid].transpose(1, 2, 0)
    train = chain(rest, second, x.shape[1:], inner, first, merge=False)
    # Between empty slots the train may err as it likes: no projection, so the residual must tell.
    block = seated.any(0).sum() * seated.any(1).sum()
    kept = xp.where(seated.sum() == block, squared_norm(train[0]), xp.nan)
    cores = (u[:, grid].transpose(1, 0, 2), *train)
    return relative_error(TR(cores), x, kept), kept, seated, cores

  error, kept, seated, cores = best(deal, xp.asarray(grids))
  cores = _widened(cores, seated, ranks)
  return error, kept, (*cores[order - n :], *cores[: order - n])


def _inner(shape: Sequence[int], ranks: Sequence[int], first: int, second: int) -> tuple[int, ...]:
  """Ranks of the train through all modes but the first, of what `first` x `second` slots need."""
  sizes = list(shape[1:])
  sizes[0] *= second
  sizes[-1] *= first
  return tuple(tt_caps(sizes, ranks[2:]))


def _widened(cores: Sequence[Array], seated: Array, ranks: tuple[int, ...]) -> tuple[Array, ...]:
  """Cores of these ranks: what is new is zero in the first core or on the left of a bond."""
  xp, last = namespace(*cores), len(cores) - 1
  used = [np.arange(rank) < core.shape[0] for rank, core in zip(ranks, cores)]
  for bond in (0, 1):
    taken = seated.any(1 - bond)
    used[bond] = xp.pad(taken, (0, ranks[bond] - len(taken)))
  wide = []
  for k, core in enumerate(cores):
    ends = ranks[k], (*ranks, ranks[0])[k + 1]
    core = xp.pad(core, ((0, ends[0] - core.shape[0]), (0, 0), (0, ends[1] - core.shape[2])))
    size = fixed(largest(core)).astype(core.dtype)
    if k > 0:
      wave = xp.asarray(_waves(core.shape), core.dtype)
      core = xp.where(used[k][:, None, None], core, size * wave)
    if k == last:
      wave = xp.asarray(_waves(core.shape[::-1]).T, core.dtype)
      core = xp.where(used[0], core, size * wave)
    wide.append(core)
  return tuple(wide)


def _waves(shape: tuple[int, int, int]) -> np.ndarray:
  """Slices along the first axis that are orthonormal while they can be: cosines (DCT-II)."""
  n = shape[1] * shape[2]
  angle = np.arange(shape[0])[:, None] * (2 * np.arange(n)[None] + 1) * np.pi / (2 * n)
  return (np.sqrt(2 / n) * np.cos(angle)).reshape(shape)


@functools.cache
def splits(
  shape: tuple[int, ...], ranks: tuple[int, ...]
) -> tuple[tuple[int, int, np.ndarray], ...]:
  """What is tried: for each opening its mode, the number of vectors, and where they sit.

  One split alone where its ranks are enough for any tensor of this shape; for a matrix, too, as
  all that keep as many vectors are equal.

  Returns:
    (mode, count, grids) with grids (tried, slots of bond `mode`, slots of the next bond), whose
    entries are the vectors 0 ... count - 1, in order of their singular values, or `count`.

  >>> [(mode, count, len(grids)) for mode, count, grids in splits((5, 4, 6), (2, 2, 2))]
  [(0, 4, 2), (1, 4, 2), (2, 4, 2)]
  >>> splits((3, 4, 5), (1, 3, 5))[0][2].tolist()
  [[[0, 1, 2]]]
  """
  found = []
  for n in range(len(shape) if len(shape) > 2 else 1):
    sizes, bonds = (*shape[n:], *shape[:n]), (*ranks[n:], *ranks[:n])
    rest = math.prod(sizes[1:])
    count = min(sizes[0], rest, bonds[0] * bonds[1])
    missing, blocks = _sorted_blocks(sizes, bonds, count)
    if missing[0] == 0 or len(shape) == 2:
      return ((n, count, _seats(blocks[:1], count)),)
    tried = 1
    while tried < len(blocks):
      entries = math.prod(_box(blocks[: tried + 1])) * rest * (tried + 1)
      if entries > (_SMALL if tried >= _ENOUGH else _LARGE):
        break
      tried += 1
    found.append((n, count, _seats(blocks[:tried], count)))
  return tuple(found)


def _sorted_blocks(
  sizes: Sequence[int], bonds: Sequence[int], count: int
) -> tuple[list[float], list[tuple[int, int, str]]]:
  """Blocks of slots and NumPy's name of the order they are filled in, the most promising first.

  Of all blocks of one width, filled row by row, the tallest that the vectors fill contains the
  others, and likewise by columns: more ranks offer every block again or one that contains it.
  """
  first, second = (min(rank, count) for rank in bonds[:2])
  blocks = [(a, min(second, -(-count // a)), 'F') for a in range(1, first + 1)]
  blocks += [(min(first, -(-count // b)), b, 'C') for b in range(2, second + 1)]
  blocks = [(a, b, o) for a, b, o in blocks if not (o == 'C' and a == 1 or b == 1 and a < first)]

  def missing(a: int, b: int, _: str) -> float:
    """Shares of ranks that the train lacks for a tensor of this shape; 0 if it is exact for any."""
    whole = min(sizes[0], math.prod(sizes[1:]))
    needed = _inner(sizes, (a, b, *(math.prod(sizes),) * (len(sizes) - 2)), a, b)
    pairs = [(a * b, whole), *zip(bonds[2:], needed)]
    return sum(max(0.0, 1 - has / need) for has, need in pairs)

  order = sorted((missing(*block), block) for block in blocks)
  return [m for m, _ in order], [block for _, block in order]


def _box(blocks: Sequence[tuple[int, int, str]]) -> tuple[int, int]:
  return max(a for a, _, _ in blocks), max(b for _, b, _ in blocks)


def _seats(blocks: Sequence[tuple[int, int, str]], count: int) -> np.ndarray:
  """Grids of vector numbers, `count` where nobody sits."""
  grids = np.full((len(blocks), *_box(blocks)), count)
  for grid, (a, b, order) in zip(grids, blocks):
    grid[:a, :b] = np.minimum(np.arange(a * b), count).reshape((a, b), order=order)
  return grids
