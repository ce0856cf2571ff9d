"""The jobs that rules make of a model's layers."""

import dataclasses
import functools
import math
import re
import zlib
from collections.abc import Callable, Iterable, Mapping

import jax
import numpy as np
from flax import nnx
from jax import Array

from tnjax import nn, ranks
from tnjax.compression._joint import Members, members
from tnjax.compression._patterns import Rules, check_rules, compiled, matches
from tnjax.compression._report import LayerReport, Report
from tnjax.compression._threads import threads
from tnjax.compression._trace import Calls
from tnjax.compression._walk import Place, walk
from tnjax.ops import prng_key
from tnjax.schemes import Held, Kernel, Parametrization, Scheme, expansion


@dataclasses.dataclass(frozen=True)
class Job:
  """One weight, or one stack of them, to be decomposed.

  Attributes:
    place: the layer.
    scheme: its rule's, with ints for ranks that were a rule.
    parametrization: the scheme bound to the weight's shape.
    key: PRNG key of the layer, None where none was given.
    shared: the other layers that use this weight, which get the same factors.
    joint: all layers whose kernels are one tensor, by their places in it; `place` is the first.
  """

  place: Place
  scheme: Scheme
  parametrization: Parametrization
  key: Array | None
  shared: tuple[Place, ...] = ()
  joint: Members = ()

  @property
  def path(self) -> str:
    """'/'-joined NNX path."""
    return self.place.path

  @property
  def places(self) -> tuple[Place, ...]:
    """All layers that it is of."""
    return tuple(place for _, place in self.joint) or (self.place, *self.shared)

  @property
  def params(self) -> int:
    """Entries of all factors."""
    return self.place.copies * self.parametrization.num_params

  @property
  def of_layer(self) -> Parametrization:
    """That of one layer, to count its work."""
    return Kernel.of(self.parametrization) if self.joint else self.parametrization

  @property
  def convs(self) -> dict[tuple[int, ...], nnx.Module]:
    """The layers of a joint tensor by place."""
    return {at: place.layer for at, place in self.joint}

  @functools.cached_property
  def weights(self) -> list[Array | Held]:
    """What is decomposed."""
    return [nn.stacked_kernels(self.convs)] if self.joint else self.place.weights

  @property
  def weight_keys(self) -> list[Array | None]:
    """The keys that go with `weights`."""
    if self.joint:
      return [self.key]
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
) -> tuple[dict[str, Job], Report]:
  """The jobs by path, and the report of what is known before they run.

  `calls` are the shapes of the layers' inputs, as `input_shapes` gives them.

  With `must_save`, a layer that would store as many entries as before stays as it is.
  """
  if key is not None:
    prng_key(key)
  checked = check_rules(rules)
  places = walk(model)
  patterns = [(compiled(pattern, places), scheme) for pattern, scheme in checked]
  jobs: dict[str, Job] = {}
  reasons, refused, idle = {}, {}, set()
  asked: dict[str, tuple[re.Pattern, Callable[[], Scheme]]] = {}
  joined: dict[tuple[re.Pattern, Scheme], dict[str, Place]] = {}
  with threads() as submit:
    for path, place in places.items():
      pattern, scheme = next(((p, s) for p, s in patterns if matches(p, place)), (None, None))
      reasons[path] = 'no rule' if pattern is None else 'rule says so' if scheme is None else ''
      if scheme is None:
        continue
      if scheme.name == 'joint':
        joined.setdefault((pattern, scheme), {})[path] = place
        continue
      if isinstance(scheme.ranks, ranks.Rule):
        _check_values(place, scheme)
        found = submit(_resolved, place, scheme, layer_key(key, place.leader)).result
      else:
        found = functools.partial(_resolved, place, scheme, key)
      asked[path] = pattern, found
    for path, (pattern, found) in asked.items():
      try:
        job = _job(places[path], found(), key)
      except ValueError as error:
        reasons[path] = str(error)
        refused[pattern] = f'rule pattern {pattern.pattern!r} serves no layer; {path}: {error}'
        continue
      if must_save and job.params >= job.place.stored:
        reasons[path] = f'{job.scheme.name} would store {job.params:,} entries'
        idle.add(pattern)
      else:
        jobs[path] = job
  for pattern, message in refused.items():
    if pattern not in idle and not any(matches(pattern, job.place) for job in jobs.values()):
      raise ValueError(message)
  jobs = _agreed(jobs, places, reasons)
  owners = dict(jobs)
  for (pattern, scheme), own in joined.items():
    job = _joint_job(pattern, scheme, own, places, key)
    if must_save and job.params >= sum(place.stored for place in own.values()):
      reasons |= dict.fromkeys(own, f'{scheme.name} would store {job.params:,} entries for all')
    else:
      jobs[job.path] = job
      owners |= dict.fromkeys(own, job)
  rows = tuple(
    row_of(place, owners.get(place.leader), reasons[path], calls.get(path))
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
    for place in job.places:
      _check_finite(place)


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


def _resolved(place: Place, scheme: Scheme, key: Array | None) -> Scheme:
  """With ints for ranks that are a rule; a ValueError where the layer cannot have the scheme."""
  if isinstance(place.layer, nn.JointConv):
    raise ValueError(f'its kernel is part of a joint tensor, with {place.home}; tn.to_dense first')
  if place.refusal:
    raise ValueError(place.refusal)
  if isinstance(scheme.ranks, ranks.Rule):
    return scheme.resolve(*place.weights, keys=place.kind.keys(place.layer, key))
  return scheme


def _job(place: Place, scheme: Scheme, key: Array | None) -> Job:
  bound = scheme.bind(place.kind.weight_shape(place.layer))
  return Job(place, scheme, bound, layer_key(key, place.leader))


def _joint_job(
  pattern: re.Pattern,
  scheme: Scheme,
  places: Mapping[str, Place],
  every: Mapping[str, Place],
  key: Array | None,
) -> Job:
  own, first = members(pattern, places, every), next(iter(places.values()))
  convs = {at: place.layer for at, place in own}
  sizes, name = nn.architecture_of(convs), f'rule pattern {pattern.pattern!r} of a joint tensor'
  if scheme.order not in (None, len(sizes)):
    raise ValueError(f'{name} has {len(sizes)} groups; its scheme has order={scheme.order}')
  scheme = dataclasses.replace(scheme, order=len(sizes))
  key = layer_key(key, first.path)
  if isinstance(scheme.ranks, ranks.Rule):
    for place in places.values():
      _check_values(place, scheme)
    scheme = scheme.resolve(nn.stacked_kernels(convs), keys=[key])
  bound = scheme.bind((*sizes, *nn.Conv.weight_shape(first.layer)))
  return Job(first, scheme, bound, key, joint=own)


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


def row_of(
  place: Place,
  job: Job | None,
  reason: str,
  calls: Mapping[tuple[int, ...], float] | None,
) -> LayerReport:
  """Counts of one layer before and after; what is factorised already counts as it is stored."""
  layer, leads = place.layer, place.leader == place.path
  owner = job.path == place.path if job else leads
  before = layer.parametrization if place.factorised else None
  after = job.of_layer if job else before
  whole = place.joint if job is None else job.parametrization if job.joint and owner else None
  return LayerReport(
    path=place.path,
    shape=place.shape,
    scheme=job and job.scheme.name,
    ranks=job.parametrization.ranks if job else (),
    params=(job.params if job else place.stored) if owner else 0,
    dense_params=place.stored if leads else 0,
    macs=macs_of(place, after, calls, whole),
    dense_macs=macs_of(place, before, calls, place.joint),
    squared_error=None if job and owner else 0.0,
    squared_norm=None if owner else 0.0,
    reason=reason if owner or not job else f'{"part" if job.joint else "weight"} of {job.path}',
    was=layer.scheme.name if place.factorised else None,
    rebuilt=_rebuilt(place, after, calls) if after and calls else None,
  )


def _rebuilt(place: Place, bound: Parametrization, calls: Iterable[tuple[int, ...]]) -> bool:
  return any(place.kind.forecast(place.layer, bound, shape).rebuilds for shape in calls)


def macs_of(
  place: Place,
  parametrization: Parametrization | None,
  calls: Mapping[tuple[int, ...], float] | None,
  joint: Parametrization | None = None,
) -> int | None:
  """Multiply-adds of all calls; None where they, or how many they are, is not known.

  With those of a `joint` tensor's architecture, which are contracted once for all its layers.
  """
  if calls is None or place.kind is None or math.inf in calls.values():
    return None
  once = expansion(joint)[0] if joint else 0
  each = ((n, place.kind.macs(place.layer, parametrization, shape)) for shape, n in calls.items())
  return once + sum(n * macs for n, macs in each)
