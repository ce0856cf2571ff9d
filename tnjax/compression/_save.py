"""A model, compressed or not, as a file that describes itself."""

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from tnjax import models, nn
from tnjax.compression import _file
from tnjax.compression._replace import factorised, replace
from tnjax.compression._rules import make_jobs
from tnjax.compression._walk import Place, walk
from tnjax.schemes import Scheme, Solver, by_name, draw_index

_PACKAGES = ('tnjax', 'jax', 'flax', 'numpy')


def save(
  path: str | os.PathLike, model: nnx.Module, notes: Mapping[str, Any] | None = None
) -> None:
  """Writes a model to a safetensors file from which `load` makes it again, in any process.

  Every Variable is kept in its dtype, shared ones once, PRNG keys as their data; of a shuffle only
  the key that draws it. Beside the arrays stand, as JSON, each factorised layer's scheme, ranks and
  solver, the constructor and its arguments for models of `tnjax.models`, versions, and the sha256
  of every array. Nothing is pickled. The file is replaced as a whole or not at all.

  Args:
    path: file, conventionally `*.safetensors`; its folder is made.
    model: any NNX model.
    notes: whatever else shall stand in the file, JSON-able; `describe(path)['notes']` reads it.

  Raises:
    ValueError: a Variable that holds no array; a stack of joint tensors.

  >>> import tempfile, tnjax as tn
  >>> net = tn.models.cifar_resnet(8, widths=(4, 8, 8), rngs=nnx.Rngs(0))
  >>> small, _ = tn.compress(net, (('stages/.*', tn.schemes.tk(rate=0.5)),))
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   save(f'{folder}/small.safetensors', small)
  ...   again = load(f'{folder}/small.safetensors')
  >>> x = jnp.ones((1, 32, 32, 3))
  >>> bool((again(x) == small(x)).all())
  True
  """
  places = {p: place for p, place in walk(model).items() if place.factorised}
  layers = {path: _describe(place) for path, place in places.items()}
  drawn = {f'{path}/index'.lstrip('/') for path, row in layers.items() if 'index_sha256' in row}
  arrays, keys = {}, {}
  for name, value in _variables(model).items():
    if name in drawn:
      continue
    if not isinstance(value, jax.Array | np.ndarray | int | float | complex):
      raise ValueError(f'variable {name!r} holds a {type(value).__name__}; only arrays are saved')
    value = jnp.asarray(value)
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
      keys[name] = str(jax.random.key_impl(value))
      value = jax.random.key_data(value)
    arrays[name] = np.asarray(value)
  about = {
    'versions': {name: _version(name) for name in _PACKAGES},
    'class': type(model).__name__,
    'constructor': models.constructor(model),
    'layers': layers,
    'keys': keys,
    'notes': dict(notes or {}),
  }
  _file.write(path, arrays, about)


def load(path: str | os.PathLike, model: nnx.Module | None = None) -> nnx.Module:
  """The model that `save` wrote.

  Args:
    path: the file.
    model: the architecture, for a model that is none of `tnjax.models`: dense, as it was before
      it was compressed, or with the very layers of the file. Abstract is enough:
      `nnx.eval_shape(lambda: MyModel(rngs=nnx.Rngs(0)))`. It is left unchanged.

  Returns:
    A model with the file's layers, ranks, values and dtypes.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a damaged file (the array is named), a file for another architecture (the first
      variable that does not fit is named, with both shapes), one whose architecture is not known
      and not given, or one that holds 64-bit arrays while JAX is set to 32 bits.
  """
  about = _file.read_about(path)
  try:
    built = _architecture(about, model)
    arrays = _file.read_arrays(path, about)
    return _filled(built, arrays, about)
  except KeyError as error:
    raise ValueError(f'{path} is damaged: its description lacks {error}') from None
  except (TypeError, AttributeError) as error:  # entries of another kind than `save` writes
    raise ValueError(f'{path} is damaged: its description does not fit: {error}') from error
  except ValueError as error:
    raise ValueError(str(error) if str(path) in str(error) else f'{path}: {error}') from None


def describe(path: str | os.PathLike) -> dict:
  """What stands in a file beside its arrays: constructor, layers, versions, notes.

  Raises:
    FileNotFoundError, ValueError: as `load`.
  """
  return _file.read_about(path)


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None  # run from its source tree


def _describe(place: Place) -> dict[str, Any]:
  """A factorised layer as JSON."""
  layer = place.layer
  row = {
    'scheme': layer.scheme.as_dict(),
    'ranks': list(layer.parametrization.ranks),
    'solver': layer.parametrization.solver.as_dict(),
    'leader': place.leader,
  }
  if isinstance(layer, nn.JointConv):
    if layer.stacked:
      raise ValueError(f'{place.path} is of a stack {layer.stacked} of joint tensors; save each')
    sizes = layer.kernels.architecture
    row |= {'joint': place.home, 'position': list(layer.position), 'architecture': list(sizes)}
  if layer.parametrization.fold.shuffled:
    index = np.asarray(layer.index[...])
    if (index == _drawn(layer)).all():  # else it stands in the file itself
      row['index_sha256'] = _file.digest(index)
  return row


def _drawn(layer: nn.Factorised) -> np.ndarray:
  """The permutations that the layer's keys draw, (*stack, entries)."""
  data, shape = layer.index_key[...], layer.index.shape
  found = [np.asarray(draw_index(k, shape[-1])) for k in data.reshape(-1, 2)]
  return np.stack(found).reshape(shape)


