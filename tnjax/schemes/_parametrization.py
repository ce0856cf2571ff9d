"""A scheme bound to the shape of one weight: everything a layer needs."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tnjax import contraction, formats
from tnjax.contraction import Geometry, Network, Problem
from tnjax.decompositions import METHODS
from tnjax.ops import HIGHEST, numeric, prng_key, working_dtype
from tnjax.schemes._fit import Fit, fit_all
from tnjax.schemes._fold import Fold, spatial_labels
from tnjax.schemes._formats import FORMATS
from tnjax.schemes._held import Held
from tnjax.schemes._shuffle import draw_index, index_data, rest_of
from tnjax.schemes._solver import Solver

_TYPICAL = 32  # batch that a schedule is made for where the size is not known


@dataclasses.dataclass(frozen=True)
class Parametrization:
  """Low-rank stand-in for a weight of shape `fold.shape`, all static and hashable.

  Factors are dictionaries of arrays named by the format: `core_0`, ... (TT, TR), `factor_0`, ...
  (CP), `core` and `factor_2`, ... (Tucker, by mode); a shuffled scheme adds the int32 `index` and
  the data of the key that draws it, `index_key`.

  Attributes:
    fold: the labelled modes.
    format: 'cp', 'tk', 'tr' or 'tt'.
    ranks: CP (R,), TT the inner ranks, TR all, Tucker one per mode that has a factor.
    free: the modes that Tucker gives a factor.
    solver: how `fit` finds the factors.

  >>> import tnjax as tn
  >>> p = tn.schemes.svd(ranks=4).bind((6, 4))  # full rank
  >>> w = jnp.arange(24.).reshape(6, 4)
  >>> factors = p.decompose(w)
  >>> bool(jnp.allclose(p.dense(factors), w, atol=1e-4))
  True
  >>> x = jnp.ones((2, 6))
  >>> bool(jnp.allclose(p.apply(factors, x), x @ w, rtol=1e-4))
  True
  """

  fold: Fold
  format: str
  ranks: tuple[int, ...]
  free: tuple[int, ...]
  solver: Solver

  @property
  def network(self) -> Network:
    """The factors, in the order in which a chain through the layer takes them."""
    net = self.arrays_network
    order = sorted(range(len(net.names)), key=lambda i: turn(net.labels[i]))
    return dataclasses.replace(
      net, names=tuple(net.names[i] for i in order), labels=tuple(net.labels[i] for i in order)
    )

  @property
  def arrays_network(self) -> Network:
    """The factors, in the order of the format's own arrays."""
    return FORMATS[self.format].network(self.fold, self.ranks, self.free)

  @property
  def num_params(self) -> int:
    """Stored entries of all factors (a shuffle's index not counted: its seed suffices)."""
    return self.network.num_params()

  @property
  def names(self) -> tuple[str, ...]:
    """Names of all factors, those of a shuffle included."""
    return (*self.network.names, *(('index', 'index_key') if self.fold.shuffled else ()))

  @property
  def needs_key(self) -> bool:
    """Whether `fit` draws random numbers."""
    method = METHODS[self.solver.name]
    return method.needs_key(**self.solver.options) or self.fold.permutation == 'key'

  def macs(self, geometry: Geometry | None = None, spatial: tuple[int, ...] = ()) -> int:
    """Multiply-adds for one input of `spatial` size, by the formulas of Su et al. 2018.

    arXiv 1805.10352, for the chain through the factors; a weight of `shuffled`
    counts as dense. What a plan really executes is in `tnjax.contraction`.
    """
    if geometry is None and len(self.fold.shape) > 2:
      raise ValueError(
        f'geometry=None: a kernel of shape {self.fold.shape} needs its geometry and the spatial '
        'size of its input, Geometry.resolve(...) and (height, width)'
      )
    geometry = geometry or Geometry()
    if self.fold.opaque:
      out = [geometry.output_size(a, n) for a, n in zip(geometry.spatial, spatial)]
      return math.prod(self.fold.shape) * math.prod(out)
    problem = self._problem(geometry, 1, spatial)
    return sum(step.pair.macs for step in contraction.chain(problem))

  def fit(self, weight: Array, key: Array | None = None) -> Fit:
    """Factors of a dense weight, and what the solver knows of them.

    The factors are balanced: slices that meet at a bond have equal norms. A concrete weight of up
    to 2^22 entries (CP and TR: 2^20) is decomposed on the host by LAPACK in double precision,
    without compiling anything; larger or traced ones by a compiled program. Both run the same
    algorithm, and agree to rounding.

    Args:
      weight: array of shape `fold.shape`.
      key: PRNG key, where `needs_key`.

    Raises:
      ValueError: another shape, non-floating or non-finite entries, or a missing key.

    >>> import tnjax as tn
    >>> w = jax.random.normal(jax.random.key(0), (3, 3, 8, 8))
    >>> found = tn.schemes.tk(ranks=4).bind(w.shape).fit(w)
    >>> error = jnp.linalg.norm(tn.schemes.tk(ranks=4).bind(w.shape).dense(found.factors) - w)
    >>> bool(jnp.allclose(found.relative_error, error / jnp.linalg.norm(w))), bool(found.converged)
    (True, True)
    """
    return fit_all(self, (weight,), (key,))[0]

  def checked(self, weight: Array | Held, key: Array | None) -> Array | Held:
    """The weight, as an array if it is not `Held`, if `fit` can start with it and the key."""
    weight = weight if isinstance(weight, Held) else numeric(weight, 'weight')
    if key is not None:
      prng_key(key)
    if weight.shape != self.fold.shape:
      raise ValueError(
        f'weight has shape {weight.shape}; this scheme is bound to {self.fold.shape}'
      )
    if not jnp.issubdtype(weight.dtype, jnp.inexact):
      raise ValueError(f'weight has dtype {weight.dtype}; it must be floating or complex')
    if self.needs_key and key is None:
      raise ValueError(
        'key=None: this scheme draws random numbers (a start or a shuffle) and '
        'needs key=jax.random.key(seed)'
      )
    return weight

  def decompose(self, weight: Array, key: Array | None = None) -> dict[str, Array]:
    """The factors of `fit`, which says more."""
    return self.fit(weight, key).factors

  def shapes(self, dtype: jnp.dtype = jnp.float32) -> dict[str, jax.ShapeDtypeStruct]:
    """The factors of `init` and `fit`, without values."""
    shapes = {n: (shape, dtype) for n, shape in self.network.shapes().items()}
    if self.fold.shuffled:
      shapes |= {'index': ((math.prod(self.fold.shape),), 'int32'), 'index_key': ((2,), 'uint32')}
    return {n: jax.ShapeDtypeStruct(*given) for n, given in shapes.items()}

  def init(
    self, key: Array, std: float | None = None, dtype: jnp.dtype = jnp.float32
  ) -> dict[str, Array]:
    """Random factors whose rebuilt weight has root mean square `std` in every draw.

    Default 1 / sqrt(fan_in), the standard deviation of flax's default (LeCun normal). Of a joint
    tensor all kernels are alike in that.
    """
    shape, key = self.fold.shape, prng_key(key)
    std = self.fold.fan_in**-0.5 if std is None else std
    rest = rest_of(key) if self.fold.opaque else key
    factors = formats.random_factors(rest, self.network, std**2, dtype, self.fold.stack)
    if not self.fold.shuffled:
      return factors
    data = index_data(self.fold.permutation, key)
    return factors | {'index': draw_index(data, math.prod(shape)), 'index_key': data}

  def dense(self, factors: Mapping[str, Array], precision: object = HIGHEST) -> Array:
    """The weight that the factors stand for, of shape `fold.shape`; 16 bits by way of float32."""
    arrays, dtype = self.widened(factors)
    full = contraction.contract(self.network, arrays, self.fold.labels, precision).astype(dtype)
    if self.fold.shuffled:
      return formats.unshuffle(full, factors['index'], self.fold.shape)
    return full.reshape(self.fold.shape)

  def widened(self, factors: Mapping[str, Array]) -> tuple[dict[str, Array], jnp.dtype]:
    """Factors as they are to meet one another, and the dtype of what they are for."""
    arrays = {name: factors[name] for name in self.network.names}
    dtype = jnp.result_type(*arrays.values())
    return {n: a.astype(working_dtype(dtype)) for n, a in arrays.items()}, dtype

  def apply(
    self,
    factors: Mapping[str, Array],
    x: Array,
    geometry: Geometry | None = None,
    groups: int = 1,
    precision: object = None,
  ) -> Array:
    """The layer x -> y without bias, in the cheaper of the planned orders.

    Args:
      factors: as returned by `decompose` or `init`.
      x: (..., S) for a matrix, (batch, *spatial, groups * S) for a kernel.
      geometry: strides, padding and dilation; default stride 1 and no padding.
      groups: feature groups; a grouped kernel is always rebuilt.
      precision: of the products, as in `jax.lax.dot_general`.
    """
    labels, kernel = spatial_labels(self.fold.shape), self.fold.shape[:-2]
    geometry = geometry or Geometry.resolve(labels, kernel)
    channels = groups * self.fold.shape[-2]
    if x.ndim < len(labels) + 1 or x.shape[-1] != channels:
      raise ValueError(
        f'x has shape {x.shape}; this weight needs {len(labels)} spatial axes and {channels} '
        'channels last'
      )
    lead = x.shape[: x.ndim - 1 - len(labels)]
    x = x.reshape(math.prod(lead), *x.shape[len(lead) :])
    if self.fold.opaque or groups > 1:
      y = contraction.convolve(x, self.dense(factors, precision), groups, geometry, precision)
    else:
      problem = self._problem(geometry, _known(x.shape[0]), x.shape[1:-1])
      y = contraction.apply(problem, factors, x, precision)
    return y.reshape(*lead, *y.shape[1:])

  def forecast(
    self,
    inputs: int = 1,
    geometry: Geometry | None = None,
    spatial: tuple[int, ...] = (),
    groups: int = 1,
    dtype: str = 'float32',
  ) -> 'Forecast':
    """What `apply` is expected to do on this device with a batch of 32.

    Args:
      inputs: rows of x for each of the batch.
      geometry, spatial, groups: as for `apply`, and the input's spatial size.
      dtype: of x and the factors.

    >>> import tnjax as tn
    >>> expected = tn.schemes.svd(ranks=2).bind((512, 512)).forecast()
    >>> expected.rebuilds, expected.seconds < expected.dense_seconds
    (False, True)
    """
    geometry, batch = geometry or Geometry(), _TYPICAL * inputs
    if not (self.fold.opaque or groups > 1):
      found = contraction.schedule(self._problem(geometry, batch, spatial), dtype=dtype)
      return Forecast(found.rebuilds, found.seconds, found.dense_seconds)
    weight = _dense_problem(self.fold.shape, geometry, batch, spatial)
    dense = contraction.schedule(weight, dtype=dtype)
    return Forecast(True, dense.seconds + dense.rewriting(self.fold.size), dense.seconds)

  def _problem(self, geometry: Geometry, batch: int, spatial: tuple[int, ...]) -> Problem:
    return Problem(self.network, self.fold.inputs, self.fold.outputs, geometry, batch, spatial)

  def rows(self, factors: Mapping[str, Array], ids: Array) -> Array:
    """Rows of the matrix that the factors stand for: (..., T) for ids (...), in range.

    Of every factor only the slices that the digits of the ids name are contracted. Where these
    slices would be more than the matrix, which is so for very many ids, and for a shuffled one,
    the matrix is rebuilt.

    >>> import tnjax as tn
    >>> p = tn.schemes.r_tt(ranks=2, in_modes=(5, 4), out_modes=(3, 2)).bind((20, 6))
    >>> factors = p.init(jax.random.key(0))
    >>> ids = jnp.array([[0, 7], [19, 3]])
    >>> bool(jnp.allclose(p.rows(factors, ids), p.dense(factors)[ids], atol=1e-5))
    True
    """
    if self.rows_rebuild(_known(ids.size)):
      return self.dense(factors)[ids]
    net, sizes = self.network, dict(self.fold.axes)
    digits = jnp.unravel_index(ids.ravel(), [sizes[a] for a in self.fold.inputs])
    at = dict(zip(self.fold.inputs, digits))
    wide, dtype = self.widened(factors)
    picked, arrays = contraction.select(net, wide, at, batch='ids')
    out = contraction.contract(picked, arrays, ('ids', *self.fold.outputs), HIGHEST)
    return out.astype(dtype).reshape(*ids.shape, self.fold.shape[-1])

  def rows_rebuild(self, count: int) -> bool:
    """Whether `rows` of so many ids would rebuild the matrix."""
    net = self.network
    slices = sum(
      count * math.prod(net.size(a) for a in own if a[0] != 's')
      for own in net.labels
      if any(a[0] == 's' for a in own)
    )
    return self.fold.opaque or slices > math.prod(self.fold.shape)

  def attend(self, factors: Mapping[str, Array], x: Array, precision: object = None) -> Array:
    """`x @ matrix.T` for x (..., T): scores (..., S), as an embedding's output layer needs them."""
    if self.fold.opaque:
      return jnp.matmul(x, self.dense(factors).T, precision=precision)
    batch = math.prod(x.shape[:-1])
    problem = Problem(self.network, self.fold.outputs, self.fold.inputs, batch=_known(batch))
    y = contraction.apply(problem, factors, x.reshape(batch, self.fold.shape[-1]), precision)
    return y.reshape(*x.shape[:-1], self.fold.shape[0])


