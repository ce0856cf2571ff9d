"""Inputs, tnjax's side, and errors.

Inputs are seeded NumPy, and for the iterative methods as hard as trained kernels: for CP a planted
tensor of the cell's rank plus noise of the same norm, for HOOI normal entries falling slowly along
every mode. Below such errors, of .7 to .9, a planted Tucker tensor would be found in one sweep. For
TT-SVD, whose time does not depend on them, entries are uniform in [0, 1); for rounding a TT plus
another of a tenth of its norm.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import tnjax as tn
from experiments.benchmarks.bounds import core_shapes
from experiments.benchmarks.cells import Cell

_NOISE = 1.0  # of a planted CP, as a share of its norm
_FALL = 0.25  # entries of a mode fall as 1, 2**-_FALL, 3**-_FALL, ...
_SMALL = 0.1  # norm of the train that rounding should drop
_SEED = 0
_CHUNK = 1 << 22  # entries turned to float64 at a time

Input = tuple[np.ndarray, ...]  # a tensor each; for rounding the cores of one TT


@dataclasses.dataclass(frozen=True)
class Side:
  """One implementation, ready to be timed on one cell.

  Attributes:
    name: as in the report.
    run: one run, complete when it returns.
    records: the tensors that a result of `run` stands for.
    prepare: called before every run, outside the clock.
    compile_seconds: spent before the first run, where there is something to compile.
  """

  name: str
  run: Callable[[], object]
  records: Callable[[object], list]
  prepare: Callable[[], None] = lambda: None
  compile_seconds: float | None = None


def inputs(cell: Cell) -> Input:
  """The data of a cell, the same in every process.

  >>> from experiments.benchmarks.cells import select
  >>> [x.shape for x in inputs(select('tiny_tucker2')[0])]
  [(3, 3, 4, 8), (3, 3, 8, 8)]
  """
  rng = np.random.default_rng(_SEED)
  if cell.method == 'tt_round':
    return _sum_of_trains(cell, rng)
  make = {'cp_als': _planted_cp, 'hooi': _falling, 'tt_svd': _uniform}[cell.method]
  return tuple(make(cell, s, r, rng) for s, r in zip(cell.shapes, cell.ranks))


def on_device(cell: Cell, data: Input, dtype: str = 'float32') -> object:
  """What tnjax's side takes: an array, a stack of them, a tuple of them, or a TT."""
  arrays = tuple(jnp.asarray(x, dtype) for x in data)
  if cell.method == 'tt_round':
    return tn.TT(arrays)
  if cell.batched:
    return jnp.stack(arrays)
  return arrays[0] if len(arrays) == 1 else arrays


def available(cell: Cell) -> bool:
  """Whether this version of tnjax has the method."""
  return hasattr(tn, cell.method)


def tnjax_run(cell: Cell, method: str | None = None) -> Callable:
  """The function that is timed, of `on_device(...)`; `method` is that of `tn.tt_round`."""
  if cell.method == 'tt_round':
    return lambda x: tn.tt_round(x, ranks=cell.ranks[0], method=method or 'gram')
  doors = [_door(cell, ranks) for ranks in cell.ranks]
  if cell.batched:
    return jax.vmap(doors[0])
  if len(doors) == 1:
    return doors[0]
  return lambda xs: tuple(door(x) for door, x in zip(doors, xs))


def tnjax_records(cell: Cell, result: object) -> list:
  """The format records inside what `tnjax_run(cell)` returned."""
  if cell.batched:
    return [jax.tree.map(lambda a, i=i: a[i], result.tensor) for i in range(len(cell.shapes))]
  results = result if isinstance(result, tuple) else (result,)
  return [getattr(r, 'tensor', r) for r in results]


def cp_start(shape: Sequence[int], rank: int) -> list[np.ndarray]:
  """The factors from which tnjax's run starts: `tn.cp_als` documents Gaussian columns.

  They are drawn as it draws them, one key a mode, and have unit norm; a test compares the errors
  after one sweep.
  """
  factors = []
  for n, key in zip(shape, jax.random.split(jax.random.key(_SEED), len(shape))):
    columns = np.asarray(jax.random.normal(key, (n, rank), 'float32'))
    factors.append(columns / np.linalg.norm(columns, axis=0))
  return factors


