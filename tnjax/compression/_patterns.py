"""Rules as data: which layers take which scheme."""

import re
from collections.abc import Iterable, Mapping, Sequence

from tnjax.compression._walk import Place
from tnjax.schemes import Scheme, check_scheme

Rules = Sequence[tuple[str, Scheme | None]]


def check_rules(rules: Rules) -> Rules:
  """The rules, or an error that says how to write what was meant."""
  if isinstance(rules, Scheme):
    raise ValueError(
      f"rules={rules!r} is a scheme; say for which layers, (('.*', {rules!r}),) for all it fits"
    )
  if isinstance(rules, Mapping):
    raise ValueError('rules is a dictionary; the first match wins, so give tuple(rules.items())')
  if isinstance(rules, str) or not isinstance(rules, Iterable):
    raise ValueError(f'rules={rules!r} must be a sequence of (pattern, scheme or None) pairs')
  rules = tuple(rules)
  for rule in rules:
    if isinstance(rule, str) or not isinstance(rule, Sequence) or len(rule) != 2:
      pair = len(rules) == 2 and isinstance(rules[0], str)
      remedy = (
        ' (the comma in ((pattern, scheme),) makes one pair a tuple of pairs)' if pair else ''
      )
      raise ValueError(f'rule {rule!r} must be a pair (pattern, scheme or None){remedy}')
    pattern, scheme = rule
    if not isinstance(pattern, str):
      raise ValueError(f'rule pattern {pattern!r} must be a string, matched against layer paths')
    if scheme is not None:
      check_scheme(scheme, f'the scheme of rule {pattern!r}')
  return rules


def compiled(pattern: str, places: Mapping[str, Place]) -> re.Pattern:
  """The pattern of a rule, which must match a layer."""
  try:
    found = re.compile(pattern)
  except re.error as error:
    raise ValueError(f'rule pattern {pattern!r} is no regular expression: {error}') from None
  if not any(matches(found, place) for place in places.values()):
    names = [name for place in places.values() for name in (place.path, *place.aliases)]
    raise ValueError(
      f'rule pattern {pattern!r} matches no layer; the layers are {", ".join(names) or "none"}'
    )
  return found


def matches(pattern: re.Pattern, place: Place) -> bool:
  """By any path of the layer."""
  return any(pattern.fullmatch(path) for path in (place.path, *place.aliases))
