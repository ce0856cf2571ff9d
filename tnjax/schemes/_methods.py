"""The table of methods: each is a fold, a format, and a rule from rates to ranks."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from tnjax import ops, ranks
from tnjax.schemes._fold import Fold, spatial_labels


class Settings(Protocol):
  """What a row reads of a scheme."""

  name: str
  order: int | None
  in_modes: tuple[int, ...] | None
  out_modes: tuple[int, ...] | None
  format: str
  shape: tuple[int, ...] | None
  permutation: str | int
  keep: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Form:
  """A method on one shape of weight: the fold, the format, and its ranks for a rate."""

  fold: Fold
  format: str
  by_rate: Callable[[float], int | tuple[int, ...]]


def _svd(settings: Settings, shape: tuple[int, ...]) -> Form:
  spatial, (s, t) = spatial_labels(shape), shape[-2:]
  half = (len(spatial) + 1) // 2
  axes = (*zip(spatial, shape), ('s1', s), ('t1', t))
  fold = Fold(shape, axes, ((*spatial[:half], 's1'), (*spatial[half:], 't1')))
  left, right = math.prod(shape[:half]), math.prod(shape[half:-2])
  return Form(fold, 'tt', lambda rate: ranks.svd_rank(rate, left, right, s, t))


def _cp(settings: Settings, shape: tuple[int, ...]) -> Form:
  if math.prod(shape[:-2]) == 1:
    return _svd(settings, shape)
  fold = _plain_fold(shape, lambda spatial: (('s1',), spatial, ('t1',)))
  return Form(fold, 'cp', lambda rate: ranks.cp_rank(rate, shape[:-2], *shape[-2:]))


def _cp4(settings: Settings, shape: tuple[int, ...]) -> Form:
  if math.prod(shape[:-2]) == 1:
    return _svd(settings, shape)
  fold = _plain_fold(shape, lambda spatial: (('s1',), *((x,) for x in spatial), ('t1',)))
  return Form(fold, 'cp', lambda rate: ranks.cp4_rank(rate, shape[:-2], *shape[-2:]))


def _tk(settings: Settings, shape: tuple[int, ...]) -> Form:
  if math.prod(shape[:-2]) == 1:
    return _svd(settings, shape)
  fold = _plain_fold(shape, lambda spatial: (*((x,) for x in spatial), ('s1',), ('t1',)))
  fold = dataclasses.replace(fold, kept=tuple(range(len(shape) - 2)))
  return Form(fold, 'tk', lambda rate: ranks.tk_rank(rate, shape[:-2], *shape[-2:]))


def _tt(settings: Settings, shape: tuple[int, ...]) -> Form:
  if math.prod(shape[:-2]) == 1:
    return _svd(settings, shape)
  fold = _chain_fold(shape)
  return Form(fold, 'tt', lambda rate: ranks.tt_rank(rate, shape[:-2], *shape[-2:]))


def _tr(settings: Settings, shape: tuple[int, ...]) -> Form:
  fold = _chain_fold(shape)
  return Form(fold, 'tr', lambda rate: ranks.tr_rank(rate, fold.mode_shape))


def _r_cp(settings: Settings, shape: tuple[int, ...]) -> Form:
  spatial, ins, outs = _splits(settings, shape, reverse=len(shape) == 2)
  pairs = tuple((f's{i + 1}', f't{i + 1}') for i in range(len(ins)))
  fold = Fold(shape, _axes(spatial, shape, ins, outs), ((spatial, *pairs) if spatial else pairs))
  sizes = [a * b for a, b in zip(ins, outs)]
  return Form(fold, 'cp', lambda rate: ranks.r_cp_rank(rate, sizes, shape[:-2]))


def _r_tk(settings: Settings, shape: tuple[int, ...]) -> Form:
  _, ins, outs = _splits(settings, shape)
  axes = _axes(spatial_labels(shape), shape, ins, outs)
  fold = Fold(shape, axes, tuple((x,) for x, _ in axes), kept=tuple(range(len(shape) - 2)))
  return Form(fold, 'tk', lambda rate: ranks.r_tk_ranks(rate, ins, outs, shape[:-2]))


def _r_tt(settings: Settings, shape: tuple[int, ...]) -> Form:
  spatial, ins, outs = _splits(settings, shape, reverse=True)
  pairs = tuple((f's{i + 1}', f't{i + 1}') for i in range(len(ins)))
  fold = Fold(shape, _axes(spatial, shape, ins, outs), ((*pairs, spatial) if spatial else pairs))
  sizes = [a * b for a, b in zip(ins, outs)]

  def rule(rate: float) -> tuple[int, ...]:
    found = ranks.r_tt_ranks(rate, sizes, shape[:-2])
    return found if spatial or len(shape) == 2 else found[:-1]  # a 1x1 kernel has R_m = 1

  return Form(fold, 'tt', rule)


def _shuffled(settings: Settings, shape: tuple[int, ...]) -> Form:
  spatial_labels(shape)
  modes = shape if settings.shape is None else settings.shape
  if math.prod(modes) != math.prod(shape):
    raise ValueError(
      f'shuffled: shape={modes} has {math.prod(modes)} entries; the weight, of shape {shape}, '
      f'has {math.prod(shape)}'
    )
  keep = settings.keep
  if keep and (max(keep) >= len(modes) or len(keep) == len(modes)):
    raise ValueError(
      f'shuffled: keep={keep} must be some of the modes 0..{len(modes) - 1} of shape {modes}, not '
      'all'
    )
  labels = tuple(f'm{k}' for k in range(len(modes)))
  permutation = None if settings.permutation == 'identity' else settings.permutation
  fold = Fold(shape, tuple(zip(labels, modes)), tuple((x,) for x in labels), permutation, keep)
  form = settings.format
  return Form(fold, form, lambda rate: ranks.shuffled_ranks(rate, modes, form, keep))


def _joint(settings: Settings, shape: tuple[int, ...]) -> Form:
  """Kernels (*architecture, *spatial, S, T): every mode by itself, in the order of T-Net."""
  count = len(shape) - 4 if settings.order is None else settings.order
  if not 1 <= count <= len(shape) - 2:
    raise ValueError(
      f'joint: a weight of shape {shape} has no {max(1, count)} architecture modes before a kernel '
      '(*spatial, in, out)'
    )
  kernel = shape[count:]
  spatial, stack = spatial_labels(kernel), tuple(f'a{k}' for k in range(count))
  axes = (*zip(stack, shape), *_axes(spatial, kernel, kernel[-2:-1], kernel[-1:]))
  fold = Fold(shape, axes, tuple((x,) for x in (*stack, 's1', 't1', *spatial)))
  form = settings.format
  return Form(fold, form, lambda rate: ranks.shuffled_ranks(rate, fold.mode_shape, form))


def _axes(
  spatial: tuple[str, ...], shape: tuple[int, ...], ins: Sequence[int], outs: Sequence[int]
) -> tuple[tuple[str, int], ...]:
  inputs = ((f's{i + 1}', n) for i, n in enumerate(ins))
  outputs = ((f't{i + 1}', n) for i, n in enumerate(outs))
  return (*zip(spatial, shape), *inputs, *outputs)


def _plain_fold(shape: tuple[int, ...], modes: Callable) -> Fold:
  spatial = spatial_labels(shape)
  return Fold(shape, _axes(spatial, shape, shape[-2:-1], shape[-1:]), modes(spatial))


def _chain_fold(shape: tuple[int, ...]) -> Fold:
  """S, h, w, T; a 1x1 kernel is the matrix S, T."""
  spatial = spatial_labels(shape) if math.prod(shape[:-2]) > 1 else ()
  axes = _axes(spatial, shape, shape[-2:-1], shape[-1:])
  return Fold(shape, axes, (('s1',), *((x,) for x in spatial), ('t1',)))


def _splits(
  settings: Settings, shape: tuple[int, ...], reverse: bool = False
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
  """Spatial labels (none for a 1x1 kernel) and the channel splits, outputs reversed if asked."""
  s, t = shape[-2:]
  order = settings.order
  if settings.in_modes or settings.out_modes:
    order = len(settings.in_modes or settings.out_modes)
  ins = settings.in_modes or ops.split_modes(s, order)
  outs = settings.out_modes or ops.split_modes(t, order)[:: -1 if reverse else 1]
  if len(ins) != len(outs):
    raise ValueError(f'{settings.name}: in_modes={ins} and out_modes={outs} differ in length')
  for name, modes, n in (('in_modes', ins, s), ('out_modes', outs, t)):
    if math.prod(modes) != n:
      raise ValueError(
        f'{settings.name}: {name}={modes} has product {math.prod(modes)}; the weight, of shape '
        f'{shape}, needs {n}'
      )
  spatial = spatial_labels(shape) if math.prod(shape[:-2]) > 1 else ()
  return spatial, ins, outs


# Name -> the row, and the format it stores a kernel in (None: the scheme says).
METHODS: dict[str, tuple[Callable[[Settings, tuple[int, ...]], Form], str | None]] = {
  'svd': (_svd, 'tt'),
  'cp': (_cp, 'cp'),
  'tk': (_tk, 'tk'),
  'tt': (_tt, 'tt'),
  'tr': (_tr, 'tr'),
  'r_cp': (_r_cp, 'cp'),
  'r_tk': (_r_tk, 'tk'),
  'r_tt': (_r_tt, 'tt'),
  'shuffled': (_shuffled, None),
  'cp4': (_cp4, 'cp'),
  'joint': (_joint, None),
}
