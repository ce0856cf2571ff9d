"""The network under compression: building, loading, saving."""

import json
import pathlib
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tnjax as tn
from experiments.common.results import atomic


def build(name: str, dataset: str, seed: int) -> nnx.Module:
  """A randomly initialised `resnet<depth>` (version 1, padding) or `resnet<depth>_v2`
  (version 2, projections); for the digits one input channel and 32 channels in every stage.
  """
  found = re.fullmatch(r'resnet(\d{1,4})(_v2)?', name)
  if not found:
    raise ValueError(f'--model={name} must be resnet<depth> or resnet<depth>_v2')
  depth, v2 = found.groups()
  options = {'version': 2, 'shortcut': 'projection'} if v2 else {}
  if dataset == 'digits':  # one kernel shape, so that each scheme is compiled once
    options |= {'widths': (32, 32, 32), 'mean': (0.3,), 'std': (0.38,)}
  try:
    return tn.models.cifar_resnet(int(depth), **options, rngs=nnx.Rngs(seed))
  except ValueError as error:
    raise ValueError(f'--model={name}: {error}') from None


def save(path: pathlib.Path, model: nnx.Module, description: Mapping) -> None:
  """All variables under their '/'-joined NNX paths as safetensors, `description` as metadata."""
  from safetensors.numpy import save as packed

  arrays = {p: np.asarray(v[...]) for p, v in _variables(model).items()}
  with atomic(path) as partial:
    partial.write_bytes(packed(arrays, {'tnjax': json.dumps(description)}))


def description(path: str | pathlib.Path) -> dict | None:
  """What `save` wrote beside the arrays; None for a file that is not ours."""
  path = pathlib.Path(path)
  if path.suffix != '.safetensors' or not path.is_file():
    return None
  from safetensors import SafetensorError, safe_open

  try:
    with safe_open(path, 'np') as file:
      metadata = file.metadata() or {}
  except SafetensorError as error:
    raise ValueError(f'weights file {path} cannot be read: {error}') from error
  if 'tnjax' not in metadata:
    return None
  try:
    about = json.loads(metadata['tnjax'])
    if {'dataset', 'model', 'layers', 'scheme', 'rate', 'seed'} <= about.keys():
      return about
  except (ValueError, AttributeError):
    pass
  raise ValueError(f'weights file {path} has damaged metadata; write it again')


def load(path: str | pathlib.Path, model: nnx.Module) -> None:
  """Sets every variable of a model, or of a skeleton, from a file: ours or in PyTorch naming.

  Raises:
    FileNotFoundError, ValueError: no such file, damaged, or of another architecture; names the
      first array that does not fit and both shapes.
  """
  ours = description(path) is not None
  arrays = tn.models.read_weights(path)
  try:
    for name, array in arrays.items():
      if not np.isfinite(array).all():
        raise ValueError(f'weights array {name!r}, of shape {array.shape}, has NaN or infinities')
    if not ours:
      tn.models.import_torch(model, arrays)
      return
    variables = _variables(model)
    for name, variable in variables.items():
      if name not in arrays:
        raise ValueError(
          f'weights have no array {name!r}; the model needs it with shape {variable.shape}'
        )
      if arrays[name].shape != variable.shape:
        raise ValueError(
          f'weights array {name!r} has shape {arrays[name].shape}; the model needs {variable.shape}'
        )
    if extra := sorted(arrays.keys() - variables.keys()):
      raise ValueError(
        f'weights array {extra[0]!r} has shape {arrays[extra[0]].shape}; the model '
        'has no variable for it'
      )
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  state = [(p, v.replace(jnp.asarray(arrays['/'.join(map(str, p))]))) for p, v in _flat(model)]
  nnx.update(model, nnx.from_flat_state(state))


def restore(path: str | pathlib.Path) -> nnx.Module:
  """The model saved in one of our files, compressed or not."""
  about = description(path)
  try:
    model = build(about['model'], about['dataset'], about['seed'])
    if about['scheme']:
      rules = ((about['layers'], tn.schemes.by_name(about['scheme'], about['rate'])),)
      model = tn.compression.skeleton(model, rules)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  load(path, model)
  return model


def _flat(model: nnx.Module) -> list:
  return list(nnx.to_flat_state(nnx.state(model)))


def _variables(model: nnx.Module) -> dict[str, nnx.Variable | jax.Array]:
  return {'/'.join(map(str, path)): variable for path, variable in _flat(model)}
