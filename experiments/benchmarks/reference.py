"""Errors in double precision, to tell what single precision costs."""

import jax
import jax.numpy as jnp

import tnjax as tn
from experiments.benchmarks import problems
from experiments.benchmarks.cells import Cell


def float64_error(cell: Cell, data: problems.Input) -> float:
  """Relative error of the same method, ranks, sweeps and start in double precision.

  CP gets the start of single precision, as a key gives another in double precision.
  """
  with jax.enable_x64(True):
    if cell.method == 'cp_als':
      records = [
        _cp(jnp.asarray(x, 'float64'), rank, cell.sweeps) for x, (rank,) in zip(data, cell.ranks)
      ]
    else:
      x = problems.on_device(cell, data, 'float64')
      records = problems.tnjax_records(cell, jax.jit(problems.tnjax_run(cell))(x))
    return problems.relative_error(cell, data, records)


def _cp(x: jax.Array, rank: int, sweeps: int) -> tn.CP:
  factors = tuple(jnp.asarray(f, 'float64') for f in problems.cp_start(x.shape, rank))
  start = tn.CP(jnp.ones(rank), factors)
  return tn.cp_als(x, rank, jax.random.key(0), max_iters=sweeps, tol=0.0, init=start).tensor
