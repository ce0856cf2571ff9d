"""Sweeps of an alternating method, carried on along their own direction, until they change nothing.

Alternating methods crawl along curved valleys. Where the next sweep starts from a point further
along the line of the last two, it arrives many sweeps earlier: the line search of Bro (1998,
section 4.6), whose steps grow with the count of sweeps, with the rule that a sweep that ends
higher than the one before is undone. So the error never rises.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tnjax.ops import namespace, varying_with

_QUIET = 5  # sweeps that together change nothing, before the method has come to rest
_FALL = 100  # times less than the sweep before


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Walk:
  """Where the iteration stands.

  Attributes:
    state, error: the best so far.
    previous: the state before it.
    count: sweeps done.
    undone: how many of them were undone.
    careful: whether the next one starts from the state itself, since the last was undone.
    quiet: how many of the last sweeps together changed nothing.
    level: the error before them.
    change: of the error, by the last sweep; 0 where there is none to compare with.
    fell: whether that was small, and a hundredth of the one before.
  """

  state: Any
  previous: Any
  error: Array
  count: Array
  undone: Array
  careful: Array
  quiet: Array
  level: Array
  change: Array
  fell: Array


def iterate(
  step: Callable,
  state: Any,
  max_iters: int,
  tol: float,
  dtype: np.dtype,
  ahead: Callable | None = None,
  error: Array | None = None,
) -> tuple[Any, Array, Array, Array]:
  """Runs `state, error = step(state)` until it comes to rest.

  That is when five sweeps together changed the fit 1 - error by less than `tol` of itself, or the
  squared error by less than one rounding; or two of the first three did, which start from where
  the last one ended, the one by a hundredth of the change before it and the other by no more than
  that, as no method that crawls, or leaves a saddle, does.

  Args:
    step: one sweep from a state.
    state: to start from; what it holds beside data must be `varying_with` it.
    max_iters: limit of sweeps.
    tol: `tol=0.` scans exactly `max_iters` sweeps, which reverse-mode differentiates; `tol>0` is a
      while-loop.
    dtype: of the errors.
    ahead: `ahead(state, previous, by)`, a state further along by `by` times the last change; None
      for plain sweeps.
    error: of `state`, where it is known.

  Returns:
    State, errors (max_iters,), sweeps done and whether it came to rest.
  """
  xp = namespace(*jax.tree.leaves(state))
  zero, high = varying_with((xp.asarray(0, 'int32'), xp.asarray(np.inf, dtype)), state)
  known = high if error is None else error
  none = xp.zeros_like(high)
  start = _Walk(state, state, known, zero, zero, zero > 0, zero, known, none, zero > 0)
  advance = _advance(step, tol, ahead, xp)
  if xp is np:
    return _on_host(advance, start, max_iters, tol)
  if tol == 0.0:

    def scanned(walk: _Walk, _: None) -> tuple[_Walk, Array]:
      walk = advance(walk)
      return walk, walk.error

    walk, errors = jax.lax.scan(scanned, start, None, length=max_iters)
    return walk.state, errors, walk.count, jnp.isfinite(walk.error)

  def unfinished(carry: tuple[_Walk, Array]) -> Array:
    walk, _ = carry
    return (walk.count < max_iters) & (walk.quiet < _QUIET)

  def looped(carry: tuple[_Walk, Array]) -> tuple[_Walk, Array]:
    walk, errors = carry
    after = advance(walk)
    return after, errors.at[walk.count].set(after.error)

  errors = varying_with(jnp.full(max_iters, jnp.nan, dtype), state)
  walk, errors = jax.lax.while_loop(unfinished, looped, (start, errors))
  return _forward_only((walk.state, errors, walk.count, walk.quiet == _QUIET))


def _advance(step: Callable, tol: float, ahead: Callable | None, xp: Any) -> Callable:
  """One sweep of the walk."""

  def advance(walk: _Walk) -> _Walk:
    eps = np.finfo(walk.error.dtype).eps
    early = walk.count < 3
    plain = walk.careful | early
    length = xp.maximum(walk.count, 1).astype(walk.error.dtype)
    by = xp.where(plain, 0, length ** (1 / (3 + walk.undone / 4)) - 1).astype(walk.error.dtype)
    start = walk.state
    if ahead is not None and not (xp is np and plain):
      moved = ahead(walk.state, walk.previous, by)
      start = jax.tree.map(lambda here, there: xp.where(plain, here, there), start, moved)
    state, error = step(start)
    change = xp.abs(walk.level - error)
    small = (change <= tol * xp.abs(1 - error)) | (change * (walk.level + error) <= eps)
    quiet = xp.where(small, walk.quiet + 1, 0).astype('int32')
    worse = walk.careful  # False, and stays so without `ahead`
    if ahead is not None:
      worse = ~plain & (error**2 > walk.error**2 + eps)
      state, error = jax.tree.map(
        lambda old, new: xp.where(worse, old, new), (walk.state, walk.error), (state, error)
      )
    undone = (walk.undone + worse).astype('int32')
    level = xp.where(small, walk.level, error)
    change = xp.where(xp.isfinite(walk.error), xp.abs(walk.error - error), 0)
    told = 2 * walk.change * error > _FALL * eps  # more than roundings of the squared error
    fell = small & told & (change <= walk.change / _FALL)
    rests = walk.fell & early & small & (change <= walk.change)
    quiet = xp.where(rests, _QUIET, quiet).astype('int32')
    return _Walk(
      state, walk.state, error, walk.count + 1, undone, worse, quiet, level, change, fell
    )

  return advance


def _on_host(
  advance: Callable, walk: _Walk, max_iters: int, tol: float
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
  errors = np.full(max_iters, np.nan, walk.error.dtype)
  while walk.count < max_iters and not (tol > 0 and walk.quiet == _QUIET):
    walk = advance(walk)
    errors[walk.count - 1] = walk.error
  converged = walk.quiet == _QUIET if tol > 0 else np.isfinite(walk.error)
  return walk.state, errors, np.asarray(walk.count, 'int32'), np.asarray(converged)


@jax.custom_jvp
def _forward_only(values: tuple) -> tuple:
  """The identity, whose reverse-mode derivative says why there is none."""
  return values


@_forward_only.defjvp
def _forward_only_jvp(primals: tuple, tangents: tuple) -> tuple:
  def refuse(*_: object) -> None:
    raise ValueError(
      'no reverse-mode gradient through tol > 0, whose number of sweeps is not known in advance; '
      'pass tol=0. for exactly max_iters sweeps'
    )

  return primals[0], jax.tree.map(
    lambda t: (
      t
      if t.dtype == jax.dtypes.float0
      else jax.custom_derivatives.linear_call(lambda _, t: t, refuse, (), t)
    ),
    tangents[0],
  )
