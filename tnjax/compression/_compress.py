"""Replacing the layers of a trained model by factorised ones."""

import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax import nn
from tnjax.compression._report import LayerReport, Report
from tnjax.compression._trace import input_sizes
from tnjax.schemes import Scheme

Rules = Sequence[tuple[str, Scheme | None]]

_LAYERS = {nnx.Conv: nn.Conv, nnx.Linear: nn.Linear}


def compress(
  model: nnx.Module,
  rules: Rules,
  key: Array | None = None,
  *,
  input_shape: Sequence[int] | None = None,
  on_layer: Callable[[str], object] | None = None,
) -> tuple[nnx.Module, Report]:
  """Decomposes the layers that the rules name; the model given is left unchanged.

  Args:
    model: any NNX model; its `nnx.Conv` and `nnx.Linear` layers, at any depth, can be served.
    rules: (pattern, scheme or None) pairs. A layer takes the first pattern that `re.fullmatch`es
      its '/'-joined path; None, or no match, leaves it dense.
    key: PRNG key, for schemes that draw random numbers; each layer folds in its path.
    input_shape: shape of one input without batch, such as (32, 32, 3); with it the report counts
      multiply-adds.
    on_layer: called with the path of every layer that has been decomposed, for a progress bar.

  Returns:
    The compressed model and a `Report`, which prints as a table.

  Raises:
    ValueError: a pattern that is no regular expression or matches no layer, a scheme that does
      not fit a layer, or a missing key; all before any work.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
  >>> small, report = compress(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),))
  >>> report.kernel_params, type(small.layers[0]).__name__, small(jnp.ones((3, 8))).shape
  (32, 'Linear', (3, 2))
  """
  found, report = _prepare(model, rules, input_shape)
  rows = {row.path: row for row in report.layers}
  for path, (layer, scheme) in found.items():
    if rows[path].scheme is not None and _parametrization(layer, scheme).needs_key and key is None:
      raise ValueError(
        f'key=None: {scheme} for {path} draws random numbers; pass jax.random.key(seed)'
      )

  done: dict[str, LayerReport] = {}

  def replace(parts: tuple, node: object) -> object:
    path = '/'.join(map(str, parts))
    if path not in rows or type(node) not in _LAYERS or rows[path].scheme is None:
      return node
    scheme = found[path][1]
    layer_key = None if key is None else jax.random.fold_in(key, zlib.crc32(path.encode()))
    new = _LAYERS[type(node)].from_dense(node, scheme, layer_key)
    error, norm = _squares(node.kernel[...], new.kernel)
    done[path] = _with_error(rows[path], float(error), float(norm))
    if on_layer is not None:
      on_layer(path)
    return new

  compressed = nnx.recursive_map(replace, nnx.clone(model, arrays=True))
  layers = tuple(done.get(row.path, row) for row in report.layers)
  return compressed, Report(layers, _count(compressed), _count(model))


def skeleton(model: nnx.Module, rules: Rules) -> nnx.Module:
  """The model `compress` would give, with shapes in place of the factors' values.

  Nothing is decomposed; fill it from saved weights. Arguments and errors are those of `compress`.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> skeleton(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),)).layers[0].core_0.shape
  (8, 2)
  """
  found, report = _prepare(model, rules, None)
  served = {row.path for row in report.compressed}

  def replace(parts: tuple, node: object) -> object:
    path = '/'.join(map(str, parts))
    if path in served and type(node) in _LAYERS:
      return _LAYERS[type(node)].abstract(node, found[path][1])
    return node

  return nnx.recursive_map(replace, nnx.clone(model))


def plan(model: nnx.Module, rules: Rules, *, input_shape: Sequence[int] | None = None) -> Report:
  """The table `compress` would report, errors left out; nothing is computed or touched.

  Arguments and errors are those of `compress`.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> plan(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),)).params
  40
  """
  return _prepare(model, rules, input_shape)[1]


