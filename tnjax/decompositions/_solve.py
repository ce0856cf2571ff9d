"""The decompositions of fixed ranks under one signature, for callers that hold their names as data.

The doors check and run a compiled program. Here the same algorithms run as they are: on NumPy
arrays at once on the host, without a compiler; under a trace as part of the caller's program.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import jax
import numpy as np
from jax import Array

from tnjax.decompositions._cp_als import cp_als, cp_als_kernel
from tnjax.decompositions._cp_correct import cp_correct, cp_correct_kernel
from tnjax.decompositions._record import Decomposition
from tnjax.decompositions._tr_svd import tr_als, tr_als_kernel, tr_svd, tr_svd_kernel
from tnjax.decompositions._tt_svd import tt_svd, tt_svd_kernel
from tnjax.decompositions._tucker import hooi, hooi_kernel, hosvd, hosvd_kernel
from tnjax.formats import CP, TR, TT, Record, Tucker


@dataclasses.dataclass(frozen=True)
class Method:
  """A decomposition of fixed ranks.

  Attributes:
    run: `run(x, ranks, modes, key, **options)`, as `solve` calls it.
    format: the record it gives.
    options: names and defaults of its options, those of its door.
    takes_key: whether it may draw random numbers.
  """

  run: Callable[..., Decomposition]
  format: type[Record]
  options: Mapping[str, object]
  takes_key: bool = False

  def needs_key(self, **options: object) -> bool:
    """Whether it may draw with these options, and its defaults otherwise.

    >>> METHODS['tr_als'].needs_key(), METHODS['tr_als'].needs_key(restarts=2)
    (False, True)
    """
    given = {**self.options, **options}
    return self.takes_key and (given['init'] != 'svd' or given['restarts'] > 1)


def solve(
  name: str,
  x: Array | np.ndarray,
  ranks: Sequence[int],
  *,
  modes: Sequence[int] | None = None,
  key: Array | None = None,
  **options: object,
) -> Decomposition:
  """The decomposition `name` of x, on the engine that holds x; nothing is checked.

  NumPy in gives NumPy out (a record of NumPy arrays, scalars of shape ()), in x's dtype and
  without compiling anything but random draws; pass float64 for the accuracy that its cheap
  algorithms expect there. JAX arrays and tracers are traced; jit the caller.

  Args:
    name: a name in `METHODS`.
    x: finite array of order >= 1, real or complex.
    ranks: within what the shape allows: (R,) for CP, d - 1 for TT, d for TR, one per entry of
      `modes` for Tucker.
    modes: for Tucker, as in `hosvd`, non-negative; default all.
    key: PRNG key, where random numbers may be needed.
    **options: as of the door, its defaults otherwise. Of `cp_als` also `correct`: whether
      `cp_correct` follows, which changes the tensor and its error and leaves the counts of ALS.

  >>> x = np.arange(24.).reshape(2, 3, 4)
  >>> d = solve('tt_svd', x, (2, 2))
  >>> type(d.tensor.cores[0]).__name__, bool(d.relative_error < 1e-12)
  ('ndarray', True)
  """
  method = METHODS[name]
  modes = range(x.ndim) if modes is None else modes
  d = method.run(x, tuple(ranks), tuple(modes), key, **{**method.options, **options})
  return d if not isinstance(x, np.ndarray) else jax.tree.map(np.asarray, d)


def _cp(
  x: Array, ranks: tuple[int, ...], key: Array | None, correct: bool, **options: object
) -> Decomposition:
  d = cp_als_kernel(x, key, ranks[0], **options)
  if not correct:
    return d
  better = cp_correct_kernel(x, d.tensor, **_options(cp_correct))
  return dataclasses.replace(d, tensor=better.tensor, relative_error=better.relative_error)


def _options(door: Callable) -> dict[str, object]:
  """Options of a door and their defaults; the `tol` of a direct method would choose the ranks."""
  parameters = inspect.signature(door).parameters
  if 'max_iters' not in parameters:
    return {}
  reserved = ('x', 'tensor', 'rank', 'ranks', 'modes', 'key')
  return {n: p.default for n, p in parameters.items() if n not in reserved}


def _method(run: Callable, format: type[Record], door: Callable, **more: object) -> Method:
  options = MappingProxyType({**_options(door), **more})
  return Method(run, format, options, 'key' in inspect.signature(door).parameters)


METHODS: Mapping[str, Method] = MappingProxyType(
  {
    'tt_svd': _method(lambda x, r, _, __: tt_svd_kernel(x, r), TT, tt_svd),
    'hosvd': _method(lambda x, r, modes, _: hosvd_kernel(x, r, modes), Tucker, hosvd),
    'hooi': _method(lambda x, r, modes, _, **o: hooi_kernel(x, r, modes, **o), Tucker, hooi),
    'cp_als': _method(lambda x, r, _, key, **o: _cp(x, r, key, **o), CP, cp_als, correct=False),
    'tr_svd': _method(lambda x, r, _, __: tr_svd_kernel(x, r), TR, tr_svd),
    'tr_als': _method(lambda x, r, _, key, **o: tr_als_kernel(x, key, r, **o), TR, tr_als),
  }
)
