"""Ranks of all layers at once, from one budget for the whole network."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence

import numpy as np
from flax import nnx
from jax import Array

from tnjax.compression._allocate import allocate
from tnjax.compression._budget_report import BudgetReport, LayerBudget
from tnjax.compression._options import Options, options
from tnjax.compression._patterns import Rules, check_rules
from tnjax.compression._report import Report
from tnjax.compression._rules import Job, check_ready, macs_of, make_jobs
from tnjax.compression._trace import Calls, input_shapes
from tnjax.ops import integer, number
from tnjax.schemes import FORMATS, Parametrization, Scheme, on_host

_LARGEST = 2**31  # a rank above every cap


def budget(
  model: nnx.Module,
  rules: Scheme | Rules,
  *,
  params: int | None = None,
  params_ratio: float | None = None,
  macs: int | None = None,
  macs_ratio: float | None = None,
  input_shape: Sequence[int] | None = None,
  key: Array | None = None,
) -> tuple[tuple[tuple[str, Scheme | None], ...], BudgetReport]:
  """Chooses the ranks of every layer: least summed squared error within a budget of the network.

  Every layer offers its ranks, each with its cost and the sum of the squared singular values it
  discards, and the option to stay as it is, without error; `allocate` chooses one per layer. A
  stack takes the same ranks throughout. That
  error is exact for a matrix (`svd`), and a bound of what `compress` will report for Tucker and
  TT. Where a layer has more than 2^18 tuples of ranks, long bonds take ranks in a geometric grid.

  Args:
    model: any NNX model, left unchanged.
    rules: as for `compress`, or one scheme for every layer it fits. Of a scheme only the method
      and its splits count, not its rate or ranks; it must store 'tt' or 'tk' (svd, tk, tt, r_tk,
      r_tt, shuffled), since no spectrum gives the error of a CP or a ring.
    params, params_ratio, macs, macs_ratio: exactly one; the most that the compressed model may
      have, of what `Report` calls by the same names: of the whole model, absolute or as a
      fraction of the dense model's.
    input_shape: shape of one input without batch, needed for multiply-adds.
    key: PRNG key for shuffled schemes, the same that goes to `compress`.

  Returns:
    Rules with the ranks spelt out, one per layer, for `compress`, and a `BudgetReport`, which
    prints as a table.

  Raises:
    ValueError: as `compress`; not exactly one budget, or one that cannot be met (the least that
      can is named); a scheme without tail energies; `macs` without `input_shape`.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(*(nnx.Linear(n, 8, rngs=nnx.Rngs(n)) for n in (16, 8)))
  >>> rules, report = budget(model, tn.schemes.svd(rate=1.0), params=120)
  >>> small, done = tn.compress(model, rules)
  >>> report.cost == done.params <= 120, abs(report.relative_error - done.relative_error) < 1e-3
  (True, True)
  """
  rules = check_rules((('.*', rules),) if isinstance(rules, Scheme) else rules)
  rules = tuple((p, s and dataclasses.replace(s, rate=None, ranks=_LARGEST)) for p, s in rules)
  calls = input_shapes(model, input_shape)
  jobs, report = make_jobs(model, rules, key, calls, must_save=False)
  for job in jobs.values():
    _check_spectrum(job)
  check_ready(jobs)
  unit, limit, total = _limit(
    report, params=params, params_ratio=params_ratio, macs=macs, macs_ratio=macs_ratio
  )
  if not jobs:
    raise ValueError(f'the rules {rules} leave every layer dense, so there is nothing to choose')
  offers = _offers(jobs, report, calls, unit)
  fixed = total - sum(int(offer.costs[0]) for offer in offers.values())
  least = fixed + sum(int(offer.costs.min()) for offer in offers.values())
  if limit < least:
    raise ValueError(
      f'a budget of {limit:,} {unit} cannot be met: rank 1 everywhere still has {least:,}, of '
      f'which {fixed:,} lie outside the layers that the rules serve'
    )
  costs, errors = zip(*((offer.costs, offer.errors) for offer in offers.values()))
  found = allocate(costs, errors, limit - fixed)
  chosen, spent = _chosen(jobs, offers, found.choices)
  totals = (unit, limit, fixed + found.cost, total, found.error, found.lower_bound)
  return chosen, BudgetReport(spent, *totals)


def _offers(jobs: dict[str, Job], report: Report, calls: Calls, unit: str) -> dict[str, Options]:
  """What every layer can choose among; the first is to stay as it is."""
  rows = {row.path: row for row in report.layers}
  offers = {}
  for path, job in jobs.items():
    found = options(
      job.parametrization, _folded(job), _counter(job, calls if unit == 'macs' else {})
    )
    paths = (path, *(place.path for place in job.shared))
    offers[path] = _with_dense(found, sum(getattr(rows[p], f'dense_{unit}') for p in paths))
  return offers


def _chosen(
  jobs: dict[str, Job], offers: dict[str, Options], choices: Sequence[int]
) -> tuple[tuple[tuple[str, Scheme | None], ...], tuple[LayerBudget, ...]]:
  """Rules with the ranks of the choices, and what each layer spends."""
  rules, spent = [], []
  for (path, offer), k in zip(offers.items(), choices):
    job, ranks = jobs[path], tuple(offer.ranks[k].tolist()) if k else ()
    scheme = dataclasses.replace(job.scheme, ranks=ranks) if k else None
    rules += [(re.escape(place.path), scheme) for place in (job.place, *job.shared)]
    norm = sum(float(np.linalg.norm(w)) ** 2 for w in job.place.weights)
    cost, dense, error = int(offer.costs[k]), int(offer.costs[0]), float(offer.errors[k])
    spent.append(LayerBudget(path, scheme and scheme.name, ranks, cost, dense, error, norm))
  return tuple(rules), tuple(spent)


def _limit(report: Report, **given: float | None) -> tuple[str, int, int]:
  """'params' or 'macs', the most allowed, and what the dense model has."""
  named = {name: value for name, value in given.items() if value is not None}
  if len(named) != 1:
    raise ValueError(f'give exactly one of {", ".join(given)}; given are {named or "none"}')
  ((name, value),) = named.items()
  unit = name.removesuffix('_ratio')
  total = report.dense_params if unit == 'params' else report.dense_macs
  if total is None:
    missing = [row.path for row in report.layers if row.dense_macs is None]
    raise ValueError(
      f'{name}={value}: the multiply-adds of {missing} are not known; give input_shape, the shape '
      'of one input without batch, to a model that calls all its layers, none in a while loop'
    )
  if unit == name:
    return unit, integer(value, name, remedy=f'; give a fraction as {name}_ratio'), total
  value = number(value, name, 'above 0, a fraction of the dense model', lambda x: x > 0)
  return unit, math.floor(value * total * (1 + 1e-12)), total


def _check_spectrum(job: Job) -> None:
  p = job.parametrization
  if job.joint:
    raise ValueError(f'{job.path}: budget does not choose the ranks of a joint tensor; give them')
  if FORMATS[p.format].caps is None:
    told = ', '.join(name for name, row in FORMATS.items() if row.caps)
    raise ValueError(
      f'{job.path}: {job.scheme.name} stores {p.format!r}, whose error no spectrum tells; '
      f'choose among schemes that store {told} (svd, tk, tt, r_tk, r_tt, shuffled), or give a '
      'rate to compress'
    )


def _folded(job: Job) -> list[np.ndarray]:
  """The weights as the tensors that `compress` will decompose, in double precision."""
  p = job.parametrization
  return [on_host(p.fold, w, k) for w, k in zip(job.place.weights, job.weight_keys)]


def _counter(job: Job, calls: Calls) -> Callable[[Parametrization], int]:
  """Multiply-adds of all calls, or parameters where no calls are given."""
  if not calls:
    return lambda p: job.place.copies * p.num_params
  places = (job.place, *job.shared)
  return lambda p: sum(macs_of(place, p, calls[place.path]) for place in places)


def _with_dense(offer: Options, dense_cost: int) -> Options:
  """The option to stay dense first, then those that cost less."""
  less = offer.costs < dense_cost
  ranks, costs, errors = offer.ranks[less], offer.costs[less], offer.errors[less]
  return Options(
    np.insert(ranks, 0, 0, axis=0), np.insert(costs, 0, dense_cost), np.insert(errors, 0, 0.0)
  )
