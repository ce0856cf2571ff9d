"""The table of methods: each is a fold, a format, and a rule from rates to ranks."""

import dataclasses
import math
import numbers
import operator
from collections.abc import Callable, Sequence

from tnjax import ops, ranks
from tnjax.schemes._fold import Fold, spatial_labels
from tnjax.schemes._parametrization import Parametrization

_CAPS = {'cp': ranks.cp_ranks, 'tr': ranks.tr_ranks, 'tt': ranks.tt_ranks}


@dataclasses.dataclass(frozen=True)
class Scheme:
  """A method with its settings, not yet bound to a weight; `bind(shape)` does that.

  Made by the functions of this module (`svd`, `cp`, ..., `shuffled`), which say what each field
  means for them. Frozen and hashable, so that rules are plain data.

  >>> svd(rate=0.1)
  Scheme(name='svd', rate=0.1)
  """

  name: str
  rate: float | None = None
  ranks: int | tuple[int, ...] | None = None
  order: int | None = None
  in_modes: tuple[int, ...] | None = None
  out_modes: tuple[int, ...] | None = None
  format: str = 'tt'
  shape: tuple[int, ...] | None = None

  def __post_init__(self) -> None:
    """Refuses settings that no weight could satisfy."""
    if (self.rate is None) == (self.ranks is None):
      raise ValueError(
        f'{self.name}: give either rate or ranks, not rate={self.rate} and ranks={self.ranks}'
      )
    if self.name not in _METHODS:
      raise ValueError(f'unknown scheme {self.name!r}; the schemes are {", ".join(_METHODS)}')
    if self.rate is not None and not (isinstance(self.rate, numbers.Real) and 0 < self.rate <= 1):
      raise ValueError(f'{self.name}: rate={self.rate!r} must be in (0, 1]')
    if self.order is not None and not (isinstance(self.order, int) and self.order >= 1):
      raise ValueError(f'{self.name}: order={self.order!r} must be an int of at least 1')
    for field in ('in_modes', 'out_modes', 'shape'):
      sizes = getattr(self, field)
      if sizes is not None and any(n < 1 for n in sizes):
        raise ValueError(f'{self.name}: {field}={sizes} must all be at least 1')
    if self.format not in ('cp', 'tk', 'tr', 'tt'):
      raise ValueError(f"{self.name}: format={self.format!r} must be 'cp', 'tk', 'tr' or 'tt'")

  def __repr__(self) -> str:
    """Only the fields that differ from their defaults."""
    shown = [
      f'{f.name}={getattr(self, f.name)!r}'
      for f in dataclasses.fields(self)
      if getattr(self, f.name) != f.default
    ]
    return f'Scheme({", ".join(shown)})'

  def bind(self, shape: Sequence[int]) -> Parametrization:
    """This method on a weight (in, out) or a kernel (*spatial, in, out).

    Raises:
      ValueError: a shape of another kind, splits whose product is not the channel number, or
        ranks of the wrong number.
    """
    shape = tuple(operator.index(n) for n in shape)
    spatial_labels(shape)
    if any(n < 1 for n in shape):
      raise ValueError(f'weight has shape {shape}; all sizes must be at least 1')
    return _METHODS[self.name](self, shape)


def svd(rate: float | None = None, ranks: int | Sequence[int] | None = None) -> Scheme:
  """Matrix factorisation of the kernel (h S) x (w T): a vertical and a horizontal convolution."""
  return Scheme('svd', rate, _frozen(ranks))


def cp(rate: float | None = None, ranks: int | Sequence[int] | None = None) -> Scheme:
  """CP of the kernel as S, hw, T: 1x1, depthwise, 1x1; a matrix or 1x1 kernel is that of `svd`."""
  return Scheme('cp', rate, _frozen(ranks))


def tk(rate: float | None = None, ranks: int | Sequence[int] | None = None) -> Scheme:
  """Tucker-2: channel modes decomposed, h and w kept; ranks (R_S, R_T).

  A matrix or 1x1 kernel is that of `svd`, with one rank.
  """
  return Scheme('tk', rate, _frozen(ranks))


def tt(rate: float | None = None, ranks: int | Sequence[int] | None = None) -> Scheme:
  """Tensor train S, h, w, T: 1x1, vertical, horizontal, 1x1; three ranks.

  A matrix or 1x1 kernel is that of `svd`, with one rank.
  """
  return Scheme('tt', rate, _frozen(ranks))


def tr(rate: float | None = None, ranks: int | Sequence[int] | None = None) -> Scheme:
  """Tensor ring S, h, w, T, TR-SVD refined by ALS; four ranks (r_0, ..., r_3)."""
  return Scheme('tr', rate, _frozen(ranks))


