"""Which layers a pattern joins into one tensor, and where each stands in it."""

import re
from collections.abc import Mapping

import numpy as np

from tnjax import nn
from tnjax.compression._walk import Place

Members = tuple[tuple[tuple[int, ...], Place], ...]


def members(
  pattern: re.Pattern, places: Mapping[str, Place], every: Mapping[str, Place]
) -> Members:
  """The layers by position: what the pattern's groups capture are the modes of the architecture.

  The indices of a mode number its different texts, numbers in their order, words in that of the
  alphabet.

  Args:
    pattern: of the rule.
    places: the layers that it takes, all of which it matches.
    every: those of the model.

  Raises:
    ValueError: a pattern without groups, or one that does not take part in a match; two layers in
      one place, or a place without a layer; one that is no convolution, shares its weight or has a
      kernel of another shape than the first; some layers of a joint tensor without the others.
  """
  name = f'rule pattern {pattern.pattern!r} of a joint tensor'
  if not pattern.groups:
    raise ValueError(f'{name} has no groups (...), which tell its layers apart')
  texts, first = {}, next(iter(places.values()))
  for place in places.values():
    if place.kind is not nn.Conv:
      raise ValueError(f'{name}: {place.path} is a {type(place.layer).__name__}, no convolution')
    if place.kind.stack_shape(place.layer):
      raise ValueError(f'{name}: {place.path} is a stack; a joint tensor is of single layers')
    if left := [p for p in every.values() if p.home == place.home and p.path not in places]:
      raise ValueError(f'{name} takes {place.path} out of one with {left[0].path}, which stays')
    if place.shape != first.shape:
      raise ValueError(
        f'{name}: the kernel of {place.path} has shape {place.shape}, that of {first.path} '
        f'{first.shape}; they must be equal'
      )
    found = next(filter(None, map(pattern.fullmatch, (place.path, *place.aliases))))
    if None in found.groups():
      raise ValueError(f'{name}: a group takes no part in {place.path}')
    if place.tie or any(p.leader == place.leader for p in every.values() if p is not place):
      raise ValueError(f'{name}: {place.path} shares its weight')
    if found.groups() in texts:
      other = texts[found.groups()].path
      raise ValueError(f'{name}: {other} and {place.path} both have {", ".join(found.groups())}')
    texts[found.groups()] = place
  modes = [sorted(set(own), key=_natural) for own in zip(*texts)]
  for at in np.ndindex(*map(len, modes)):
    groups = tuple(own[i] for own, i in zip(modes, at))
    if groups not in texts:
      raise ValueError(f'{name}: no layer has {", ".join(groups)}; every combination must occur')
  return tuple(
    (at, texts[tuple(own[i] for own, i in zip(modes, at))]) for at in np.ndindex(*map(len, modes))
  )


def _natural(text: str) -> tuple:
  return (0, int(text), text) if text.isdecimal() else (1, 0, text)
