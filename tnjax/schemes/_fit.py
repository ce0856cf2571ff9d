"""Factors of a weight by its parametrization's solver, on the host or by a compiled program."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax import formats
from tnjax.contraction import Network
from tnjax.decompositions import check_input, solve
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
from tnjax.schemes._shuffle import draw_index, index_data, rest_of
from tnjax.schemes._solver import Solver

_BATCH = 2**25  # entries of a batch of weights
_HOST = 2**20  # entries up to which a program's compilation takes longer than NumPy


class Bound(Protocol):
  """What is asked of a `Parametrization` here."""

  fold: Fold
  ranks: tuple[int, ...]
  free: tuple[int, ...]
  solver: Solver
  network: Network
  arrays_network: Network

  def checked(self, weight: Array, key: Array | None) -> Array:
    """The weight as an array, if it and the key will do."""

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


def fit_all(p: Bound, weights: Sequence[Array], keys: Sequence[Array | None]) -> list[Fit]:
  """`Parametrization.fit` of several weights of one shape and dtype.

  On the host one after the other; by a compiled program as one batch, cut where its memory would
  exceed a few times 2^25 entries. Nothing is waited for.

  >>> import tnjax as tn
  >>> p = tn.schemes.svd(ranks=1).bind((3, 2))
  >>> [bool(f.converged) for f in fit_all(p, [jnp.ones((3, 2)), jnp.zeros((3, 2))], [None, None])]
  [True, True]
  """
  weights = [p.checked(weight, key) for weight, key in zip(weights, keys, strict=True)]
  if not any(_needs_program(p, *given) for given in zip(weights, keys)):
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


def rebuild(p: Bound, factors: Mapping[str, Array]) -> Array:
  """`Parametrization.dense` of factors that are to be converted: on the host where `fit` would be.

  >>> import tnjax as tn
  >>> p = tn.schemes.tk(ranks=2).bind((3, 3, 4, 4))
  >>> factors = p.init(jax.random.key(0))
  >>> bool(jnp.allclose(rebuild(p, factors), p.dense(factors), atol=1e-6))
  True
  """
  if math.prod(p.fold.shape) > _HOST or not all(map(_at_hand, factors.values())):
    return p.dense(factors)
  some = factors[p.network.names[0]]
  wide = working_dtype(some.dtype)
  with one_thread():
    full = p.dense(_cast({n: np.asarray(a) for n, a in factors.items()}, wide))
  return _beside(some, full.astype(some.dtype))


def _at_hand(x: Array | None) -> bool:
  """Whether the host may look at the values."""
  return x is None or (not isinstance(x, jax.core.Tracer) and x.is_fully_addressable)


def _needs_program(p: Bound, weight: Array, key: Array | None) -> bool:
  # The correction's thousand sweeps of dense residuals are what compilers are for.
  large = weight.size > _HOST or bool(p.solver.correct)
  return large or not (_at_hand(weight) and _at_hand(key))


def _on_host(p: Bound, weight: Array, key: Array | None) -> Fit:
  data = np.asarray(weight)
  if not np.isfinite(data).all():
    check_input(weight, 'weight')  # says what is wrong
  wide = data.astype('complex128' if np.iscomplexobj(data) else 'float64')
  # Within a trace, too, values are at hand; draws are those of the program for this dtype.
  x64 = jax.config.jax_enable_x64 and data.real.dtype.itemsize > 4
  with one_thread(), jax.ensure_compile_time_eval(), jax.enable_x64(x64):
    found = _fit(p, wide, key, weight.dtype)
  error = np.asarray(found.relative_error, working_dtype(data.real.dtype))
  facts = (error, np.int32(found.num_iters), np.bool_(found.converged))
  return _beside(weight, Fit(found.factors, *facts))


def _beside(x: Array, tree: Any) -> Any:
  """NumPy arrays on the device of x; on all its devices where it has several."""
  sharding = x.sharding
  if len(x.devices()) > 1 and isinstance(sharding, jax.sharding.NamedSharding):
    return jax.device_put(
      tree, jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    )
  with jax.default_device(min(x.devices(), key=lambda d: d.id)):
    return jax.device_put(tree)


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
  net = p.arrays_network
  arrays = d.tensor.absorbed().arrays
  factors = {n: a.reshape(shape) for (n, shape), a in zip(net.shapes().items(), arrays)}
  share = scale ** (1 / len(factors))
  balanced = formats.balance(net, factors)
  stored = {n: (a * share).astype(dtype) for n, a in balanced.items()} | extra

  def rounded() -> Array:
    wide = working_dtype(weight.dtype)
    full = p.dense(_cast(fixed(stored), wide)) / scale
    lost = squared_norm((fixed(whole).astype(wide) - full).ravel())
    return xp.sqrt(lost / squared_norm(fixed(whole).astype(wide).ravel())).astype(error.dtype)

  error = d.relative_error  # of factors that are not rounded yet, which may be all there is to it
  counts = (error < 100 * float(jnp.finfo(dtype).eps)) & (peak(whole) > 0)
  error = choose(counts, rounded, lambda: error)
  return Fit(stored, error, d.num_iters, d.converged)


def _cast(factors: Mapping[str, Array], dtype: np.dtype) -> dict[str, Array]:
  """Factors in another dtype; the integers of a shuffle stay."""
  return {n: a if n.startswith('index') else a.astype(dtype) for n, a in factors.items()}


@partial(jax.jit, static_argnums=0)
def _compiled(p: Bound, weight: Array, key: Array | None) -> Fit:
  return _fit(p, weight, key, weight.dtype)


@partial(jax.jit, static_argnums=0)
def _compiled_batch(p: Bound, weights: Array, keys: Array | None) -> Fit:
  return jax.vmap(lambda weight, key: _fit(p, weight, key, weight.dtype))(weights, keys)
