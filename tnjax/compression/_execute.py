"""Running jobs: equal ones as one batch, large ones of the host side by side."""

import math
from collections.abc import Callable, Mapping
from concurrent.futures import as_completed

import jax
import numpy as np

from tnjax.compression._rules import Job
from tnjax.compression._threads import threads
from tnjax.ops import one_thread
from tnjax.schemes import Fit, Held, fit_all, needs_program

_LARGE = 2**18  # entries of a weight


def execute(
  jobs: Mapping[str, Job], on_layer: Callable[[str], object] | None = None
) -> dict[str, list[Fit]]:
  """Factors of every job's weights, by path.

  Weights of one parametrization, dtype and device go together, but for large ones of the host,
  which have threads of their own; `on_layer` is called with the path of every job that is done, or
  of a program that runs.
  """
  groups: dict[tuple, list[Job]] = {}
  for job in jobs.values():
    weight = job.weights[0]
    alike = (job.parametrization, weight.dtype, weight.sharding, job.key is None)
    groups.setdefault((job.path,) if _large(job) else alike, []).append(job)
  found: dict[str, list[Fit]] = {}

  def keep(group: list[Job], fits: list[Fit]) -> None:
    rest = iter(fits)
    for job in group:
      found[job.path] = [next(rest) for _ in job.weights]
      if on_layer is not None:
        on_layer(job.path)

  with one_thread(), threads() as submit:
    aside = {submit(_fits, group): group for group in groups.values() if _large(group[0])}
    for group in groups.values():
      if not _large(group[0]):
        keep(group, _fits(group))
    for done in as_completed(aside):
      keep(aside[done], done.result())
  return jax.block_until_ready(found)


def _fits(group: list[Job]) -> list[Fit]:
  weights = [weight for job in group for weight in job.weights]
  keys = [key for job in group for key in job.weight_keys]
  return fit_all(group[0].parametrization, weights, keys)


def _large(job: Job) -> bool:
  """Whether it keeps NumPy busy for long enough to have a thread of its own."""
  return not any(
    isinstance(weight, Held)
    or weight.size < _LARGE
    or needs_program(job.parametrization, weight, key)
    for weight, key in zip(job.weights, job.weight_keys)
  )


def facts(job: Job, fits: list[Fit]) -> dict[str, object]:
  """The fields of a layer's report that are known once it is decomposed."""
  norms = [_squared_norm(weight) for weight in job.weights]
  return {
    'squared_error': math.fsum(float(f.relative_error) ** 2 * n for f, n in zip(fits, norms)),
    'squared_norm': math.fsum(norms),
    'num_iters': max(int(f.num_iters) for f in fits),
    'converged': all(bool(f.converged) for f in fits),
  }


def _squared_norm(weight: jax.Array | Held) -> float:
  wide = weight.core[0] if isinstance(weight, Held) else np.asarray(weight)
  wide = wide.astype('complex128' if np.iscomplexobj(wide) else 'float64').ravel()
  return float(np.vdot(wide, wide).real)
