"""Running jobs: equal ones as one batch, nothing waited for before the end."""

import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from tnjax.compression._rules import Job
from tnjax.schemes import Fit, Held, fit_all


def execute(
  jobs: Mapping[str, Job], on_layer: Callable[[str], object] | None = None
) -> dict[str, list[Fit]]:
  """Factors of every job's weights, by path.

  Weights of one parametrization, dtype and device go together; `on_layer` is called with the path
  of every job whose batch is under way.
  """
  groups: dict[tuple, list[Job]] = {}
  for job in jobs.values():
    weight = job.weights[0]
    alike = (job.parametrization, weight.dtype, weight.sharding, job.key is None)
    groups.setdefault(alike, []).append(job)
  found = {}
  for (parametrization, *_), group in groups.items():
    weights = [job.weights for job in group]
    keys = [key for job in group for key in job.weight_keys]
    fits = iter(fit_all(parametrization, [w for own in weights for w in own], keys))
    for job, own in zip(group, weights):
      found[job.path] = [next(fits) for _ in own]
      if on_layer is not None:
        on_layer(job.path)
  return jax.block_until_ready(found)


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