def r_cp(
  rate: float | None = None,
  ranks: int | Sequence[int] | None = None,
  order: int = 2,
  in_modes: Sequence[int] | None = None,
  out_modes: Sequence[int] | None = None,
) -> Scheme:
  """CP of hw, s1t1, ..., smtm: channels split into m = `order` modes, paired in with out.

  `in_modes` and `out_modes` give explicit splits in place of `order`.
  """
  return Scheme('r_cp', rate, _frozen(ranks), order, _frozen(in_modes), _frozen(out_modes))


def r_tk(
  rate: float | None = None,
  ranks: int | Sequence[int] | None = None,
  order: int = 2,
  in_modes: Sequence[int] | None = None,
  out_modes: Sequence[int] | None = None,
) -> Scheme:
  """Tucker of h, w, s1..sm, t1..tm with h and w kept; 2m ranks, inputs first."""
  return Scheme('r_tk', rate, _frozen(ranks), order, _frozen(in_modes), _frozen(out_modes))


def r_tt(
  rate: float | None = None,
  ranks: int | Sequence[int] | None = None,
  order: int = 3,
  in_modes: Sequence[int] | None = None,
  out_modes: Sequence[int] | None = None,
) -> Scheme:
  """Tensor train of s1t1, ..., smtm, hw; on a matrix, TensorNet's TT-layer.

  The automatic split of the output channels is reversed, as in the released code; m ranks for a
  kernel, m - 1 for a matrix.
  """
  return Scheme('r_tt', rate, _frozen(ranks), order, _frozen(in_modes), _frozen(out_modes))


def shuffled(
  rate: float | None = None,
  ranks: int | Sequence[int] | None = None,
  format: str = 'tt',
  shape: Sequence[int] | None = None,
) -> Scheme:
  """All entries permuted by a seed, then `format` ('cp', 'tk', 'tr' or 'tt') on `shape`.

  The default shape is the weight's own. Saves storage, not multiply-adds (RsTD, Li et al. 2019).
  """
  return Scheme('shuffled', rate, _frozen(ranks), format=format, shape=_frozen(shape))


_MAKERS = {f.__name__: f for f in (svd, cp, tk, tt, tr, r_cp, r_tk, r_tt, shuffled)}
NAMES = tuple(_MAKERS)


def by_name(name: str, rate: float) -> Scheme:
  """The scheme called `name` at a rate, all other settings default.

  >>> by_name('r_cp', 0.2)
  Scheme(name='r_cp', rate=0.2, order=2)
  """
  if name not in NAMES:
    raise ValueError(f'unknown scheme {name!r}; the schemes are {", ".join(NAMES)}')
  return _MAKERS[name](rate=rate)


