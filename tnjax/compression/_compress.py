"""Replacing the layers of a trained model by factorised ones."""

import dataclasses
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax import nn
from tnjax.compression._report import LayerReport, Report
from tnjax.compression._trace import input_shapes
from tnjax.contraction import Geometry
from tnjax.schemes import Parametrization, Scheme

Rules = Sequence[tuple[str, Scheme | None]]

_LAYERS = {
  nnx.Conv: nn.Conv,
  nnx.Embed: nn.Embed,
  nnx.Linear: nn.Linear,
  nnx.LinearGeneral: nn.LinearGeneral,
}

_WEIGHTS = ('kernel', 'embedding')


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
    model: any NNX model; its `nnx.Conv`, `nnx.Linear`, `nnx.LinearGeneral` (the projections of
      attention) and `nnx.Embed` layers, at any depth, can be served, stacks of them (`nnx.vmap`)
      too.
    rules: (pattern, scheme or None) pairs. A layer takes the first pattern that `re.fullmatch`es
      its '/'-joined path; None, or no match, leaves it dense.
    key: PRNG key, for schemes that draw random numbers; each layer folds in its path.
    input_shape: shape of one input without batch, such as (32, 32, 3); with it the report counts
      multiply-adds.
    on_layer: called with the path of every layer that has been decomposed, for a progress bar.

  Returns:
    The compressed model and a `Report`, which prints as a table.

  Raises:
    ValueError: a pattern that is no regular expression, matches no layer or whose scheme fits
      none of them, a kernel that is not finite, or a missing key; all before any work. A layer
      that its scheme does not fit, or where it would save no parameters, stays dense, with the
      reason in the report.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
  >>> small, report = compress(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),))
  >>> report.kernel_params, type(small.layers[0]).__name__, small(jnp.ones((3, 8))).shape
  (32, 'Linear', (3, 2))
  """
  served, report = _prepare(model, rules, input_shape)
  layers = dict(_layers(model))
  for path, (scheme, parametrization) in served.items():
    if parametrization.needs_key and key is None:
      raise ValueError(
        f'key=None: {scheme} for {path} draws random numbers; pass key=jax.random.key(seed)'
      )
    if not bool(jnp.isfinite(weight(layers[path])).all()):
      raise ValueError(f'{path}: its kernel has NaN or infinite entries')
  rows = {row.path: row for row in report.layers}

  def replace(parts: tuple, node: object) -> object:
    path = '/'.join(map(str, parts))
    if path not in served or type(node) not in _LAYERS:
      return node
    layer_key = None if key is None else jax.random.fold_in(key, zlib.crc32(path.encode()))
    new = _LAYERS[type(node)].from_dense(node, served[path][0], layer_key)
    error, norm = map(float, _squares(weight(node), new.kernel))
    rows[path] = dataclasses.replace(rows[path], squared_error=error, squared_norm=norm)
    if on_layer is not None:
      on_layer(path)
    return new

  compressed = nnx.recursive_map(replace, nnx.clone(model, arrays=True))
  return compressed, Report(tuple(rows.values()), _count(compressed), _count(model))


def skeleton(model: nnx.Module, rules: Rules) -> nnx.Module:
  """The model `compress` would give, with shapes in place of the factors' values.

  Nothing is decomposed; fill it from saved weights. Arguments and errors are those of `compress`.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> skeleton(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),)).layers[0].core_0.shape
  (8, 2)
  """
  served, _ = _prepare(model, rules, None)

  def replace(parts: tuple, node: object) -> object:
    path = '/'.join(map(str, parts))
    if path in served and type(node) in _LAYERS:
      return _LAYERS[type(node)].abstract(node, served[path][0])
    return node

  return nnx.recursive_map(replace, nnx.clone(model, arrays=True))


def plan(model: nnx.Module, rules: Rules, *, input_shape: Sequence[int] | None = None) -> Report:
  """The table `compress` would report, errors left out; nothing is computed or touched.

  Arguments and errors are those of `compress`.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  >>> plan(model, ((r'layers/0', tn.schemes.svd(rate=0.5)),)).params
  40
  """
  return _prepare(model, rules, input_shape)[1]


def weight(layer: nnx.Module) -> Array:
  """The dense weight of a layer, dense or factorised."""
  name = next(n for n in _WEIGHTS if hasattr(layer, n))
  return getattr(layer, name)[...]


def _layers(model: nnx.Module) -> Iterator[tuple[str, nnx.Module]]:
  """Every layer with a kernel, dense or factorised, by its '/'-joined path."""
  for parts, module in nnx.iter_modules(model):
    factorised = isinstance(module, nn.Factorised)
    if factorised or any(isinstance(vars(module).get(n), nnx.Variable) for n in _WEIGHTS):
      yield '/'.join(map(str, parts)), module


def _prepare(
  model: nnx.Module, rules: Rules, input_shape: Sequence[int] | None, must_save: bool = True
) -> tuple[dict[str, tuple[Scheme, Parametrization]], Report]:
  """The layers to factorise with their bound schemes, and the report without errors.

  With `must_save`, a layer that would store as many entries as before stays dense.
  """
  layers = dict(_layers(model))
  patterns = [(_compiled(pattern, layers), scheme) for pattern, scheme in rules]
  kinds = (*_LAYERS, *_LAYERS.values())
  shapes = {} if input_shape is None else input_shapes(model, input_shape, kinds)
  served, rows, refused, idle = {}, [], {}, set()
  for path, layer in layers.items():
    pattern, scheme = next(((p, s) for p, s in patterns if p.fullmatch(path)), (None, None))
    reason = 'no rule' if pattern is None else 'rule says so' if scheme is None else ''
    parametrization = None
    if scheme is not None:
      reason = _reason(layer)
      try:
        parametrization = None if reason else scheme.bind(_LAYERS[type(layer)].weight_shape(layer))
      except ValueError as error:
        reason = str(error)
      if parametrization is None:
        refused[pattern] = f'rule pattern {pattern.pattern!r} serves no layer; {path}: {reason}'
      elif must_save and parametrization.num_params >= math.prod(parametrization.fold.shape):
        reason = f'{scheme.name} would store {parametrization.num_params:,} entries'
        parametrization = None
        idle.add(pattern)
      else:
        served[path] = (scheme, parametrization)
    rows.append(_row(path, layer, scheme, parametrization, reason, shapes.get(path)))
  for pattern, message in refused.items():
    if pattern not in idle and not any(pattern.fullmatch(path) for path in served):
      raise ValueError(message)
  saved = sum(row.dense_params - row.params for row in rows)
  dense = _count(model)
  return served, Report(tuple(rows), dense - saved, dense)


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


def _reason(layer: nnx.Module) -> str:
  """Why a layer stays dense whatever the scheme, '' if it need not."""
  if isinstance(layer, nn.Factorised):
    return 'factorised already'
  if type(layer) not in _LAYERS:
    return f'{type(layer).__name__} is not served'
  return nn.unsupported(layer)


def _row(
  path: str,
  layer: nnx.Module,
  scheme: Scheme | None,
  parametrization: Parametrization | None,
  reason: str,
  calls: list[tuple[int, ...]] | None,
) -> LayerReport:
  """Counts of one layer before and after; what is factorised already counts as it is stored."""
  before = layer.parametrization if isinstance(layer, nn.Factorised) else None
  stack = layer.stacked if before else _stack(layer)
  copies = math.prod(stack)
  shape = (*stack, *before.fold.shape) if before else tuple(weight(layer).shape)
  params = copies * before.num_params if before else math.prod(shape)
  macs = None if calls is None else copies * sum(_macs(layer, before, call) for call in calls)
  if parametrization is None:
    return LayerReport(path, shape, None, (), params, params, macs, macs, 0.0, None, reason)
  ranks, stored = parametrization.ranks, copies * parametrization.num_params
  after = None
  if calls is not None:
    after = copies * sum(_macs(layer, parametrization, call) for call in calls)
  return LayerReport(path, shape, scheme.name, ranks, stored, params, after, macs, None, None)


def _stack(layer: nnx.Module) -> tuple[int, ...]:
  """Axes of a stack of dense layers; () for a layer of another kind."""
  kind = _LAYERS.get(type(layer))
  return kind.stack_shape(layer) if kind else ()


def _macs(layer: nnx.Module, parametrization: Parametrization | None, call: tuple) -> int:
  """Multiply-adds of one call with an input of shape `call`, dense where no parametrization.

  A look-up in a table counts none.
  """
  kind = _LAYERS.get(type(layer), type(layer))
  shape = kind.weight_shape(layer)
  if issubclass(kind, nn.Embed):
    return 0
  n = len(shape) - 2
  spatial = call[len(call) - n - 1 : -1]
  grouped = n > 0 and layer.feature_group_count > 1  # such a kernel is rebuilt
  channels = shape[-2] * layer.feature_group_count if grouped else shape[-2]
  positions = math.prod(call) // (math.prod(spatial) * channels)
  geometry = nn.conv_geometry(layer, spatial) if n else Geometry()
  if parametrization is not None and not grouped:
    return positions * parametrization.macs(geometry, spatial)
  out = (geometry.output_size(a, m) for a, m in zip(geometry.spatial, spatial))
  return positions * math.prod(shape) * math.prod(out)


@jax.jit
def _squares(before: Array, after: Array) -> tuple[Array, Array]:
  before, after = (a.astype(jnp.promote_types(a.dtype, jnp.float32)) for a in (before, after))
  return jnp.sum(jnp.abs(before - after) ** 2), jnp.sum(jnp.abs(before) ** 2)


def _count(model: nnx.Module) -> int:
  return sum(v.size for v in jax.tree.leaves(nnx.state(model, nnx.Param)))
