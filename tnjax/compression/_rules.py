"""The jobs that rules make of a model's layers."""

import dataclasses
import math
import zlib
from collections.abc import Iterable, Mapping

import jax
import numpy as np
from flax import nnx
from jax import Array

from tnjax import nn, ranks
from tnjax.compression._patterns import Rules, check_rules, compiled, matches
from tnjax.compression._report import LayerReport, Report, time_ratio
from tnjax.compression._times import Times
from tnjax.compression._trace import Calls
from tnjax.compression._walk import Place, walk
from tnjax.ops import prng_key
from tnjax.schemes import Held, Parametrization, Scheme

OBJECTIVES = ('params', 'time')


@dataclasses.dataclass(frozen=True)
class Job:
  """One weight, or one stack of them, to be decomposed.

  Attributes:
    place: the layer.
    scheme: its rule's, with ints for ranks that were a rule.
    parametrization: the scheme bound to the weight's shape.
    key: PRNG key of the layer, None where none was given.
    shared: the other layers that use this weight, which get the same factors.
  """

  place: Place
  scheme: Scheme
  parametrization: Parametrization
  key: Array | None
  shared: tuple[Place, ...] = ()

  @property
  def path(self) -> str:
    """'/'-joined NNX path."""
    return self.place.path

  @property
  def params(self) -> int:
    """Entries of all factors."""
    return self.place.copies * self.parametrization.num_params

  @property
  def weight_keys(self) -> list[Array | None]:
    """The keys that go with `place.weights`."""
    return self.place.kind.keys(self.place.layer, self.key)


def layer_key(key: Array | None, path: str) -> Array | None:
  """The PRNG key of one layer, folded from its path."""
  return None if key is None else jax.random.fold_in(key, zlib.crc32(path.encode()))


def make_jobs(
  model: nnx.Module,
  rules: Rules,
  key: Array | None,
  calls: Calls,
  must_save: bool = True,
  objective: str = 'params',
  measure: bool = False,
) -> tuple[dict[str, Job], Report]:
  """The jobs by path, and the report of what is known before they run.

  `calls` are the shapes of the layers' inputs, as `input_shapes` gives them.

  With `must_save`, a layer that would store as many entries as before stays as it is; for the
  objective 'time', one that would take longer too. With `measure` layers are timed.
  """
  if objective not in OBJECTIVES:
    raise ValueError(f'objective={objective!r} must be one of {", ".join(OBJECTIVES)}')
  if (measure or objective == 'time') and not calls:
    what = 'measure=True' if measure else "objective='time'"
    raise ValueError(f'input_shape=None: {what} needs the shape of one input, without batch')
  if key is not None:
    prng_key(key)
  checked = check_rules(rules)
  places = walk(model)
  patterns = [(compiled(pattern, places), scheme) for pattern, scheme in checked]
  jobs: dict[str, Job] = {}
  reasons, refused, idle, seconds, times = {}, {}, set(), {}, Times(measure)
  for path, place in places.items():
    pattern, scheme = next(((p, s) for p, s in patterns if matches(p, place)), (None, None))
    reasons[path] = 'no rule' if pattern is None else 'rule says so' if scheme is None else ''
    if scheme is None:
      continue
    if isinstance(scheme.ranks, ranks.Rule):
      _check_values(place, scheme)
    try:
      job = _job(place, scheme, key)
    except ValueError as error:
      reasons[path] = str(error)
      refused[pattern] = f'rule pattern {pattern.pattern!r} serves no layer; {path}: {error}'
      continue
    seconds[path] = times.of(place, job.scheme, job.parametrization, calls.get(path))
    ratio = time_ratio(**seconds[path])
    if must_save and job.params >= place.stored:
      reasons[path] = f'{scheme.name} would store {job.params:,} entries'
      idle.add(pattern)
    elif objective == 'time' and ratio is not None and ratio > 1:
      reasons[path] = f'{scheme.name} would take {ratio:.2f} times as long'
      idle.add(pattern)
    else:
      jobs[path] = job
  for pattern, message in refused.items():
    if pattern not in idle and not any(matches(pattern, job.place) for job in jobs.values()):
      raise ValueError(message)
  jobs = _agreed(jobs, places, reasons)
  rows = tuple(
    _row(place, jobs.get(place.leader), reasons[path], calls.get(path), seconds.get(path, {}))
    for path, place in places.items()
  )
  dense = sum(v.size for v in jax.tree.leaves(nnx.state(model, nnx.Param)))
  saved = sum(row.dense_params - row.params for row in rows)
  return jobs, Report(rows, dense - saved, dense)