def _known(batch: Any) -> int:
  """A number of inputs to choose by; in `jax.export` it may be symbolic."""
  return batch if isinstance(batch, int) else _TYPICAL


@dataclasses.dataclass(frozen=True)
class Forecast:
  """What a layer is expected to do with a batch of 32.

  Attributes:
    rebuilds: whether the weight is rebuilt at every call, and then applied as dense.
    seconds, dense_seconds: of a forward pass, by the planner's model of the device, of the factors
      and of the dense weight; None where it has none, as for look-ups. Where the planner has no
      choice but to rebuild (a shuffle, groups) the factors' is a lower bound.
  """

  rebuilds: bool
  seconds: float | None = None
  dense_seconds: float | None = None


def _dense_problem(
  shape: tuple[int, ...], geometry: Geometry, batch: int, spatial: tuple[int, ...]
) -> Problem:
  """The layer whose one factor is its weight."""
  labels = (*spatial_labels(shape), 's1', 't1')
  net = Network(('kernel',), (labels,), tuple(zip(labels, shape)))
  return Problem(net, ('s1',), ('t1',), geometry, batch, spatial)


def turn(labels: tuple[str, ...]) -> int:
  """Place of a factor in the chain: those with inputs, then those between, then outputs."""
  kinds = {x[0] for x in labels}
  return 0 if 's' in kinds else 2 if 't' in kinds else 1
