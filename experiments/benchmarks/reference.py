"""Errors in double precision, to tell what single precision costs."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import tnjax as tn
from experiments.benchmarks import problems
from experiments.benchmarks.cells import Cell


def float64_error(cell: Cell, data: problems.Input) -> float:
  """Relative error of the same method, ranks, sweeps and start in double precision.

  It is tnjax itself but for CP, whose start from a key is another in double precision: there it is
  textbook ALS from the single precision start.
  """
  with jax.enable_x64(True):
    if cell.method == 'cp_als':
      records = [
        _cp(jnp.asarray(x, 'float64'), problems.cp_start(x.shape, rank), cell.sweeps)
        for x, (rank,) in zip(data, cell.ranks)
      ]
    else:
      x = problems.on_device(cell, data, 'float64')
      records = problems.tnjax_records(cell, jax.jit(problems.tnjax_run(cell))(x))
    return problems.relative_error(cell, data, records)


def _cp(x: Array, start: Sequence[np.ndarray], sweeps: int) -> tn.CP:
  factors = _als(x, tuple(jnp.asarray(f, 'float64') for f in start), sweeps)
  return tn.CP(jnp.ones(factors[0].shape[1], 'float64'), factors)


@partial(jax.jit, static_argnums=2)
def _als(x: Array, factors: tuple[Array, ...], sweeps: int) -> tuple[Array, ...]:
  """Alternating least squares by the normal equations (Kolda and Bader 2009, figure 3.3)."""

  def sweep(_: int, factors: tuple[Array, ...]) -> tuple[Array, ...]:
    for n in range(x.ndim):
      others = [f for m, f in enumerate(factors) if m != n]
      gram = jnp.ones_like(others[0].T @ others[0])
      for f in others:
        gram = gram * (f.T @ f)
      products = tn.ops.unfold(x, n) @ tn.ops.khatri_rao(others)
      factors = (*factors[:n], jnp.linalg.solve(gram, products.T).T, *factors[n + 1 :])
    return factors

  return jax.lax.fori_loop(0, sweeps, sweep, factors)
