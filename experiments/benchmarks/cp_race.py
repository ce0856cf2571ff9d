"""One hard CP problem, fitted by all sides from the same start, in double precision."""

import dataclasses
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import tnjax as tn
from experiments.benchmarks.cp_tensors import Problem

SLACK = 1e-4  # above the least error, and still the same
EXACT = 1e-5  # a side's own errors, from differences of squares, lose their digits below it

Start = tuple[np.ndarray, ...]  # factors with columns of norm 1


@dataclasses.dataclass(frozen=True)
class Side:
  """One way to fit one tensor.

  Attributes:
    run: one run, complete when it returns.
    found: the CP that a result of `run` stands for.
    errors: after every sweep, of a result; None where the start is not the common one.
  """

  run: Callable[[], object]
  found: Callable[[object], tn.CP]
  errors: Callable[[object], Sequence[float]] | None


def race(
  problem: Problem, seed: int, names: Sequence[str], sweeps: int, repeats: int, restarts: int
) -> dict:
  """The target, and by side its error, the sweeps to the target, and their share of a run's time.

  Args:
    problem, seed: what is fitted, and from where.
    names: sides, of `SIDES`.
    sweeps: that every side does.
    repeats: timed runs of each, in turns.
    restarts: random starts of the side `restarts`.
  """
  x, start = problem.tensor(seed), problem.start(seed)
  with jax.enable_x64(True):
    sides = {name: SIDES[name](x, start, sweeps, restarts) for name in names}
    seconds, found = _timed(sides, repeats)
    curves = {name: side.errors(found[name]) for name, side in sides.items() if side.errors}
    errors = {name: _error(x, side.found(found[name])) for name, side in sides.items()}
  row = {name: {'relative_error': errors[name], 'run_seconds': seconds[name]} for name in names}
  target = max(EXACT, (1 + SLACK) * min((errors[name] for name in curves), default=0.0))
  for name, curve in curves.items():
    count = next((i for i, error in enumerate(curve, 1) if error <= target), None)
    row[name] |= {'sweeps': count, 'seconds': count and count / sweeps * seconds[name]}
  return {'target': target, **row}


def _timed(sides: Mapping[str, Side], repeats: int) -> tuple[dict, dict]:
  """Median seconds of runs in turns, after one that compiles, and the results of that one."""
  seconds, found = {name: [] for name in sides}, {}
  for i in range(repeats + 1):
    for name, side in sides.items():
      began = time.perf_counter()
      result = side.run()
      if i:
        seconds[name].append(time.perf_counter() - began)
      else:
        found[name] = result
  return {name: statistics.median(values) for name, values in seconds.items()}, found


def _error(x: np.ndarray, tensor: tn.CP) -> float:
  """||x - tensor|| / ||x||."""
  gap = x - np.asarray(tensor.full())
  return float(np.linalg.norm(gap) / np.linalg.norm(x))


def _tnjax(x: np.ndarray, start: Start, sweeps: int, restarts: int) -> Side:
  del restarts
  return _jax(partial(_accelerated, jnp.asarray(x), start, sweeps))


def _plain(x: np.ndarray, start: Start, sweeps: int, restarts: int) -> Side:
  del restarts
  return _jax(partial(_unaccelerated, jnp.asarray(x), start, sweeps))


def _restarts(x: np.ndarray, start: Start, sweeps: int, restarts: int) -> Side:
  side = _jax(partial(_several, jnp.asarray(x), start[0].shape[1], sweeps, restarts))
  return dataclasses.replace(side, errors=None)


def _jax(run: Callable[[], tuple[tn.CP, Array]]) -> Side:
  return Side(
    lambda: jax.block_until_ready(run()),
    lambda result: result[0],
    lambda result: np.asarray(result[1]).tolist(),
  )


@partial(jax.jit, static_argnums=2)
def _accelerated(x: Array, start: Start, sweeps: int) -> tuple[tn.CP, Array]:
  rank = start[0].shape[1]
  given = tn.CP(jnp.ones(rank), tuple(map(jnp.asarray, start)))
  d = tn.cp_als(x, rank, jax.random.key(0), max_iters=sweeps, tol=0.0, init=given)
  return d.tensor, d.errors


@partial(jax.jit, static_argnums=2)
def _unaccelerated(x: Array, start: Start, sweeps: int) -> tuple[tn.CP, Array]:
  """Textbook sweeps (Kolda and Bader 2009, figure 3.3), which `cp_als` does, but from ahead.

  They are its first three, before it starts ahead, to rounding; a test compares them.
  """
  energy = jnp.vdot(x, x)

  def sweep(factors: Start, _: None) -> tuple[Start, Array]:
    for n in range(x.ndim):
      others = [f for m, f in enumerate(factors) if m != n]
      gram = math.prod(f.T @ f for f in others)
      products = tn.ops.unfold(x, n) @ tn.ops.khatri_rao(others)
      found = jnp.linalg.solve(gram, products.T).T
      factors = (*factors[:n], found, *factors[n + 1 :])
    lost = energy - 2 * jnp.vdot(products, found) + jnp.vdot(found @ gram, found)
    return factors, jnp.sqrt(jnp.maximum(lost, 0) / energy)

  factors, errors = jax.lax.scan(sweep, tuple(map(jnp.asarray, start)), length=sweeps)
  return tn.CP(jnp.ones(start[0].shape[1], x.dtype), factors), errors


@partial(jax.jit, static_argnums=(1, 2, 3))
def _several(x: Array, rank: int, sweeps: int, restarts: int) -> tuple[tn.CP, Array]:
  d = tn.cp_als(x, rank, jax.random.key(0), max_iters=sweeps, tol=0.0, restarts=restarts)
  return d.tensor, d.errors


def _tensorly(x: np.ndarray, start: Start, sweeps: int, restarts: int) -> Side:
  del restarts
  import tensorly
  from tensorly.decomposition import parafac

  tensorly.set_backend('numpy')
  rank = start[0].shape[1]
  options = {'n_iter_max': sweeps, 'init': (np.ones(rank), list(start)), 'tol': 0}

  def errors(_: object) -> list[float]:
    """Of another run: the timed one is spared computing them."""
    with warnings.catch_warnings():
      warnings.simplefilter('ignore', DeprecationWarning)
      return [float(e) for e in parafac(x, rank, **options, return_errors=True)[1]]

  return Side(
    lambda: parafac(x, rank, **options), lambda found: tn.CP(found[0], tuple(found[1])), errors
  )


SIDES = {'tnjax': _tnjax, 'plain': _plain, 'tensorly': _tensorly, 'restarts': _restarts}