def _prepare(
  model: nnx.Module, rules: Rules, input_shape: Sequence[int] | None
) -> tuple[dict[str, tuple[nnx.Module, Scheme | None]], Report]:
  """Every layer with a kernel and its scheme, and the report without errors."""
  layers = {
    '/'.join(map(str, parts)): module
    for parts, module in nnx.iter_modules(model)
    if hasattr(module, 'kernel')
  }
  patterns = [_compiled(pattern, layers) for pattern, _ in rules]
  sizes = input_sizes(model, input_shape, tuple(_LAYERS)) if input_shape is not None else {}
  found, rows, saved = {}, [], 0
  for path, layer in layers.items():
    matches = (scheme for p, (_, scheme) in zip(patterns, rules) if p.fullmatch(path))
    scheme = next(matches, None)
    found[path] = (layer, scheme)
    row = _row(path, layer, scheme, any(p.fullmatch(path) for p in patterns), sizes.get(path))
    saved += row.dense_params - row.params
    rows.append(row)
  dense = _count(model)
  return found, Report(tuple(rows), dense - saved, dense)


def _compiled(pattern: str, layers: dict[str, nnx.Module]) -> re.Pattern:
  try:
    compiled = re.compile(pattern)
  except re.error as error:
    raise ValueError(f'rule pattern {pattern!r} is no regular expression: {error}') from None
  if not any(compiled.fullmatch(path) for path in layers):
    raise ValueError(
      f'rule pattern {pattern!r} matches no layer; the layers are {", ".join(layers) or "none"}'
    )
  return compiled


def _row(
  path: str, layer: nnx.Module, scheme: Scheme | None, matched: bool, spatial: tuple | None
) -> LayerReport:
  shape = tuple(layer.kernel.shape)
  size = math.prod(shape)
  macs = None if spatial is None else _dense_macs(layer, shape, spatial)
  reason = _reason(layer, scheme, matched)
  if reason:
    return LayerReport(path, shape, None, (), size, size, macs, macs, 0.0, None, reason)
  try:
    p = _parametrization(layer, scheme)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  after = None
  if spatial is not None:
    grouped = type(layer) is nnx.Conv and layer.feature_group_count > 1
    after = macs if grouped else p.macs(*_geometry(layer, spatial))
  ranks, params = p.ranks, p.num_params
  return LayerReport(path, shape, scheme.name, ranks, params, size, after, macs, None, None)


def _reason(layer: nnx.Module, scheme: Scheme | None, matched: bool) -> str:
  """Why a layer stays dense, '' if it does not."""
  if scheme is None:
    return 'rule says so' if matched else 'no rule'
  if isinstance(layer, tuple(_LAYERS.values())):
    return 'factorised already'
  if type(layer) not in _LAYERS:
    return f'{type(layer).__name__} is not served'
  if type(layer) is nnx.Conv and layer.mask is not None:
    return 'masked'
  if type(layer) is nnx.Conv and any(
    d not in (None, 1) for d in jax.tree.leaves(layer.input_dilation)
  ):
    return 'input dilation'
  return ''


def _parametrization(layer: nnx.Module, scheme: Scheme) -> object:
  return scheme.bind(layer.kernel.shape)


def _geometry(layer: nnx.Module, spatial: tuple[int, ...]) -> tuple:
  if type(layer) is nnx.Linear:
    return ()
  return nn.conv_geometry(layer, spatial), spatial


def _dense_macs(layer: nnx.Module, shape: tuple[int, ...], spatial: tuple[int, ...]) -> int:
  if len(shape) == 2:
    return math.prod(shape)
  geometry = nn.conv_geometry(layer, spatial)
  return math.prod(shape) * math.prod(
    geometry.output_size(a, n) for a, n in zip(geometry.spatial, spatial)
  )


def _with_error(row: LayerReport, error: float, norm: float) -> LayerReport:
  return dataclasses.replace(row, squared_error=error, squared_norm=norm)


@jax.jit
def _squares(before: Array, after: Array) -> tuple[Array, Array]:
  before, after = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (before, after))
  return jnp.sum(jnp.abs(before - after) ** 2), jnp.sum(jnp.abs(before) ** 2)


def _count(model: nnx.Module) -> int:
  return sum(v.size for v in jax.tree.leaves(nnx.state(model, nnx.Param)))
