"""Arrays and a description in one safetensors file: written atomically, checked when read."""

import hashlib
import json
import os
import pathlib
import tempfile
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

VERSION = 1
_INTS = tuple(f'{sign}int{bits}' for sign in ('', 'u') for bits in (8, 16, 32, 64))
_PLAIN = ('bool', 'bfloat16', 'float16', 'float32', 'float64', *_INTS)


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], about: Mapping) -> None:
  """Writes arrays and a JSON description to `path`, all of it or nothing.

  dtypes that safetensors does not know are stored as their bytes.
  """
  about = dict(about) | {'format': VERSION, 'arrays': {}}
  stored = {}
  for name, array in arrays.items():
    array = np.ascontiguousarray(array).reshape(array.shape)
    dtype = array.dtype.name
    if dtype not in _PLAIN:
      array = np.frombuffer(array.tobytes(), 'uint8').reshape(*array.shape, array.dtype.itemsize)
    stored[name] = array
    about['arrays'][name] = {'dtype': dtype, 'sha256': digest(array)}
  try:
    text = json.dumps(about, sort_keys=True, allow_nan=False)
  except (TypeError, ValueError) as error:
    raise ValueError(f'notes must be plain data, as JSON can hold it: {error}') from None
  metadata = {'tnjax': text, 'tnjax_sha256': hashlib.sha256(text.encode()).hexdigest()}
  write_atomically(pathlib.Path(path), save(stored, metadata))


def read_about(path: str | os.PathLike) -> dict:
  """The description in a file.

  Raises:
    FileNotFoundError: no such file.
    ValueError: a damaged file, one that is not ours, or of a later version than this library.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(f'{path} {"is a folder" if path.is_dir() else "does not exist"}')
  try:
    with safe_open(path, 'np') as file:
      metadata = file.metadata() or {}
  except SafetensorError as error:
    raise ValueError(f'{path} is no safetensors file, or is damaged: {error}') from None
  if 'tnjax' not in metadata:
    raise ValueError(f'{path} was not written by tn.save; tn.models.read_weights reads other files')
  text = metadata['tnjax']
  try:
    about = json.loads(text)
    version = about.get('format', 0)
  except (ValueError, AttributeError, RecursionError):
    raise ValueError(f'{path} is damaged: its description is no JSON object') from None
  if type(version) is not int:
    raise ValueError(f'{path} is damaged: its format is {version!r}, no whole number')
  if version > VERSION:
    raise ValueError(f'{path} has format {version}; this tnjax reads up to {VERSION}, update it')
  found = hashlib.sha256(text.encode()).hexdigest()
  if version and metadata.get('tnjax_sha256') != found:
    raise ValueError(f'{path} is damaged: its description does not have the sha256 it was given')
  return about


def read_arrays(path: str | os.PathLike, about: Mapping) -> dict[str, np.ndarray]:
  """The arrays of a file, each checked against its sha256.

  Raises:
    ValueError: a damaged file; names the first array that is missing or differs.
  """
  try:
    arrays = load_file(path)
  except (SafetensorError, OSError, ValueError) as error:
    raise ValueError(f'{path} is damaged: {error}') from None
  for name, row in about.get('arrays', {}).items():
    if name not in arrays:
      raise ValueError(f'{path} is damaged: array {name!r} is missing')
    array = arrays[name]
    if digest(array) != row['sha256']:
      raise ValueError(f'{path} is damaged: array {name!r} does not have the sha256 it was given')
    if row['dtype'] not in _PLAIN:
      plain = np.frombuffer(array.tobytes(), jnp.dtype(row['dtype']))
      arrays[name] = plain.reshape(array.shape[:-1])
  return arrays


def digest(array: np.ndarray) -> str:
  """sha256 of the dtype, the shape and the bytes of an array, in C order."""
  head = f'{array.dtype.name}{array.shape}'.encode()
  return hashlib.sha256(head + np.ascontiguousarray(array).tobytes()).hexdigest()


def write_atomically(path: pathlib.Path, content: bytes) -> None:
  """Replaces a file, whose folder is made, as a whole or not at all."""
  path = path.resolve()  # of a link, the file it leads to
  if path.is_dir():
    raise ValueError(f'{path} is a folder; give the path of a file')
  path.parent.mkdir(parents=True, exist_ok=True)
  handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f'.{path.name}.')
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.chmod(partial, 0o666 & ~_umask())
    os.replace(partial, path)
  except BaseException:
    pathlib.Path(partial).unlink(missing_ok=True)
    raise


def _umask() -> int:
  current = os.umask(0)
  os.umask(current)
  return current
