"""The doors of the pipeline: walk, rules, execute, replace, report."""

import dataclasses
from collections.abc import Callable, Sequence

from flax import nnx
from jax import Array

from tnjax.compression._execute import execute, facts
from tnjax.compression._patterns import Rules
from tnjax.compression._replace import factorised, replace
from tnjax.compression._report import Report
from tnjax.compression._rules import check_ready, make_jobs
from tnjax.compression._times import check_objective, timed
from tnjax.compression._trace import input_shapes


def compress(
  model: nnx.Module,
  rules: Rules,
  key: Array | None = None,
  *,
  input_shape: Sequence[int] | None = None,
  objective: str = 'params',
  measure: bool = False,
  on_layer: Callable[[str], object] | None = None,
) -> tuple[nnx.Module, Report]:
  """Decomposes the layers that the rules name; the model given is left unchanged.

  Args:
    model: any NNX model; its `nnx.Conv`, `nnx.Linear`, `nnx.LinearGeneral` (the projections of
      attention) and `nnx.Embed` layers, at any depth, can be served, stacks of them (`nnx.vmap`)
      and subclasses that `tn.nn.register` knows too. Factorised layers are decomposed again,
      their core alone where the scheme is of the same fold and format, else (and those of a
      joint tensor) through the weight they stand for; layers that share a weight share its factors.
    rules: (pattern, scheme or None) pairs. A layer takes the first pattern that `re.fullmatch`es
      its '/'-joined path, any of its paths where it is held several times; None, or no match,
      leaves it dense.
    key: PRNG key, for schemes that draw random numbers; each layer folds in its path.
    input_shape: shape of one input without batch, such as (32, 32, 3); with it the report counts
      multiply-adds, calls in a scan or `nnx.RNN` as often as they run (in a while loop: unknown),
      and marks where they rise, where the kernel would be rebuilt, and where the layer is expected
      to be slower than before, on this device with a batch of 32.
    objective: 'params': a layer is compressed where that saves parameters; 'time': where it takes
      no longer, too. The latter needs `input_shape`.
    measure: whether to time layers before and after, in place of the planner's expectation (but for
      stacks, joint tensors and look-ups); compiles two programs for each kind of layer. Needs
      `input_shape`.
    on_layer: called with the path of every layer once it is decomposed, for a progress bar.

  Returns:
    The compressed model and a `Report`, which prints as a table.

  Raises:
    ValueError: what is no NNX model or no such pairs, a pattern that is no regular expression,
      matches no layer or whose scheme fits none of them, a kernel that is not finite, a missing
      key, or `objective='time'` or `measure` without `input_shape`; all before any work. A layer
      that its scheme does not fit, where it would not serve the objective, whose weight something
      else holds too or `nnx.WeightNorm` or `nnx.SpectralNorm` rescales, stays as it is, with the
      reason in the report.

  >>> import jax.numpy as jnp, tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
  >>> small, report = compress(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),))
  >>> report.kernel_params, type(small.layers[0]).__name__, small(jnp.ones((3, 8))).shape
  (32, 'Linear', (3, 2))
  """
  check_objective(objective, measure, input_shape)
  calls = input_shapes(model, input_shape)
  jobs, report = make_jobs(model, rules, key, calls)
  check_ready(jobs)
  jobs, report = timed(jobs, report, calls, objective, measure)
  found = execute(jobs, on_layer)
  small = replace(model, factorised(jobs, found))
  rows = [
    dataclasses.replace(row, **facts(jobs[row.path], found[row.path])) if row.path in jobs else row
    for row in report.layers
  ]
  return small, dataclasses.replace(report, layers=tuple(rows))


def skeleton(model: nnx.Module, rules: Rules) -> nnx.Module:
  """The model `compress` would give, with shapes in place of the factors' values.

  Nothing is decomposed; fill it from saved weights. Arguments and errors are those of `compress`;
  the model may have shapes alone, as `nnx.eval_shape` gives it.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> skeleton(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),)).layers[0].core_0.shape
  (8, 2)
  """
  return replace(model, factorised(make_jobs(model, rules, None, {})[0]))


def plan(
  model: nnx.Module,
  rules: Rules,
  key: Array | None = None,
  *,
  input_shape: Sequence[int] | None = None,
  objective: str = 'params',
  measure: bool = False,
) -> Report:
  """The table `compress` would report, errors left out; nothing is decomposed or touched.

  Arguments and errors are those of `compress`; the key matters to a rank rule of `shuffled` alone.
  The model may have shapes alone, as `nnx.eval_shape` gives it, but for a rank rule.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> plan(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),)).params
  40
  """
  check_objective(objective, measure, input_shape)
  calls = input_shapes(model, input_shape)
  return timed(*make_jobs(model, rules, key, calls), calls, objective, measure)[1]
