"""What a multi-stage compression does in every step, as data."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from flax import nnx

from tnjax import ranks
from tnjax.compression._patterns import Rules, check_rules, compiled, matches
from tnjax.compression._walk import Place, walk
from tnjax.ops import integer
from tnjax.schemes import Scheme, check_scheme, svd, tk


class Step(NamedTuple):
  """One step: the layers of one group, in one pass.

  Attributes:
    index: from 0, over all passes.
    repetition: the pass, from 0.
    group: the pattern of the layers' paths.
    paths: the layers that were compressed in this step.
  """

  index: int
  repetition: int
  group: str
  paths: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Schedule:
  """Which layers are compressed when, and how: pass after pass, group after group (MUSCO).

  A `rate` is of what a layer stores now: two passes at 0.5 leave a quarter (MUSCO's constant
  reduction). `ranks.Evbmf` starts from a layer's present ranks, as MUSCO's weakened ranks do. Fixed
  ranks are those of every pass. A joint scheme goes with the pattern of its rule, or of its group,
  whose capture groups are the modes of the architecture; no step may cut its layers in two.

  Attributes:
    groups: patterns, matched against layer paths as those of rules are; one fine-tuning each. A
      layer belongs to the first that matches.
    passes: how often all groups are gone through.
    conv: for kernels with a spatial extent; None leaves them as they are.
    matrix: for matrices and 1x1 kernels; None leaves them as they are.
    rules: (model, step) -> rules, in place of `conv` and `matrix`, such as `budget` gives or ranks
      by hand; only layers of the step's group are touched.
    name: what tells schedules with other `rules` apart when a run goes on, as functions cannot be
      compared.

  Raises:
    ValueError: no group, no positive number of passes, what is no scheme, or no function of rules.

  >>> import tnjax as tn
  >>> Schedule(('stages/2/.*', 'stages/1/.*'), passes=2).steps[2]
  Step(index=2, repetition=1, group='stages/2/.*', paths=())
  """

  groups: tuple[str, ...]
  passes: int = 1
  conv: Scheme | None = tk(ranks=ranks.Evbmf())
  matrix: Scheme | None = svd(ranks=ranks.Evbmf())
  rules: Callable[[nnx.Module, Step], Rules] | None = None
  name: str = ''

  def __post_init__(self) -> None:
    """Refuses what is no schedule."""
    groups = (self.groups,) if isinstance(self.groups, str) else tuple(self.groups)
    if not groups or not all(isinstance(group, str) for group in groups):
      raise ValueError(f'groups={self.groups!r} must be patterns of layer paths, at least one')
    object.__setattr__(self, 'groups', groups)
    object.__setattr__(self, 'passes', integer(self.passes, 'passes'))
    for name in ('conv', 'matrix'):
      if getattr(self, name) is not None:
        check_scheme(getattr(self, name), name)
    if self.rules is not None and not callable(self.rules):
      raise ValueError(f'rules={self.rules!r} must be a function (model, step) -> rules')

  @property
  def steps(self) -> tuple[Step, ...]:
    """All steps in order, their layers not yet known."""
    pairs = [(repetition, group) for repetition in range(self.passes) for group in self.groups]
    return tuple(Step(i, *pair) for i, pair in enumerate(pairs))

  def as_dict(self) -> dict[str, object]:
    """The fields as JSON can hold them, but for the function."""
    schemes = {name: getattr(self, name) for name in ('conv', 'matrix')}
    return {
      'groups': list(self.groups),
      'passes': self.passes,
      **{name: scheme and scheme.as_dict() for name, scheme in schemes.items()},
      'rules': self.rules is not None,
      'name': self.name,
    }

  def check(self, model: nnx.Module) -> None:
    """Raises ValueError for a group that names no layer of its own."""
    places = walk(model)
    for group in self.groups:
      compiled(group, places)
      if not self._own(group, places):
        raise ValueError(
          f'group {group!r} has no layer of its own; all it matches belong to groups before it'
        )

  def rules_of(self, model: nnx.Module, step: Step) -> tuple[tuple[str, Scheme | None], ...]:
    """The rules of a step, for the layers of its group alone."""
    places = walk(model)
    own = self._own(step.group, places)
    given = self.rules and [
      (compiled(pattern, places), scheme)
      for pattern, scheme in check_rules(self.rules(model, step))
    ]
    group = compiled(step.group, places)
    paths: dict[Scheme | None, list[str]] = {}
    joint: dict[tuple[str, Scheme], None] = {}
    for path, place in sorted(own.items(), key=lambda item: bool(item[1].refusal)):
      if given is None:
        pattern, scheme = group, self._scheme(place)
        if scheme is not None and place.refusal:  # which is told beside layers that it serves
          scheme = next((s for s in paths if s and s.name == scheme.name), scheme)
      else:
        pattern, scheme = next((rule for rule in given if matches(rule[0], place)), (None, None))
      if scheme is not None and scheme.name == 'joint':
        joint[pattern.pattern, scheme] = None  # the groups of its pattern tell layers apart
      else:
        paths.setdefault(scheme, []).append(re.escape(path))
    if joint:  # whose patterns may match layers of other groups
      paths.setdefault(None, []).extend(re.escape(path) for path in places if path not in own)
    # One rule a scheme: a layer that it cannot serve stays as it is beside others that it can.
    rules = [(f'(?:{"|".join(own)})', scheme) for scheme, own in paths.items() if own]
    return (*rules, *joint)

  def _own(self, group: str, places: Mapping[str, Place]) -> dict[str, Place]:
    """The layers whose first match a group is."""
    patterns = [compiled(pattern, places) for pattern in self.groups]
    first = {
      path: next((p.pattern for p in patterns if matches(p, place)), None)
      for path, place in places.items()
    }
    return {path: place for path, place in places.items() if first[path] == group}

  def _scheme(self, place: Place) -> Scheme | None:
    if place.kind is None:
      return None
    spatial = place.kind.weight_shape(place.layer)[:-2]
    scheme = self.conv if any(size > 1 for size in spatial) else self.matrix
    if scheme is None or scheme.rate is None:
      return scheme
    return dataclasses.replace(scheme, rate=min(1.0, scheme.rate * place.share))
