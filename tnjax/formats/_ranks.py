"""How many ranks each format has."""

from typing import Any

import numpy as np

from tnjax.formats._cp import CP
from tnjax.formats._record import Record
from tnjax.formats._tr import TR
from tnjax.formats._tt import TT
from tnjax.formats._tucker import Tucker
from tnjax.ops import integers

_MEANING = {
  CP: 'the CP rank',
  Tucker: 'one per mode to decompose',
  TT: 'one per bond, the inner TT-ranks',
  TR: 'one per mode, r_0 first',
}


def given_ranks(kind: type[Record], order: int, ranks: Any, name: str = 'ranks') -> tuple[int, ...]:
  """Ranks as a user gives them, not capped; an int applies to all.

  As TensorLy counts them, those of a TT may come with the ones at both ends, and those of a TR
  with r_0 again at the end.

  Args:
    kind: `CP`, `Tucker`, `TT` or `TR`.
    order: number of modes; of a partial Tucker, those to decompose.
    ranks: to be checked.
    name: of the argument.

  Raises:
    ValueError: not ints of at least 1, or not as many as the format has.

  >>> given_ranks(TT, 3, 2), given_ranks(TT, 3, (1, 2, 4, 1)), given_ranks(TR, 3, (2, 3, 4, 2))
  ((2, 2), (2, 4), (2, 3, 4))
  """
  count = {CP: 1, TT: order - 1}.get(kind, order)
  values = integers(ranks, name)
  if not np.iterable(ranks):
    return values * count
  first, last = values[:1], values[-1:]
  if kind is TT and len(values) == order + 1 and first == last == (1,):
    return values[1:-1]
  if kind is TR and len(values) == order + 1 and first == last:
    return values[:-1]
  if len(values) != count:
    raise ValueError(
      f'{name}={ranks!r} has {len(values)} entries; this shape needs {count}: {_MEANING[kind]}'
    )
  return values
