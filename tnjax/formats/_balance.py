"""Gauge and scale of a network's arrays: balancing, and random arrays of a given variance."""

import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import opt_einsum
from jax import Array

from tnjax.contraction import Network
from tnjax.ops import HIGHEST, host_normal, namespace, normal

_SWEEPS = 50


def balance(network: Network, arrays: Mapping[str, Array]) -> dict[str, Array]:
  """Rescales along every bond until the slices that meet there have equal norms.

  The tensor is unchanged and all arrays end with equal Frobenius norms: a gradient step then
  moves every factor alike, where the raw output of an SVD (orthonormal times energy) does not.
  For a matrix U S V^T this is sqrt(S) on either side. NumPy arrays are balanced on the host.
  """
  xp = namespace(*(arrays[n] for n in network.names))
  shapes = network.shapes()
  shaped = {n: arrays[n].reshape(shapes[n]) for n in network.names}
  bonds = {}
  for label, _ in network.sizes:
    owners = [(n, ls.index(label)) for n, ls in zip(network.names, network.labels) if label in ls]
    if len(owners) > 1:
      bonds[label] = owners

  def sweep(_: int, arrays: dict[str, Array]) -> dict[str, Array]:
    for owners in bonds.values():
      norms = [_slice_norms(arrays[n], axis) for n, axis in owners]
      alive = xp.stack(norms).min(axis=0) > 0
      norms = [xp.where(alive, x, 1) for x in norms]
      target = xp.exp(sum(xp.log(x) for x in norms) / len(norms))
      for (n, axis), norm in zip(owners, norms):
        arrays = arrays | {n: _scale(arrays[n], axis, target / norm)}
    return arrays

  shaped = _equal_norms(shaped)
  shaped = _settled(sweep, shaped) if xp is np else jax.lax.fori_loop(0, _SWEEPS, sweep, shaped)
  shaped = _equal_norms(shaped)
  return {n: shaped[n].reshape(arrays[n].shape) for n in network.names}


def _settled(sweep: Callable, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The sweeps on the host, until they no longer move anything but the last digits."""
  for k in range(_SWEEPS):
    before, arrays = arrays, sweep(k, arrays)
    if all(_near(a, before[n]) for n, a in arrays.items()):
      break
  return arrays


def _near(a: np.ndarray, b: np.ndarray) -> bool:
  return np.abs(a - b).max() <= 4 * jnp.finfo(a.dtype).eps * np.abs(a).max()


def random_factors(
  key: Array, network: Network, variance: float, dtype: jnp.dtype, even: Sequence[str] = ()
) -> dict[str, Array]:
  """Gaussian arrays whose contraction has mean square `variance` in every draw, up to rounding.

  All entries share one standard deviation s with variance = s^(2K) prod(bond sizes), K operands
  (the rule of t3f, extended from TT to any network); the draw is then rescaled by its own norm,
  taken from the network without forming the dense tensor. All are cut from one draw. Where the
  key is concrete all else is done on the host, so that no network costs a compilation; under a
  trace the same numbers result, up to rounding.

  At every index of the labels `even` the mean square is expected to be the same, given the operands
  that have them: there the bonds are taken through isometries, or through signs where a bond joins
  more than two operands.
  """
  counts = _occurrences(network)
  bonds = math.prod(size for x, size in network.sizes if counts[x] > 1)
  entries = math.prod(size for x, size in network.sizes if counts[x] == 1)
  std = (variance / bonds) ** (0.5 / len(network.names))
  compute = jnp.promote_types(dtype, jnp.float32)
  draw = normal if isinstance(key, jax.core.Tracer) else host_normal
  drawn = std * draw(key, (network.num_params(),), compute)
  xp, arrays = namespace(drawn), {}
  for name, shape in network.shapes().items():
    size = math.prod(shape)
    arrays[name], drawn = drawn[:size].reshape(shape), drawn[size:]
  for name, labels in zip(network.names, network.labels):
    for label in set(labels) & set(even):
      hyper = any(counts[x] > 2 for x in labels)
      arrays[name] = std * _evened(arrays[name], labels.index(label), hyper)
  norm = xp.sqrt(_squared_norm(network, arrays).real)
  share = (math.sqrt(variance * entries) / xp.where(norm > 0, norm, 1)) ** (1 / len(arrays))
  found = {n: (a * share).astype(dtype) for n, a in arrays.items()}
  return jax.device_put(found) if xp is np else found


def _evened(x: Array, axis: int, hyper: bool) -> Array:
  """Every slice at an index of an axis, between the bonds before and after it, as an isometry."""
  xp = namespace(x)
  if hyper:
    return xp.sign(x)
  shape = x.shape
  slices = xp.moveaxis(x, axis, 0).reshape(
    shape[axis], math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
  )
  wide = slices.shape[1] <= slices.shape[2]
  q = xp.linalg.qr(slices.swapaxes(1, 2) if wide else slices)[0]
  q = (q.swapaxes(1, 2) if wide else q) * math.sqrt(max(slices.shape[1:]))
  return xp.moveaxis(q.reshape(shape[axis], *shape[:axis], *shape[axis + 1 :]), 0, axis)


def _occurrences(network: Network) -> dict[str, int]:
  """How many axes carry each label; a ring of one core carries its bond twice."""
  return {x: sum(ls.count(x) for ls in network.labels) for x, _ in network.sizes}


def _squared_norm(network: Network, arrays: Mapping[str, Array]) -> Array:
  """<X, X> by contracting the network with itself over the open labels, bonds doubled."""
  counts = _occurrences(network)
  symbols = {}
  terms, operands = [], []
  for copy in range(2):
    for name, labels in zip(network.names, network.labels):
      keys = [x if counts[x] == 1 else (x, copy) for x in labels]
      terms.append(
        ''.join(symbols.setdefault(k, opt_einsum.get_symbol(len(symbols))) for k in keys)
      )
      operands.append(arrays[name].conj() if copy else arrays[name])
  equation = ','.join(terms) + '->'
  if namespace(*operands) is np:
    return opt_einsum.contract(equation, *operands, optimize='greedy')
  return jnp.einsum(equation, *operands, optimize='greedy', precision=HIGHEST)


def _equal_norms(arrays: dict[str, Array]) -> dict[str, Array]:
  xp = namespace(*arrays.values())
  norms = {n: _norms(a.reshape(1, -1))[0] for n, a in arrays.items()}
  alive = xp.stack(list(norms.values())).min() > 0
  logs = [xp.log(xp.where(alive, x, 1)) for x in norms.values()]
  target = xp.exp(sum(logs) / len(logs))
  return {
    n: a * xp.where(alive, target / xp.where(alive, norms[n], 1), 1) for n, a in arrays.items()
  }


def _slice_norms(a: Array, axis: int) -> Array:
  return _norms(namespace(a).moveaxis(a, axis, 0).reshape(a.shape[axis], -1))


def _norms(rows: Array) -> Array:
  """Norm of every row, with gradient zero where it vanishes."""
  xp = namespace(rows)
  energy = xp.sum(xp.abs(rows) ** 2, axis=1)
  return xp.where(energy > 0, xp.sqrt(xp.where(energy > 0, energy, 1)), 0)


def _scale(a: Array, axis: int, factors: Array) -> Array:
  shape = [1] * a.ndim
  shape[axis] = -1
  return a * factors.reshape(shape)
