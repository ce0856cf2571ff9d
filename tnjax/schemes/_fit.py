"""Factors of a weight by its parametrization's solver, on the host or by a compiled program."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax import formats
from tnjax.decompositions import check_input, solve
from tnjax.ops import namespace, one_thread, peak
from tnjax.schemes._shuffle import draw_index, split_key

if TYPE_CHECKING:
  from tnjax.schemes._parametrization import Parametrization

_BATCH = 2**25  # entries of a batch of weights
_HOST = 2**20  # entries up to which a program's compilation takes longer than NumPy


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fit:
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


def fit_all(
  p: 'Parametrization', weights: Sequence[Array], keys: Sequence[Array | None]
) -> list[Fit]:
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
    with one_thread():
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


def rebuild(p: 'Parametrization', factors: Mapping[str, Array]) -> Array:
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
  wide = jnp.promote_types(some.dtype, jnp.float32)
  with one_thread():
    full = p.dense(_cast({n: np.asarray(a) for n, a in factors.items()}, wide))
  with jax.default_device(next(iter(some.devices()))):
    return jax.device_put(full.astype(some.dtype))


def _at_hand(x: Array | None) -> bool:
  """Whether the host may look at the values."""
  return x is None or (not isinstance(x, jax.core.Tracer) and x.is_fully_addressable)


def _needs_program(p: 'Parametrization', weight: Array, key: Array | None) -> bool:
  # The correction's thousand sweeps of dense residuals are what compilers are for.
  large = weight.size > _HOST or bool(p.solver.correct)
  return large or not (_at_hand(weight) and _at_hand(key))


def _on_host(p: 'Parametrization', weight: Array, key: Array | None) -> Fit:
  data = np.asarray(weight)
  if not np.isfinite(data).all():
    check_input(weight, 'weight')  # says what is wrong
  wide = data.astype('complex128' if np.iscomplexobj(data) else 'float64')
  found = _fit(p, wide, key)
  factors, error = _cast(found.factors, weight.dtype), found.relative_error
  if error < 100 * float(jnp.finfo(weight.dtype).eps):  # the factors' own rounding counts
    gap = np.linalg.norm(wide - p.dense(_cast(factors, wide.dtype)))
    error = gap / (np.linalg.norm(wide) or 1)
  facts = (np.float32(error), np.int32(found.num_iters), np.bool_(found.converged))
  with jax.default_device(next(iter(weight.devices()))):
    return jax.device_put(Fit(factors, *facts))


def _fit(p: 'Parametrization', weight: Array, key: Array | None) -> Fit:
  # Balanced at unit scale and full precision: neither bf16 factors nor huge ones lose anything.
  xp, dtype = namespace(weight), weight.dtype
  scale = peak(weight).astype(jnp.promote_types(weight.real.dtype, jnp.float32))
  scale = xp.where(scale > 0, scale, 1)
  weight = weight / scale
  extra = {}
  if p.fold.shuffled:
    data, key = split_key(key)
    index = draw_index(data, math.prod(p.fold.shape))
    extra = {'index': xp.asarray(index), 'index_key': xp.asarray(data)}
    weight = formats.shuffle(weight, extra['index'], p.fold.mode_shape)
  x = p.fold.fold(weight)
  d = solve(p.solver.name, x, p.ranks, modes=p.free or None, key=key, **p.solver.options)
  net = p.arrays_network
  arrays = d.tensor.absorbed().arrays
  factors = {n: a.reshape(shape) for (n, shape), a in zip(net.shapes().items(), arrays)}
  share = scale ** (1 / len(factors))
  balanced = {n: (a * share).astype(dtype) for n, a in formats.balance(net, factors).items()}
  return Fit(balanced | extra, d.relative_error, d.num_iters, d.converged)


def _cast(factors: dict[str, Array], dtype: np.dtype) -> dict[str, Array]:
  """Factors in another dtype; the integers of a shuffle stay."""
  return {n: a if n.startswith('index') else a.astype(dtype) for n, a in factors.items()}


@partial(jax.jit, static_argnums=0)
def _compiled(p: 'Parametrization', weight: Array, key: Array | None) -> Fit:
  return _fit(p, weight, key)


@partial(jax.jit, static_argnums=0)
def _compiled_batch(p: 'Parametrization', weights: Array, keys: Array | None) -> Fit:
  return jax.vmap(partial(_fit, p))(weights, keys)
