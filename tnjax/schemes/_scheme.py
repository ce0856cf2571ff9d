"""A method with its settings, and what binds it to a weight."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jax import Array

from tnjax.ops import integer, integers, number
from tnjax.ranks import Energy, Evbmf, Rule, Tolerance
from tnjax.schemes._fold import spatial_labels
from tnjax.schemes._formats import FORMATS, Format
from tnjax.schemes._held import Held
from tnjax.schemes._methods import METHODS
from tnjax.schemes._parametrization import Parametrization
from tnjax.schemes._shuffle import on_host
from tnjax.schemes._solver import Solver

_RULES = {rule.__name__: rule for rule in (Tolerance, Energy, Evbmf)}


@dataclasses.dataclass(frozen=True)
class Scheme:
  """A method with its settings, not yet bound to a weight; `bind(shape)` does that.

  Made by the functions of this package (`svd`, `cp`, ..., `shuffled`), which say what each field
  means for them. Frozen and hashable, so that rules are plain data.

  >>> import tnjax as tn
  >>> tn.schemes.svd(rate=0.1)
  Scheme(name='svd', rate=0.1)
  """

  name: str
  rate: float | None = None
  ranks: int | tuple[int, ...] | Rule | None = None
  order: int | None = None
  in_modes: tuple[int, ...] | None = None
  out_modes: tuple[int, ...] | None = None
  format: str = 'tt'
  shape: tuple[int, ...] | None = None
  permutation: str | int = 'key'
  keep: tuple[int, ...] = ()
  solver: Solver | None = None

  def __post_init__(self) -> None:
    """Brings the settings to plain data, and refuses those that no weight could satisfy."""
    for field in ('ranks', 'in_modes', 'out_modes', 'shape'):
      object.__setattr__(self, field, self._frozen(field))
    if (self.rate is None) == (self.ranks is None):
      raise ValueError(
        f'{self.name}: give either rate or ranks, not rate={self.rate} and ranks={self.ranks}'
      )
    if self.name not in METHODS:
      raise ValueError(f'unknown scheme {self.name!r}; the schemes are {", ".join(METHODS)}')
    if self.rate is not None:
      rate = number(self.rate, f'{self.name}: rate', 'in (0, 1]', lambda x: 0 < x <= 1)
      object.__setattr__(self, 'rate', rate)
    if self.order is not None:
      object.__setattr__(self, 'order', integer(self.order, f'{self.name}: order'))
    if self.format not in FORMATS:
      raise ValueError(f'{self.name}: format={self.format!r} must be one of {", ".join(FORMATS)}')
    self._check_shuffle()
    self._check_rule()
    if not isinstance(self.solver, Solver | None):
      raise ValueError(f'{self.name}: solver={self.solver!r} must be a tn.schemes.Solver')
    if self.solver is not None and not self.stored.runs(self.solver):
      raise ValueError(
        f'{self.name}: solver {self.solver.name!r} does not find a {self.stored.record.__name__}, '
        f'which it stores; {", ".join(self.stored.solvers)} do'
      )

  def _frozen(self, field: str) -> int | tuple[int, ...] | Rule | None:
    value = getattr(self, field)
    if value is None or isinstance(value, Rule):
      return value
    found = integers(value, f'{self.name}: {field}')
    return found[0] if field == 'ranks' and not np.iterable(value) else found

  def _check_shuffle(self) -> None:
    if self.permutation not in ('key', 'identity'):
      remedy = ", 'key' or 'identity'"
      seed = integer(self.permutation, f'{self.name}: permutation', 0, remedy)
      object.__setattr__(self, 'permutation', seed)
    keep = integers(self.keep, f'{self.name}: keep', 0)
    object.__setattr__(self, 'keep', tuple(sorted(set(keep))))
    if self.keep and self.format != 'tk':
      raise ValueError(f"{self.name}: keep={self.keep} is for format='tk', not {self.format!r}")

  def _check_rule(self) -> None:
    rule = self.ranks
    if not isinstance(rule, Rule):
      return
    if isinstance(rule, Evbmf) and self.name not in ('svd', 'tk'):
      raise ValueError(f'{self.name}: ranks={rule} is for svd and tk, which cut channel modes')
    if getattr(self.stored, rule.NEEDS) is None:
      having = ', '.join(name for name, row in FORMATS.items() if getattr(row, rule.NEEDS))
      raise ValueError(
        f'{self.name}: ranks={rule} is for formats {having}; the ranks of a '
        f'{self.stored.record.__name__} do not follow from spectra'
      )

  def __repr__(self) -> str:
    """Only the fields that differ from their defaults."""
    return f'Scheme({", ".join(f"{k}={v!r}" for k, v in self._given().items())})'

  def _given(self) -> dict[str, object]:
    fields = {f: getattr(self, f.name) for f in dataclasses.fields(self)}
    return {f.name: value for f, value in fields.items() if value != f.default}

  def as_dict(self) -> dict[str, object]:
    """The fields that differ from their defaults, as JSON can hold them.

    >>> import tnjax as tn
    >>> scheme = tn.schemes.tk(ranks=tn.ranks.Evbmf(0.9), solver=Solver('hooi', max_iters=9))
    >>> scheme.as_dict()['ranks']
    {'rule': 'Evbmf', 'weaken': 0.9}
    >>> Scheme.from_dict(scheme.as_dict()) == scheme
    True
    """
    given = self._given()
    if isinstance(self.ranks, Rule):
      given['ranks'] = {'rule': type(self.ranks).__name__, **dataclasses.asdict(self.ranks)}
    if self.solver is not None:
      given['solver'] = self.solver.as_dict()
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}

  @classmethod
  def from_dict(cls, fields: Mapping[str, object]) -> 'Scheme':
    """The scheme that `as_dict` wrote.

    Raises:
      ValueError: fields that are none of a scheme's, or have values that it refuses.
    """
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
      if isinstance(given.get('ranks'), Mapping):
        rule = dict(given['ranks'])
        name = rule.pop('rule')
        if name not in _RULES:
          raise ValueError(f'unknown rank rule {name!r}; the rules are {", ".join(_RULES)}')
        given['ranks'] = _RULES[name](**rule)
      if given.get('solver') is not None:
        given['solver'] = Solver(**given['solver'])
      return cls(**given)
    except (KeyError, TypeError) as error:
      raise ValueError(f'{dict(fields)} describes no scheme: {error}') from None

  @property
  def stored(self) -> Format:
    """The row of the format that a kernel is stored in (a matrix may take that of `svd`)."""
    return FORMATS[METHODS[self.name][1] or self.format]

  def bind(self, shape: Sequence[int]) -> Parametrization:
    """This method on a weight (in, out) or a kernel (*spatial, in, out).

    Raises:
      ValueError: a shape of another kind, splits whose product is not the channel number, ranks
        of the wrong number, or a rank rule, which `resolve` turns into ints.
    """
    return _bound(self, checked_shape(shape))

  def resolve(self, *weights: Array, keys: Sequence[Array] | None = None) -> 'Scheme':
    """This scheme with a rank rule replaced by the ints it finds; itself where there is none.

    Args:
      *weights: concrete arrays of one shape; of several, the largest ranks are taken. One that is
        `Held` in the same fold and format shows the rule its core, whose modes are as large as its
        ranks.
      keys: one PRNG key per weight, where `shuffled` needs them.

    Raises:
      ValueError: as `bind`; a traced or abstract weight, or one that is not finite.

    >>> import numpy as np, tnjax as tn
    >>> w = np.outer(np.ones(8), np.arange(6.)).astype('float32')
    >>> tn.schemes.svd(ranks=tn.ranks.Tolerance(1e-3)).resolve(w)
    Scheme(name='svd', ranks=(1,))
    """
    if not isinstance(self.ranks, Rule):
      return self
    if len({np.shape(weight) for weight in weights}) != 1:
      raise ValueError(f'weights have shapes {[np.shape(w) for w in weights]}; they need one shape')
    for weight in weights:
      if isinstance(weight, jax.core.Tracer | jax.ShapeDtypeStruct):
        raise ValueError(
          f'{self.name}: ranks={self.ranks} is found from the values of the weight, which is '
          'traced or abstract here; call Scheme.resolve(weight) outside and pass what it returns'
        )
    form = METHODS[self.name][0](self, checked_shape(np.shape(weights[0])))
    row = FORMATS[form.format]
    found = []
    for weight, key in zip(weights, keys or [None] * len(weights), strict=True):
      held = isinstance(weight, Held) and weight.again(form)
      x = weight.core[0] if held else on_host(form.fold, weight, key)
      seen = row.unfoldings(x, row.free(form.fold))
      found.append(self.ranks.resolve(seen))
    return dataclasses.replace(self, ranks=tuple(map(max, zip(*found))))


@functools.lru_cache(maxsize=4096)
def _bound(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  form = METHODS[scheme.name][0](scheme, shape)
  if isinstance(scheme.ranks, Rule):
    raise ValueError(
      f'{scheme.name}: ranks={scheme.ranks} is found from the values of a weight, and here is only '
      f'its shape {shape}; use from_dense, tn.compress or Scheme.resolve(weight), or give ints'
    )
  row = FORMATS[form.format]
  wanted = form.by_rate(scheme.rate) if scheme.ranks is None else scheme.ranks
  free = row.free(form.fold)
  solver = row.solver
  if scheme.solver is not None and row.runs(scheme.solver):
    solver = scheme.solver.over(solver)
  found = row.cap(form.fold.mode_shape, wanted, free)
  return Parametrization(form.fold, form.format, found, free, solver)


def check_scheme(scheme: object, what: str = 'scheme') -> None:
  """A ValueError where something else than a `Scheme` was given, with what to give instead."""
  if isinstance(scheme, Scheme):
    return
  remedy = 'give one such as tn.schemes.svd(rate=0.1)'
  if isinstance(scheme, str):
    name = scheme if scheme in METHODS else 'svd'
    remedy = f'text becomes one by tn.schemes.by_name({name!r}, rate)'
  elif callable(scheme):
    remedy = 'call it with a rate or ranks'
  raise ValueError(f'{what} is {scheme!r}, no tn.schemes.Scheme; {remedy}')


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
  """The shape of a weight, as ints."""
  shape = integers(shape, 'shape of the weight')
  if len(shape) < 2:
    spatial_labels(shape)  # names what it needs
  return shape
