"""Reading trained weights, and setting them in a model: PyTorch naming and OIHW layout."""

import pathlib
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

_NPZ, _SAFETENSORS, _TORCH = ('.npz',), ('.safetensors',), ('.th', '.pt', '.pth')


def read_weights(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Arrays by name from a .npz, .safetensors, or (where torch is installed) .th/.pt/.pth file.

  A leading `module.` (PyTorch's DataParallel) and a wrapping `state_dict` are taken off.

  Raises:
    FileNotFoundError: no such file.
    ValueError: another suffix, a damaged file, a package that is needed to read it is missing, or
      an array that holds no numbers (text, dates, records), which is named.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'weights file {path} does not exist')
  suffix = path.suffix
  if suffix not in _NPZ + _SAFETENSORS + _TORCH:
    raise ValueError(
      f'weights file {path}: suffix {suffix!r} must be .npz, .safetensors, .th or .pt'
    )
  try:
    if suffix in _NPZ:
      archive = np.load(path, allow_pickle=False)
      if isinstance(archive, np.ndarray):
        raise ValueError('it is one .npy array, not an archive of named ones')
      with archive:
        arrays = dict(archive)
    elif suffix in _SAFETENSORS:
      from safetensors.numpy import load_file

      arrays = load_file(path)
    else:
      arrays = _read_torch(path)
  except ImportError as error:
    raise ValueError(
      f'weights file {path}: reading {suffix} needs the package {error.name}'
    ) from error
  except Exception as error:
    raise ValueError(f'weights file {path} cannot be read: {error}') from error
  for name, array in arrays.items():
    if not (array.dtype.kind in 'biufc' or jnp.issubdtype(array.dtype, jnp.floating)):
      raise ValueError(f'weights file {path}: array {name!r} is of {array.dtype}, not of numbers')
  return {name.removeprefix('module.'): a for name, a in arrays.items()}


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
  import torch

  loaded = torch.load(path, map_location='cpu', weights_only=True)
  state = loaded.get('state_dict', loaded)
  return {name: value.numpy() for name, value in state.items() if torch.is_tensor(value)}


def torch_names(path: str) -> tuple[str, ...]:
  """PyTorch names under which a variable of `CifarResNet` may be stored, by its NNX path.

  >>> torch_names('stages/1/0/conv2/kernel')
  ('layer2.0.conv2.weight',)
  """
  module, _, leaf = path.rpartition('/')
  if block := re.fullmatch(r'stages/(\d+)/(\d+)/(\w+)', module):
    stage, index, name = block.groups()
    prefix = f'layer{int(stage) + 1}.{index}.'
    shortcuts = {'projection': 0, 'projection_norm': 1}
    if name in shortcuts:
      modules = [f'{prefix}{s}.{shortcuts[name]}' for s in ('shortcut', 'downsample')]
    else:
      modules = [prefix + name.replace('norm', 'bn')]
  else:
    known = {'conv': ['conv1'], 'norm': ['bn1'], 'linear': ['linear', 'fc']}
    if module not in known:
      raise ValueError(f'no PyTorch name is known for {path!r}; the model must be a CifarResNet')
    modules = known[module]
  names = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
  return tuple(f'{m}.{names.get(leaf, leaf)}' for m in modules)


def import_torch(model: nnx.Module, arrays: Mapping[str, np.ndarray]) -> None:
  """Sets every variable of a `CifarResNet` from arrays in PyTorch naming, OIHW and (out, in).

  Arrays are cast to the variables' dtypes.

  Raises:
    ValueError: names the first variable whose array is missing or has another shape, with both
      shapes, an array that cannot be what it is named (see `check_weights`), or one the model has
      no place for; the model is then unchanged.
  """
  state = nnx.state(model)
  flat = nnx.to_flat_state(state)
  values, used = [], set()
  for path, variable in flat:
    candidates = torch_names('/'.join(map(str, path)))
    name = next((c for c in candidates if c in arrays), None)
    needed = variable.shape
    if name is None:
      raise ValueError(
        f'weights have no array {candidates[0]!r}; the model needs it with shape '
        f'{_torch_shape(needed)}'
      )
    array = np.asarray(arrays[name])
    if array.shape != _torch_shape(needed):
      raise ValueError(
        f'weights array {name!r} has shape {array.shape}; the model needs {_torch_shape(needed)}'
      )
    check_weights(name, array, variable.dtype)
    if array.ndim == 4:
      array = array.transpose(2, 3, 1, 0)
    elif array.ndim == 2:
      array = array.T
    values.append(variable.replace(jnp.asarray(array, variable.dtype)))
    used.add(name)
  extra = sorted(n for n in arrays if n not in used and not n.endswith('num_batches_tracked'))
  if extra:
    raise ValueError(
      f'weights array {extra[0]!r} has shape {np.shape(arrays[extra[0]])}; the model '
      'has no variable for it'
    )
  paths = [path for path, _ in flat]
  nnx.update(model, nnx.from_flat_state(list(zip(paths, values))))


def check_weights(name: str, array: np.ndarray, dtype: DTypeLike = 'float32') -> None:
  """Raises ValueError, naming the array, if it is not of real floating-point numbers, has NaN,
  infinities or values that become infinite in `dtype`, or is a variance below zero.

  >>> check_weights('bn1.running_var', np.array([0.5, -0.5]))
  Traceback (most recent call last):
  ValueError: weights array 'bn1.running_var' has a negative variance, -0.5
  """
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(f'weights array {name!r} has dtype {array.dtype}; it must be floating-point')
  if not np.isfinite(array).all():
    raise ValueError(f'weights array {name!r}, of shape {array.shape}, has NaN or infinities')
  with np.errstate(over='ignore'):
    fits = np.isfinite(array.astype(dtype)).all()
  if not fits:
    raise ValueError(
      f'weights array {name!r} has values up to {float(np.abs(array).max()):.3g}, too large for '
      f'{np.dtype(dtype)}'
    )
  variance = re.split(r'[./]', name)[-1] in ('running_var', 'var')
  if variance and array.size and array.min() < 0:
    raise ValueError(f'weights array {name!r} has a negative variance, {float(array.min()):g}')


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
  return {4: lambda s: (s[3], s[2], s[0], s[1]), 2: lambda s: s[::-1]}.get(len(shape), tuple)(shape)
