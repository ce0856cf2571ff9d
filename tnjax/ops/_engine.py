"""One algorithm, two engines: NumPy arrays are computed on the host at once, without a compiler,
and everything else (JAX arrays, tracers, mixtures) by JAX.

Code for both is written with `xp = namespace(x)`. What follows is where the two need other words.
"""

import contextlib
import functools
import operator
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl
from jax import Array

_HOST = (np.ndarray, np.generic)


def namespace(*arrays: Array | np.ndarray) -> ModuleType:
  """`numpy` if all arrays are NumPy's (its scalars too), else `jax.numpy`.

  >>> namespace(np.ones(3)).__name__, namespace(np.ones(3), jnp.ones(3)).__name__
  ('numpy', 'jax.numpy')
  """
  for a in arrays:  # plain and fast: this is called for every product
    if not isinstance(a, _HOST):
      return jnp
  return np


def fixed(tree: Any) -> Any:
  """The same arrays, through which no gradient passes."""
  return jax.tree.map(
    lambda a: a if np.isscalar(a) or namespace(a) is np else jax.lax.stop_gradient(a), tree
  )


def materialized(x: Array) -> Array:
  """`x`, kept from being fused with what comes before or after it."""
  return x if namespace(x) is np else jax.lax.optimization_barrier(x)


def varying_with(tree: Any, data: Any) -> Any:
  """The same arrays, varying over all mesh axes over which any array of `data` varies.

  Inside `jax.shard_map`, what a loop carries must be so marked from the start if the loop mixes it
  with data, and the operands of a primitive must agree. A choice that never falls on the data says
  so in every release of JAX, and XLA drops it.
  """
  leaves = jax.tree.leaves(data)
  if namespace(*leaves) is np:
    return tree
  first, *rest = map(_varying, (*leaves, *jax.tree.leaves(tree)))
  if all(axes == first for axes in rest):
    return tree
  entries = [a.ravel()[0] for a in leaves if a.size]
  mark = functools.reduce(operator.and_, (entry == entry for entry in entries))
  return jax.tree.map(lambda a: jnp.where(False, mark.astype(a.dtype), a), tree)


def _varying(a: Any) -> object:
  """The mesh axes over which an array varies, by the names that releases of JAX have for them."""
  kind = jax.typeof(a)
  for name in ('manual_axis_type', 'vma'):
    if hasattr(kind, name):
      return getattr(kind, name)
  return object()  # equal to none


def choose(condition: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
  """`yes()` or `no()`, of which only one is computed."""
  if namespace(condition) is np:
    return yes() if condition else no()
  return jax.lax.cond(condition, yes, no)


def batched(f: Callable, xp: ModuleType) -> Callable:
  """`jax.vmap(f)`; on NumPy a loop over the first axis, whose results are stacked."""
  if xp is not np:
    return jax.vmap(f)

  def loop(tree: Any) -> Any:
    count = len(jax.tree.leaves(tree)[0])
    results = [f(jax.tree.map(lambda a, i=i: a[i], tree)) for i in range(count)]
    return jax.tree.map(lambda *a: np.stack(a), *results)

  return loop


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
  """NumPy's BLAS and LAPACK on one thread for as long as the block lasts.

  Threads that wait for one another cost more than small matrices give them to do: on two cores,
  31 kernels of a ResNet took six times as long with two threads while other programs ran. The limit
  is the process's: of blocks that overlap, in threads or one in another, the first alone sets and
  lifts it, as the others would lift it to what the first had set.

  >>> with one_thread():
  ...   np.eye(2) @ np.eye(2)
  array([[1., 0.],
         [0., 1.]])
  """
  if not _limited.acquire(blocking=False):
    yield
    return
  try:
    with _pools().limit(limits=1, user_api='blas'):
      yield
  finally:
    _limited.release()


_limited = threading.Lock()


@functools.cache
def _pools() -> threadpoolctl.ThreadpoolController:
  return threadpoolctl.ThreadpoolController()