def _svd(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  spatial, (s, t) = spatial_labels(shape), shape[-2:]
  half = (len(spatial) + 1) // 2
  axes = (*zip(spatial, shape), ('s1', s), ('t1', t))
  fold = Fold(shape, axes, ((*spatial[:half], 's1'), (*spatial[half:], 't1')))
  left, right = math.prod(shape[:half]), math.prod(shape[half:-2])
  return _bound(fold, 'tt', scheme, lambda rate: ranks.svd_rank(rate, left, right, s, t))


def _cp(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  if math.prod(shape[:-2]) == 1:
    return _svd(scheme, shape)
  fold = _plain_fold(shape, lambda spatial: (('s1',), spatial, ('t1',)))
  return _bound(fold, 'cp', scheme, lambda rate: ranks.cp_rank(rate, shape[:-2], *shape[-2:]))


def _tk(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  if math.prod(shape[:-2]) == 1:
    return _svd(scheme, shape)
  fold = _plain_fold(shape, lambda spatial: (*((x,) for x in spatial), ('s1',), ('t1',)))
  return _bound(fold, 'tk', scheme, lambda rate: ranks.tk_rank(rate, shape[:-2], *shape[-2:]))


def _tt(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  if math.prod(shape[:-2]) == 1:
    return _svd(scheme, shape)
  fold = _chain_fold(shape)
  return _bound(fold, 'tt', scheme, lambda rate: ranks.tt_rank(rate, shape[:-2], *shape[-2:]))


def _tr(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  fold = _chain_fold(shape)
  return _bound(fold, 'tr', scheme, lambda rate: ranks.tr_rank(rate, fold.mode_shape))


def _r_cp(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  spatial, ins, outs = _splits(scheme, shape, reverse=len(shape) == 2)
  pairs = tuple((f's{i + 1}', f't{i + 1}') for i in range(len(ins)))
  fold = Fold(shape, _axes(spatial, shape, ins, outs), ((spatial, *pairs) if spatial else pairs))
  sizes = [a * b for a, b in zip(ins, outs)]
  return _bound(fold, 'cp', scheme, lambda rate: ranks.r_cp_rank(rate, sizes, shape[:-2]))


def _r_tk(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  _, ins, outs = _splits(scheme, shape)
  axes = _axes(spatial_labels(shape), shape, ins, outs)
  fold = Fold(shape, axes, tuple((x,) for x, _ in axes))
  return _bound(fold, 'tk', scheme, lambda rate: ranks.r_tk_ranks(rate, ins, outs, shape[:-2]))


def _r_tt(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  spatial, ins, outs = _splits(scheme, shape, reverse=True)
  pairs = tuple((f's{i + 1}', f't{i + 1}') for i in range(len(ins)))
  fold = Fold(shape, _axes(spatial, shape, ins, outs), ((*pairs, spatial) if spatial else pairs))
  sizes = [a * b for a, b in zip(ins, outs)]

  def rule(rate: float) -> tuple[int, ...]:
    found = ranks.r_tt_ranks(rate, sizes, shape[:-2])
    return found if spatial or len(shape) == 2 else found[:-1]  # a 1x1 kernel has R_m = 1

  return _bound(fold, 'tt', scheme, rule)


def _shuffled(scheme: Scheme, shape: tuple[int, ...]) -> Parametrization:
  modes = shape if scheme.shape is None else scheme.shape
  if math.prod(modes) != math.prod(shape):
    raise ValueError(
      f'shuffled: shape={modes} has {math.prod(modes)} entries; the weight, of shape {shape}, '
      f'has {math.prod(shape)}'
    )
  labels = tuple(f'm{k}' for k in range(len(modes)))
  fold = Fold(shape, tuple(zip(labels, modes)), tuple((x,) for x in labels), shuffled=True)
  return _bound(
    fold, scheme.format, scheme, lambda rate: ranks.shuffled_ranks(rate, modes, scheme.format)
  )


_METHODS: dict[str, Callable[[Scheme, tuple[int, ...]], Parametrization]] = {
  'svd': _svd,
  'cp': _cp,
  'tk': _tk,
  'tt': _tt,
  'tr': _tr,
  'r_cp': _r_cp,
  'r_tk': _r_tk,
  'r_tt': _r_tt,
  'shuffled': _shuffled,
}


def _bound(
  fold: Fold, format: str, scheme: Scheme, rule: Callable[[float], int | tuple[int, ...]]
) -> Parametrization:
  """Ranks given or by `rule`, capped; Tucker decomposes all modes but whole spatial ones."""
  wanted = scheme.ranks if scheme.rate is None else rule(scheme.rate)
  shape = fold.mode_shape
  if format != 'tk':
    return Parametrization(fold, format, _CAPS[format](shape, wanted))
  free = tuple(k for k, mode in enumerate(fold.modes) if mode[0] not in ('d', 'h', 'w'))
  return Parametrization(fold, 'tk', ranks.tucker_ranks(shape, wanted, free), free)


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
  scheme: Scheme, shape: tuple[int, ...], reverse: bool = False
) -> tuple[tuple[str, ...], tuple[int, ...], tuple[int, ...]]:
  """Spatial labels (none for a 1x1 kernel) and the channel splits, outputs reversed if asked."""
  s, t = shape[-2:]
  order = scheme.order
  if scheme.in_modes or scheme.out_modes:
    order = len(scheme.in_modes or scheme.out_modes)
  ins = scheme.in_modes or ops.split_modes(s, order)
  outs = scheme.out_modes or ops.split_modes(t, order)[:: -1 if reverse else 1]
  if len(ins) != len(outs):
    raise ValueError(f'{scheme.name}: in_modes={ins} and out_modes={outs} differ in length')
  for name, modes, n in (('in_modes', ins, s), ('out_modes', outs, t)):
    if math.prod(modes) != n:
      raise ValueError(
        f'{scheme.name}: {name}={modes} has product {math.prod(modes)}; the weight, of shape '
        f'{shape}, needs {n}'
      )
  spatial = spatial_labels(shape) if math.prod(shape[:-2]) > 1 else ()
  return spatial, ins, outs


def _frozen(values: int | Sequence[int] | None) -> int | tuple[int, ...] | None:
  if values is None:
    return None
  try:
    return operator.index(values)
  except TypeError:
    pass
  try:
    return tuple(operator.index(v) for v in values)
  except TypeError:
    raise ValueError(f'{values!r} must be an int or a sequence of ints') from None