def _architecture(about: Mapping[str, Any], model: nnx.Module | None) -> nnx.Module:
  """The model with its layers factorised, and shapes for arrays."""
  if 'format' not in about:
    return _of_old(about, model)
  if model is None:
    if about['constructor'] is None:
      raise ValueError(
        f'this is a {about["class"]}, none of tnjax.models; pass model=, its architecture '
        '(nnx.eval_shape of its constructor is enough)'
      )
    model = models.construct(about['constructor'])
  places, layers = walk(model), {}
  joined: dict[str, dict[str, Mapping]] = {}
  for path, row in about['layers'].items():
    if path not in places:
      raise ValueError(f'the file has a factorised layer {path!r}, which the model lacks')
    if 'joint' in row:
      joined.setdefault(row['joint'], {})[path] = row
    else:
      layers[path] = _layer(places[path], row)
  for rows in joined.values():
    layers |= _joint_layers(places, rows)
  for path, row in about['layers'].items():
    if row['leader'] != path and 'joint' not in row:
      layers[path].share_factors(layers[row['leader']])
  return replace(model, layers)


def _scheme(row: Mapping[str, Any]) -> tuple[Scheme, Scheme, Solver]:
  """As it was given, with the ranks that it came to, and how those were found."""
  scheme = Scheme.from_dict(row['scheme'])
  exact = dataclasses.replace(scheme, rate=None, ranks=tuple(row['ranks']))
  return scheme, exact, Solver(**row['solver'])


def _layer(place: Place, row: Mapping[str, Any]) -> nn.Factorised:
  scheme, exact, solver = _scheme(row)
  if place.kind is None:
    raise ValueError(f'layer {place.path!r}: {nn.refusal(place.layer)}')
  layer = place.kind.abstract(place.layer, exact)
  layer.scheme = scheme
  layer.parametrization = dataclasses.replace(layer.parametrization, solver=solver)
  return layer


def _joint_layers(
  places: Mapping[str, Place], rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, nn.Factorised]:
  row = next(iter(rows.values()))
  scheme, exact, solver = _scheme(row)
  at = {path: tuple(own['position']) for path, own in rows.items()}
  sizes = row.get('architecture') or [max(numbers) + 1 for numbers in zip(*at.values())]
  convs = {path: places[path].layer for path in rows}
  kernels = nn.JointKernels.abstract(sizes, convs, exact)
  kernels.parametrization = dataclasses.replace(kernels.parametrization, solver=solver)
  kernels.scheme = scheme
  return {path: nn.JointConv.instead_of(convs[path], kernels, at[path]) for path in rows}


def _of_old(about: Mapping[str, Any], model: nnx.Module | None) -> nnx.Module:
  """Files of the days before they described themselves name one scheme, rate and pattern."""
  if model is None:
    raise ValueError('this file is older than the format that describes itself; pass model=, dense')
  if not about['scheme']:
    return nnx.clone(model)
  rules = ((about['layers'], by_name(about['scheme'], about['rate'])),)
  return replace(model, factorised(make_jobs(model, rules, None, {})[0]))


def _filled(
  model: nnx.Module, arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]
) -> nnx.Module:
  """Sets every variable of the model, which is ours."""
  left, keys, values = dict(arrays), about.get('keys', {}), []
  layers = {
    f'{p}/index'.lstrip('/'): row for p, row in _layers_of(about).items() if 'index_sha256' in row
  }
  for parts, variable in nnx.to_flat_state(nnx.state(model)):
    name = '/'.join(map(str, parts))
    if name in layers:
      continue
    if name.rpartition('/')[2] == 'index_key' and name not in left and 'format' not in about:
      left[name] = np.zeros(variable.shape, 'uint32')  # the index itself is in the file
    if name not in left:
      raise ValueError(f'there is no array {name!r}; the model needs it, of shape {variable.shape}')
    value = _value(name, left.pop(name), variable, keys.get(name))
    values.append((parts, variable.replace(value) if _is_variable(variable) else value))
  if left:
    name, array = next(iter(left.items()))
    raise ValueError(
      f'array {name!r} has shape {array.shape}; the model has no variable for it (a bare array '
      'needs a model with values, not an abstract one)'
    )
  nnx.update(model, nnx.from_flat_state(values))
  for path, place in walk(model).items():
    row = _layers_of(about).get(path, {})
    if 'index_sha256' not in row:
      continue
    if row['leader'] != path:
      place.layer.index = walk(model)[row['leader']].layer.index
      continue
    index = _drawn(place.layer)
    if _file.digest(index) != row['index_sha256']:
      raise ValueError(f'layer {path!r}: this version of JAX draws another shuffle from its key')
    place.layer.index = nnx.Variable(jax.device_put(index))
  return model


def _layers_of(about: Mapping[str, Any]) -> Mapping[str, Any]:
  return about['layers'] if 'format' in about else {}


def _value(name: str, array: np.ndarray, variable: nnx.Variable, impl: str | None) -> Array:
  if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
    raise ValueError(
      f"array {name!r} has dtype {array.dtype}; jax.config.update('jax_enable_x64', True) first"
    )
  value = jax.device_put(array)  # jnp.asarray compiles a program for every shape
  if impl is not None:
    value = jax.random.wrap_key_data(value, impl=impl)
  if value.shape != tuple(variable.shape):
    raise ValueError(
      f'array {name!r} has shape {value.shape}; the model needs {tuple(variable.shape)} (one that '
      'was changed after it was built needs model=)'
    )
  return value


def _variables(model: nnx.Module) -> dict[str, Any]:
  flat = nnx.to_flat_state(nnx.state(model))
  found = {}
  for parts, variable in flat:
    name = '/'.join(map(str, parts))
    if name in found:
      raise ValueError(f'two variables of the model are called {name!r}; rename one of its parts')
    found[name] = variable.get_value() if _is_variable(variable) else variable
  return found


def _is_variable(leaf: Any) -> bool:
  """Of a state: bare arrays of a model are leaves too."""
  return isinstance(leaf, nnx.Variable)
