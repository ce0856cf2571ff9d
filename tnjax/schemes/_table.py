"""The methods by name: what a user writes."""

from collections.abc import Sequence

from tnjax import ranks as ranks_lib
from tnjax.schemes._scheme import Scheme
from tnjax.schemes._solver import Solver

Ranks = int | Sequence[int] | ranks_lib.Rule | None


def svd(rate: float | None = None, ranks: Ranks = None, solver: Solver | None = None) -> Scheme:
  """Matrix factorisation of the kernel (h S) x (w T): a vertical and a horizontal convolution."""
  return Scheme('svd', rate, ranks, solver=solver)


def cp(rate: float | None = None, ranks: Ranks = None, solver: Solver | None = None) -> Scheme:
  """CP of the kernel as S, hw, T: 1x1, depthwise, 1x1; a matrix or 1x1 kernel is that of `svd`."""
  return Scheme('cp', rate, ranks, solver=solver)


def tk(rate: float | None = None, ranks: Ranks = None, solver: Solver | None = None) -> Scheme:
  """Tucker-2: channel modes decomposed, h and w kept; ranks (R_S, R_T).

  A matrix or 1x1 kernel is that of `svd`, with one rank.
  """
  return Scheme('tk', rate, ranks, solver=solver)


def tt(rate: float | None = None, ranks: Ranks = None, solver: Solver | None = None) -> Scheme:
  """Tensor train S, h, w, T: 1x1, vertical, horizontal, 1x1; three ranks.

  A matrix or 1x1 kernel is that of `svd`, with one rank.
  """
  return Scheme('tt', rate, ranks, solver=solver)


def tr(rate: float | None = None, ranks: Ranks = None, solver: Solver | None = None) -> Scheme:
  """Tensor ring S, h, w, T, TR-SVD refined by ALS; four ranks (r_0, ..., r_3)."""
  return Scheme('tr', rate, ranks, solver=solver)


def r_cp(
  rate: float | None = None,
  ranks: Ranks = None,
  order: int = 2,
  in_modes: Sequence[int] | None = None,
  out_modes: Sequence[int] | None = None,
  solver: Solver | None = None,
) -> Scheme:
  """CP of hw, s1t1, ..., smtm: channels split into m = `order` modes, paired in with out.

  `in_modes` and `out_modes` give explicit splits in place of `order`.
  """
  modes = in_modes, out_modes
  return Scheme('r_cp', rate, ranks, order, *modes, solver=solver)


def r_tk(
  rate: float | None = None,
  ranks: Ranks = None,
  order: int = 2,
  in_modes: Sequence[int] | None = None,
  out_modes: Sequence[int] | None = None,
  solver: Solver | None = None,
) -> Scheme:
  """Tucker of h, w, s1..sm, t1..tm with h and w kept; 2m ranks, inputs first."""
  modes = in_modes, out_modes
  return Scheme('r_tk', rate, ranks, order, *modes, solver=solver)


def r_tt(
  rate: float | None = None,
  ranks: Ranks = None,
  order: int = 3,
  in_modes: Sequence[int] | None = None,
  out_modes: Sequence[int] | None = None,
  solver: Solver | None = None,
) -> Scheme:
  """Tensor train of s1t1, ..., smtm, hw; on a matrix, TensorNet's TT-layer.

  The automatic split of the output channels is reversed, as in the released code; m ranks for a
  kernel, m - 1 for a matrix.
  """
  modes = in_modes, out_modes
  return Scheme('r_tt', rate, ranks, order, *modes, solver=solver)


def shuffled(
  rate: float | None = None,
  ranks: Ranks = None,
  format: str = 'tt',
  shape: Sequence[int] | None = None,
  permutation: str | int = 'key',
  keep: Sequence[int] = (),
  solver: Solver | None = None,
) -> Scheme:
  """All entries permuted, then `format` ('cp', 'tk', 'tr' or 'tt') on `shape`.

  Saves storage, not multiply-adds (RsTD, Li et al. 2019). A `permutation` from the 'key' of every
  weight; from a seed, an int, one for all weights of a size; or the 'identity', the ordinary
  decomposition on the same shape. The default shape is the weight's own. Tucker leaves the modes
  `keep` whole: keep=(0, 1) of a kernel (h, w, S, T) is Tucker-2.

  >>> p = shuffled(rate=0.1, format='tk', keep=(0, 1), permutation=7).bind((3, 3, 64, 64))
  >>> p.ranks, p.num_params, p.needs_key
  ((14, 14), 3556, False)
  """
  fields = {'format': format, 'shape': shape, 'permutation': permutation, 'keep': keep}
  return Scheme('shuffled', rate, ranks, solver=solver, **fields)


def cp4(rate: float | None = None, ranks: Ranks = None, solver: Solver | None = None) -> Scheme:
  """CP of the kernel as S, h, w, T: 1x1, depthwise vertical, depthwise horizontal, 1x1.

  As in Lebedev et al. 2015 and MUSCO; a matrix or 1x1 kernel is that of `svd`.

  >>> cp4(ranks=10).bind((3, 3, 64, 128)).num_params  # R(S + h + w + T)
  1980
  """
  return Scheme('cp4', rate, ranks, solver=solver)


def joint(
  rate: float | None = None,
  ranks: Ranks = None,
  format: str = 'tk',
  order: int | None = None,
  solver: Solver | None = None,
) -> Scheme:
  """Kernels of several layers as one tensor, T-Net (Kossaifi et al. 2019): `format` of all modes.

  Modes are those of the architecture, `order` of them (by `tn.compress` the groups of its pattern;
  default all before a kernel of two spatial modes), then inputs, outputs, height and width, each
  with ranks of its own: `ranks` has one for each with 'tk', as in the paper's tables, those
  between them with 'tt' (also with the ones at its ends). A rank as large as its mode leaves it
  alone, but its factor counts; a larger one is cut to what its mode needs. The architecture's modes
  are contracted once a step, for all layers; reports count that work with the first of them.

  >>> p = joint(ranks=(2, 2, 2, 2, 96, 96, 3, 3)).bind((4, 4, 3, 2, 3, 3, 128, 128))
  >>> p.num_params
  1351724
  """
  return Scheme('joint', rate, ranks, order, format=format, solver=solver)


_MAKERS = {f.__name__: f for f in (svd, cp, tk, tt, tr, r_cp, r_tk, r_tt, shuffled, cp4)}
NAMES = tuple(_MAKERS)


def by_name(name: str, rate: float) -> Scheme:
  """The scheme called `name` at a rate, all other settings default.

  >>> by_name('r_cp', 0.2)
  Scheme(name='r_cp', rate=0.2, order=2)
  """
  if name not in NAMES:
    raise ValueError(f'unknown scheme {name!r}; the schemes are {", ".join(NAMES)}')
  return _MAKERS[name](rate=rate)