def relative_error(cell: Cell, data: Input, records: Sequence) -> float:
  """||x - y|| / ||x|| over all tensors of the cell, summed in float64, the same for every side.

  Raises:
    FloatingPointError: the error is not finite.
  """
  if cell.method == 'tt_round':
    found = _train_error(data, [np.asarray(c) for c in records[0].cores])
  else:
    found = _dense_error(data, records)
  if not math.isfinite(found):
    raise FloatingPointError(f'{cell.name}: the relative error is {found}')
  return found


def _dense_error(data: Input, records: Sequence) -> float:
  gap = norm = 0.0
  for x, record in zip(data, records):
    full = np.asarray(jax.tree.map(jnp.asarray, record).full()).ravel()
    x = x.ravel()
    for i in range(0, x.size, _CHUNK):
      part = x[i : i + _CHUNK].astype('float64')
      norm += float(part @ part)
      part = part - full[i : i + _CHUNK]
      gap += float(part @ part)
  return math.sqrt(gap / norm)


def _door(cell: Cell, ranks: tuple[int, ...]) -> Callable[[Array], tn.Decomposition]:
  if cell.method == 'cp_als':
    return lambda x: tn.cp_als(
      x, ranks[0], jax.random.key(_SEED), max_iters=cell.sweeps, tol=0.0, init='random'
    )
  if cell.method == 'hooi':
    return lambda x: tn.hooi(x, ranks, modes=cell.modes, max_iters=cell.sweeps, tol=0.0)
  return lambda x: tn.tt_svd(x, ranks)


def _planted_cp(
  cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
  del cell
  factors = tuple(rng.standard_normal((n, ranks[0]), 'float32') for n in shape)
  full = np.asarray(tn.CP(jnp.ones(ranks[0]), jax.tree.map(jnp.asarray, factors)).full())
  noise = rng.standard_normal(shape, 'float32')
  return full + np.float32(_NOISE * np.linalg.norm(full) / np.linalg.norm(noise)) * noise


def _falling(
  cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
  del cell, ranks
  x = rng.standard_normal(shape, 'float32')
  for m, n in enumerate(shape):
    share = np.arange(1, n + 1, dtype='float32') ** -_FALL
    x *= share.reshape(-1, *[1] * (len(shape) - m - 1))
  return x


def _uniform(
  cell: Cell, shape: tuple[int, ...], ranks: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
  del cell, ranks
  return rng.random(shape, 'float32')


def _sum_of_trains(cell: Cell, rng: np.random.Generator) -> Input:
  """Cores of a + b, ||b|| = ||a|| / 10, both of half the rank: block-diagonal but at the ends."""
  shapes, half = core_shapes(cell), cell.rank_in // 2
  out = [np.zeros(shape, 'float32') for shape in shapes]
  for place, norm in ((slice(None, half), 1.0), (slice(half, None), _SMALL)):
    cores = [
      rng.standard_normal((min(r, half), n, min(q, half)), 'float32') / math.sqrt(n * min(q, half))
      for r, n, q in shapes
    ]
    cores[0] = cores[0] * (norm / math.sqrt(_inner(cores, cores)))
    for k, core in enumerate(cores):
      left = slice(None) if k == 0 else place
      right = slice(None) if k == len(cores) - 1 else place
      out[k][left, :, right] = core
  return tuple(out)


def _train_error(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> float:
  """From inner products in float64: right to about 1e-7, far below any error here."""
  norm = _inner(x, x)
  gap = norm - 2 * _inner(x, y) + _inner(y, y)
  return math.sqrt(gap / norm) if not gap < 0 else 0.0


def _inner(x: Sequence[np.ndarray], y: Sequence[np.ndarray]) -> float:
  carry = np.ones((1, 1))
  for a, b in zip(x, y):
    half = np.tensordot(carry, a.astype('float64'), (0, 0))  # (rank of y, n, rank of x)
    carry = np.tensordot(half, b.astype('float64'), ((0, 1), (0, 1)))
  return float(carry[0, 0])
