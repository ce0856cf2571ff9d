"""Results on disk, written atomically, never half; and where they come from."""

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import pathlib
import platform
import re
import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np

_PACKAGES = ('tnjax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')


@contextlib.contextmanager
def naming(path: pathlib.Path) -> Iterator[None]:
  """Lets an OSError of the block name a file: a full disk does not say where."""
  try:
    yield
  except OSError as error:
    if error.errno is not None and error.filename is None:
      error.filename = str(path)
    raise


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path` that replaces it if the block succeeds."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.stem}.partial{path.suffix}')
  try:
    with naming(path):
      yield partial
      with partial.open('rb+') as file:
        os.fsync(file.fileno())
      os.replace(partial, path)
  finally:
    partial.unlink(missing_ok=True)


def write_json(path: pathlib.Path, content: Mapping) -> None:
  """Writes indented JSON; NaN is refused, as no reader shares its spelling."""
  with atomic(path) as partial:
    partial.write_text(json.dumps(content, indent=1, allow_nan=False) + '\n')


def read_json(path: pathlib.Path) -> dict:
  """Reads what `write_json` wrote.

  Raises:
    ValueError: the file is damaged.
  """
  try:
    content = json.loads(path.read_text())
  except ValueError as error:
    raise ValueError(f'{path} is damaged: {error}') from None
  if not isinstance(content, dict):
    raise ValueError(f'{path} is damaged: it holds no JSON object')
  return content


def resumed(path: pathlib.Path, new: Mapping, fresh: bool) -> dict:
  """The report in `path` if it was made the same way as `new`, to go on with; else `new`.

  Raises:
    ValueError: the file is damaged, or has other versions, device or settings.
  """
  if not path.exists() or fresh:
    return dict(new)
  old = read_json(path)
  for key in ('versions', 'device', 'settings'):
    if old.get(key) != new[key]:
      raise ValueError(
        f'--output={path} has {key} {old.get(key)}; this run has {new[key]}. Choose another file, '
        'or --fresh to start over'
      )
  return old


def write_csv(path: pathlib.Path, rows: Sequence[Mapping]) -> None:
  """Writes rows under one header; nested values as JSON."""
  out = io.StringIO()
  if rows:
    names = dict.fromkeys(key for row in rows for key in row)  # rows of older versions have fewer
    writer = csv.DictWriter(out, names, lineterminator='\n')
    writer.writeheader()
    writer.writerows(
      {k: json.dumps(v) if isinstance(v, (dict, list)) else v for k, v in row.items()}
      for row in rows
    )
  with atomic(path) as partial:
    partial.write_text(out.getvalue())


def versions() -> dict[str, str]:
  """Versions of Python and of the packages a result depends on."""
  found = {name: importlib.metadata.version(name) for name in _PACKAGES}
  return {'python': platform.python_version(), **found}


def device() -> str:
  """Kind and number of the devices in use."""
  devices = jax.devices()
  return f'{len(devices)} x {devices[0].device_kind} ({os.cpu_count()} host cores)'


def git() -> dict[str, object]:
  """The commit of this code, and whether its tree was clean; 'unknown' outside git."""

  def ask(*words: str) -> str:
    command = ['git', '-C', str(pathlib.Path(__file__).parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

  try:
    ask('ls-files', '--error-unmatch', pathlib.Path(__file__).name)  # not around it, but of it
    return {'commit': ask('rev-parse', 'HEAD'), 'clean': not ask('status', '--porcelain')}
  except (OSError, subprocess.CalledProcessError):
    return {'commit': 'unknown', 'clean': 'unknown'}


def sha256(path: str | pathlib.Path) -> str:
  """Digest of a file."""
  with open(path, 'rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def fingerprint(*arrays: np.ndarray) -> str:
  """Digest of arrays: their shapes, types and bytes."""
  digest = hashlib.sha256()
  for array in arrays:
    digest.update(f'{array.dtype}{array.shape}'.encode())
    digest.update(array.tobytes())  # a buffer of bfloat16 is refused
  return digest.hexdigest()


def peak_memory() -> dict[str, int | None]:
  """Most bytes held so far by this process, and by its first device where that tells."""
  stats = jax.local_devices()[0].memory_stats() or {}
  return {'process_bytes': _peak_resident(), 'device_bytes': stats.get('peak_bytes_in_use')}


def _peak_resident() -> int:
  """Linux counts in getrusage what the parent held when it started this process; VmHWM is own."""
  with contextlib.suppress(OSError, TypeError):
    status = pathlib.Path('/proc/self/status').read_text()
    return int(re.search(r'VmHWM:\s*(\d+) kB', status)[1]) * 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