def check_ready(jobs: Mapping[str, Job]) -> None:
  """A ValueError for a missing key or a weight that is not finite, before any work."""
  for path, job in jobs.items():
    if job.parametrization.needs_key and job.key is None:
      raise ValueError(
        f'key=None: {job.scheme.name} for {path} draws random numbers; '
        'pass key=jax.random.key(seed)'
      )
    _check_finite(job.place)


def _check_values(place: Place, scheme: Scheme) -> None:
  """A rank rule needs a weight with values."""
  if place.abstract:
    raise ValueError(
      f'{place.path}: {scheme.name} has ranks={scheme.ranks}, found from the values of the weight, '
      'which is abstract here; give ints'
    )
  if place.kind is not None:
    _check_finite(place)


def _check_finite(place: Place) -> None:
  if place.abstract:
    raise ValueError(f'{place.path}: its weight is abstract; give a model with values')
  if not all(_finite(weight) for weight in place.weights):
    raise ValueError(f'{place.path}: its kernel has NaN or infinite entries')


def _finite(weight: Array | Held) -> bool:
  return weight.finite if isinstance(weight, Held) else bool(np.isfinite(np.asarray(weight)).all())


def _job(place: Place, scheme: Scheme, key: Array | None) -> Job:
  if reason := place.tie or ('' if place.factorised else nn.refusal(place.layer)):
    raise ValueError(reason)
  key = layer_key(key, place.leader)
  if isinstance(scheme.ranks, ranks.Rule):
    scheme = scheme.resolve(*place.weights, keys=place.kind.keys(place.layer, key))
  return Job(place, scheme, scheme.bind(place.kind.weight_shape(place.layer)), key)


def _agreed(
  jobs: Mapping[str, Job], places: Mapping[str, Place], reasons: dict[str, str]
) -> dict[str, Job]:
  """One job for all layers that share a weight; none, with a reason, where they do not agree."""
  groups: dict[str, list[str]] = {}
  for path, place in places.items():
    groups.setdefault(place.leader, []).append(path)
  agreed = {}
  for leader, paths in groups.items():
    own = [jobs[path] for path in paths if path in jobs]
    if len(own) == len(paths) and len({(j.place.kind, j.parametrization) for j in own}) == 1:
      agreed[leader] = dataclasses.replace(own[0], shared=tuple(places[p] for p in paths[1:]))
      continue
    for job in own:
      others = ', '.join(path for path in paths if path != job.path)
      reasons[job.path] = f'it shares its weight with {others}, to which its rule does not apply'
  return agreed


def _row(
  place: Place,
  job: Job | None,
  reason: str,
  calls: Mapping[tuple[int, ...], float] | None,
  seconds: Mapping[str, float],
) -> LayerReport:
  """Counts of one layer before and after; what is factorised already counts as it is stored."""
  layer, owner = place.layer, place.leader == place.path
  before = layer.parametrization if place.factorised else None
  after = job.parametrization if job else before
  return LayerReport(
    path=place.path,
    shape=place.shape,
    scheme=job and job.scheme.name,
    ranks=job.parametrization.ranks if job else (),
    params=(job.params if job else place.stored) if owner else 0,
    dense_params=place.stored if owner else 0,
    macs=macs_of(place, after, calls),
    dense_macs=macs_of(place, before, calls),
    squared_error=None if job and owner else 0.0,
    squared_norm=None if owner else 0.0,
    reason=reason if owner or not job else f'weight of {place.leader}',
    was=layer.scheme.name if place.factorised else None,
    rebuilt=_rebuilt(place, after, calls) if after and calls else None,
    **(seconds if job else {}),
  )


def _rebuilt(place: Place, bound: Parametrization, calls: Iterable[tuple[int, ...]]) -> bool:
  return any(place.kind.forecast(place.layer, bound, shape).rebuilds for shape in calls)


def macs_of(
  place: Place,
  parametrization: Parametrization | None,
  calls: Mapping[tuple[int, ...], float] | None,
) -> int | None:
  """Multiply-adds of all calls; None where they, or how many they are, is not known."""
  if calls is None or place.kind is None or math.inf in calls.values():
    return None
  return sum(n * place.kind.macs(place.layer, parametrization, shape) for shape, n in calls.items())
