"""Reading trained weights, and setting them in a model: PyTorch naming and OIHW layout."""

import pathlib
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

_OWN = {'conv': ['conv1'], 'norm': ['bn1'], 'linear': ['linear', 'fc']}  # of a CifarResNet
_TIMM = {
  'classifier/0': ['pre_logits.fc1'],
  'classifier/3': ['pre_logits.fc2'],
  'classifier/6': ['head.fc'],
}
_NPZ, _SAFETENSORS, _TORCH = ('.npz',), ('.safetensors',), ('.th', '.pt', '.pth')


def read_weights(path: str | pathlib.Path) -> dict[str, np.ndarray]:
  """Arrays by name from a .npz, .safetensors, or (where torch is installed) .th/.pt/.pth file.

  A leading `module.` (PyTorch's DataParallel) and a wrapping `state_dict` are taken off.

  Args:
    path: of the file, or 'hf:OWNER/NAME' for `model.safetensors` of a repository on Hugging Face,
      which is fetched once and kept in the user's cache (needs huggingface_hub and a network).

  Raises:
    FileNotFoundError: no such file.
    ValueError: another suffix, a damaged file, a package that is needed to read it is missing, or
      an array that holds no numbers (text, dates, records), which is named.
  """
  path = fetch_weights(str(path)) if str(path).startswith('hf:') else pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'weights file {path} does not exist')
  suffix = path.suffix
  if suffix not in _NPZ + _SAFETENSORS + _TORCH:
    raise ValueError(
      f'weights file {path}: suffix {suffix!r} must be .npz, .safetensors, .th, .pt or .pth'
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


def fetch_weights(name: str) -> pathlib.Path:
  """The file of 'hf:OWNER/NAME', see `read_weights`, fetched into the user's cache if need be.

  Raises:
    ValueError: it cannot be fetched, or huggingface_hub is missing.
  """
  try:
    from huggingface_hub import hf_hub_download
  except ImportError:
    raise ValueError(f'weights {name} need the package huggingface_hub') from None
  try:
    return pathlib.Path(hf_hub_download(name.removeprefix('hf:'), 'model.safetensors'))
  except Exception as error:  # its errors, and those of the HTTP library below it, share no base
    raise ValueError(f'weights {name} cannot be fetched: {error}') from error


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
  import torch

  loaded = torch.load(path, map_location='cpu', weights_only=True)
  state = loaded.get('state_dict', loaded)
  return {name: value.numpy() for name, value in state.items() if torch.is_tensor(value)}


def torch_names(path: str) -> tuple[str, ...]:
  """Names under which PyTorch's packages store a variable of our models, by its NNX path.

  Those of torchvision's networks are their paths. A `CifarResNet` has the names of He's networks,
  of two habits; the dense layers of a VGG have those of timm too, where they are convolutions.

  >>> torch_names('layer4/0/downsample/1/mean'), torch_names('stages/1/0/conv2/kernel')
  (('layer4.0.downsample.1.running_mean',), ('layer2.0.conv2.weight',))
  >>> torch_names('classifier/0/kernel')
  ('classifier.0.weight', 'pre_logits.fc1.weight')
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
    modules = _OWN.get(module) or [module.replace('/', '.'), *_TIMM.get(module, ())]
  names = {'kernel': 'weight', 'scale': 'weight', 'mean': 'running_mean', 'var': 'running_var'}
  return tuple(f'{m}.{names.get(leaf, leaf)}' for m in modules)


def import_torch(model: nnx.Module, arrays: Mapping[str, np.ndarray]) -> None:
  """Sets every variable of a model of this package from arrays in PyTorch naming and layout.

  Kernels are OIHW there, matrices (out, in), or 1x1 and larger convolutions that cover the whole
  image (timm's VGG). The first dense layer after an image sees its channels first there and last
  here, and is reordered; `model.flattened` says which that is. Arrays are cast to the variables'
  dtypes. Keys of dropout are left alone.

  Args:
    model: such as `vgg(16, rngs=rngs)`; changed in place.
    arrays: by name, as `read_weights` gives them: those of torchvision, of timm, or of the
      published ResNets for CIFAR-10.

  Raises:
    ValueError: names the first variable whose array is missing or has another shape, with both
      shapes, an array that cannot be what it is named (see `check_weights`), or one the model has
      no place for; the model is then unchanged.
  """
  flat = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
  images = dict(getattr(model, 'flattened', ()))
  values, used = [], set()
  for path, variable in flat:
    path = '/'.join(map(str, path))
    image = images.get(path.rpartition('/')[0])
    candidates = torch_names(path)
    name = next((c for c in candidates if c in arrays), None)
    if name is None:
      raise ValueError(
        f'weights have no array {candidates[0]!r}; the model needs it with shape '
        f'{_torch_shapes(variable.shape, None)[0]}'
      )
    array = np.asarray(arrays[name])
    needed = _torch_shapes(variable.shape, image)
    if array.shape not in needed:
      raise ValueError(
        f'weights array {name!r} has shape {array.shape}; the model needs {needed[0]}'
      )
    check_weights(name, array, variable.dtype)
    values.append(
      variable.replace(jnp.asarray(_placed(array, variable.shape, image), variable.dtype))
    )
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


def _torch_shapes(
  shape: tuple[int, ...], image: tuple[int, int, int] | None
) -> tuple[tuple[int, ...], ...]:
  """Shapes in which PyTorch may hold a variable of ours."""
  if len(shape) == 4:
    return ((shape[3], shape[2], shape[0], shape[1]),)
  if len(shape) != 2:
    return (shape,)
  rows, columns, channels = image or (1, 1, shape[0])
  return shape[::-1], (shape[1], channels, rows, columns)


def _placed(
  array: np.ndarray, shape: tuple[int, ...], image: tuple[int, int, int] | None
) -> np.ndarray:
  """PyTorch's array in our layout: (rows, columns, in, out), or (in, out)."""
  if len(shape) == 2:
    rows, columns, channels = image or (1, 1, shape[0])
    array = array.reshape(-1, channels, rows, columns)
  return array.transpose(2, 3, 1, 0).reshape(shape) if len(shape) in (2, 4) else array
