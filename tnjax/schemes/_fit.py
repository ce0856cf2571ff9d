"""Factors of a weight by its parametrization's solver, on the host or by a compiled program."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax import formats
from tnjax.contraction import Network
from tnjax.decompositions import Decomposition, check_input, solve
from tnjax.ops import (
  Value,
  choose,
  fixed,
  namespace,
  one_thread,
  peak,
  squared_norm,
  value,
  working_dtype,
)
from tnjax.schemes._fold import Fold
from tnjax.schemes._formats import FORMATS
from tnjax.schemes._held import Held
from tnjax.schemes._host import HOST, at_hand, beside, cast
from tnjax.schemes._shuffle import draw_index, index_data, rest_of
from tnjax.schemes._solver import Solver

_BATCH = 2**25  # entries of a batch of weights


class Bound(Protocol):
  """What is asked of a `Parametrization` here."""

  fold: Fold
  format: str
  ranks: tuple[int, ...]
  free: tuple[int, ...]
  solver: Solver
  network: Network
  arrays_network: Network

  def checked(self, weight: Array | Held, key: Array | None) -> Array | Held:
    """The weight, if it and the key will do."""

  def dense(self, factors: Mapping[str, Array]) -> Array:
    """The weight that factors stand for."""


@value
class Fit(Value):
  """Factors of a weight, and what the solver knew of them.

  Attributes:
    factors: arrays by name, as a `Parametrization` describes.
    relative_error: ||W - W'|| / ||W||, true to 1 %; 0 for a zero weight.
    num_iters: sweeps done, 0 for a direct method.
    converged: whether the solver's stopping rule was met; for a direct method, or tol=0., which
      have none, whether the result is finite.
  """

  factors: dict[str, Array]
  relative_error: Array
  num_iters: Array
  converged: Array


def fit_all(p: Bound, weights: Sequence[Array | Held], keys: Sequence[Array | None]) -> list[Fit]:
  """`Parametrization.fit` of several weights of one shape and dtype.

  On the host one after the other; by a compiled program as one batch, cut where its memory would
  exceed a few times 2^25 entries. Nothing is waited for. A weight that is `Held` in the same fold
  and format at higher ranks is not rebuilt if its core has up to 2^22 entries.

  >>> import tnjax as tn
  >>> p = tn.schemes.svd(ranks=1).bind((3, 2))
  >>> [bool(f.converged) for f in fit_all(p, [jnp.ones((3, 2)), jnp.zeros((3, 2))], [None, None])]
  [True, True]
  """
  weights = [p.checked(weight, key) for weight, key in zip(weights, keys, strict=True)]
  if not weights:
    return []
  if any(isinstance(weight, Held) for weight in weights):
    alone = [isinstance(weight, Held) and _by_core(p, weight) for weight in weights]
    whole = [w.dense if isinstance(w, Held) else w for w, one in zip(weights, alone) if not one]
    rest = iter(fit_all(p, whole, [key for key, one in zip(keys, alone) if not one]))
    pairs = zip(weights, keys, alone)
    return [_anew(p, weight, key) if one else next(rest) for weight, key, one in pairs]
  if not any(needs_program(p, *given) for given in zip(weights, keys)):
    return [_on_host(p, weight, key) for weight, key in zip(weights, keys)]
  if len(weights) == 1:
    return [_compiled(p, check_input(weights[0], 'weight'), keys[0])]
  size = max(1, _BATCH // weights[0].size)
  found = []
  for start in range(0, len(weights), size):
    batch = jnp.stack([check_input(w, 'weight') for w in weights[start : start + size]])
    drawn = None if keys[0] is None else jnp.stack(keys[start : start + size])
    fits = _compiled_batch(p, batch, drawn)
    found += [jax.tree.map(lambda a, i=i: a[i], fits) for i in range(len(batch))]
  return found


def _by_core(p: Bound, weight: Held) -> bool:
  """Whether the core of a held weight is all that is needed."""
  if not weight.again(p) or p.solver.correct or not all(map(at_hand, weight.factors.values())):
    return False
  shape = weight.core_shape
  return math.prod(shape) <= HOST and p.ranks == FORMATS[p.format].cap(shape, p.ranks, p.free)


def _anew(p: Bound, weight: Held, key: Array | None) -> Fit:
  """By the core."""
  core, bases = weight.core
  scale = np.abs(core).max() or 1.0
  with _double(weight.dtype):
    d = solve(
      p.solver.name, core / scale, p.ranks, modes=p.free or None, key=key, **p.solver.options
    )
    record = d.tensor.absorbed()
    arrays = [
      a
      if q is None
      else np.moveaxis(np.tensordot(q, a, (1, record.mode_axis)), 0, record.mode_axis)
      for q, a in zip(bases, record.mode_arrays)
    ]
    stored = _balanced(p, record.with_mode_arrays(arrays).arrays, scale, weight.dtype)
  fine = float(jnp.finfo(weight.dtype).eps)
  if fine > 1e-8 and d.relative_error < 100 * fine:  # much of it may be that factors are rounded
    d = dataclasses.replace(d, relative_error=weight.error_of(p, stored))
  return _placed(weight, stored, d)


def needs_program(p: Bound, weight: Array, key: Array | None) -> bool:
  """Whether NumPy will not decompose it, and a program is compiled."""
  # The correction's thousand sweeps of dense residuals are what compilers are for.
  large = weight.size > FORMATS[p.format].host or bool(p.solver.correct)
  return large or not (at_hand(weight) and at_hand(key))


def _on_host(p: Bound, weight: Array, key: Array | None) -> Fit:
  data = np.asarray(weight)
  if not np.isfinite(data).all():
    check_input(weight, 'weight')  # says what is wrong
  wide = data.astype('complex128' if np.iscomplexobj(data) else 'float64')
  with _double(weight.dtype):
    found = _fit(p, wide, key, weight.dtype)
  return _placed(weight, found.factors, found)


@contextlib.contextmanager
def _double(dtype: np.dtype) -> Iterator[None]:
  """Arithmetic of the host, whose draws are those of the program for this dtype.

  Within a trace, too, values are at hand.
  """
  x64 = jax.config.jax_enable_x64 and jnp.finfo(dtype).bits > 32
  with one_thread(), jax.ensure_compile_time_eval(), jax.enable_x64(x64):
    yield


def _placed(weight: Array | Held, factors: dict[str, Array], facts: Fit | Decomposition) -> Fit:
  error = np.asarray(facts.relative_error, working_dtype(jnp.finfo(weight.dtype).dtype))
  told = (error, np.int32(facts.num_iters), np.bool_(facts.converged))
  return beside(weight, Fit(factors, *told))


def _fit(p: Bound, weight: Array, key: Array | None, dtype: np.dtype) -> Fit:
  # Balanced at unit scale and full precision: neither bf16 factors nor huge ones lose anything.
  xp = namespace(weight)
  scale = peak(weight).astype(working_dtype(weight.real.dtype))
  scale = xp.where(scale > 0, scale, 1)
  unit = weight / scale
  whole, extra = unit, {}
  if p.fold.shuffled:
    data = index_data(p.fold.permutation, key)
    index = draw_index(data, math.prod(p.fold.shape))
    extra = {'index': xp.asarray(index), 'index_key': xp.asarray(data)}
    unit = formats.shuffle(unit, extra['index'], p.fold.mode_shape)
  if p.fold.opaque and key is not None:
    key = rest_of(key)
  x = p.fold.fold(unit)
  d = solve(p.solver.name, x, p.ranks, modes=p.free or None, key=key, **p.solver.options)
  stored = _balanced(p, d.tensor.absorbed().arrays, scale, dtype) | extra

  def rounded() -> Array:
    wide = working_dtype(weight.dtype)
    full = p.dense(cast(fixed(stored), wide)) / scale
    lost = squared_norm((fixed(whole).astype(wide) - full).ravel())
    return xp.sqrt(lost / squared_norm(fixed(whole).astype(wide).ravel())).astype(error.dtype)

  error = d.relative_error  # of factors that are not rounded yet, which may be all there is to it
  counts = (error < 100 * float(jnp.finfo(dtype).eps)) & (peak(whole) > 0)
  error = choose(counts, rounded, lambda: error)
  return Fit(stored, error, d.num_iters, d.converged)


def _balanced(
  p: Bound, arrays: Sequence[Array], scale: Array | float, dtype: np.dtype
) -> dict[str, Array]:
  """Factors of a record's arrays, of equal norms, that stand for `scale` times its tensor."""
  net = p.arrays_network
  factors = {n: a.reshape(shape) for (n, shape), a in zip(net.shapes().items(), arrays)}
  share = scale ** (1 / len(factors))
  return {n: (a * share).astype(dtype) for n, a in formats.balance(net, factors).items()}


@partial(jax.jit, static_argnums=0)
def _compiled(p: Bound, weight: Array, key: Array | None) -> Fit:
  return _fit(p, weight, key, weight.dtype)


@partial(jax.jit, static_argnums=0)
def _compiled_batch(p: Bound, weights: Array, keys: Array | None) -> Fit:
  return jax.vmap(lambda weight, key: _fit(p, weight, key, weight.dtype))(weights, keys)
