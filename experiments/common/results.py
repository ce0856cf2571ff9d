"""Results on disk: written atomically, never half."""

import contextlib
import csv
import datetime
import fcntl
import importlib.metadata
import io
import json
import os
import pathlib
import platform
from collections.abc import Iterator, Mapping, Sequence

import jax

_PACKAGES = ('tnjax', 'jax', 'jaxlib', 'flax', 'optax', 'numpy')


@contextlib.contextmanager
def atomic(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a temporary path beside `path` that replaces it if the block succeeds."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(f'.{path.stem}.partial{path.suffix}')
  try:
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
    writer = csv.DictWriter(out, rows[0].keys(), lineterminator='\n')
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


def new_workdir(name: str) -> str:
  """A path under results/ that does not exist yet."""
  stamp = datetime.datetime.now().strftime('%Y%m%d-%H%M%S-%f')[:-3]
  return f'results/{name}_{stamp}'


def check_workdir(workdir: str, config: Mapping) -> None:
  """Whether `workdir` can take the results of `config`: it is new, or holds the same one's.

  Raises:
    ValueError: the folder holds results of another configuration (the first differing entry is
      named), or files that are no results.
  """
  folder = pathlib.Path(workdir)
  path = folder / 'config.json'
  config = json.loads(json.dumps(config))
  if path.is_file():
    old = read_json(path)
    for key in sorted(old.keys() | config.keys()):
      if old.get(key) != config.get(key):
        raise ValueError(
          f'--workdir={workdir} holds results for {key}={old.get(key)!r}; this run has '
          f'{config.get(key)!r}. Choose another folder'
        )
  elif folder.exists():
    strange = not folder.is_dir() or any(not p.name.startswith('.') for p in folder.iterdir())
    if strange:
      raise ValueError(f'--workdir={workdir} exists and holds no results of tnjax; choose another')


@contextlib.contextmanager
def open_workdir(workdir: str, config: Mapping) -> Iterator[pathlib.Path]:
  """The folder, made and checked, locked against a second run for as long as the block lasts.

  Args:
    workdir: path.
    config: everything that decides the results; kept in `config.json`.

  Raises:
    ValueError: as `check_workdir`, or another run is using the folder.
  """
  check_workdir(workdir, config)
  folder = pathlib.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / '.lock').open('w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(f'--workdir={workdir} is in use by another run') from None
    if not (folder / 'config.json').is_file():
      write_json(folder / 'config.json', config)
    yield folder
