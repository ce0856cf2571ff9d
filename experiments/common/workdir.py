"""The folder of a job's results: new or made with the same settings, and locked."""

import contextlib
import datetime
import fcntl
import pathlib
from collections.abc import Iterator

from experiments.common import config as settings
from experiments.common import results


def new(name: str) -> str:
  """A path under results/ that does not exist yet."""
  stamp = datetime.datetime.now().strftime('%Y%m%d-%H%M%S-%f')[:-3]
  return f'results/{name}_{stamp}'


def check(workdir: str, config: settings.Config) -> dict:
  """What `config.json` shall hold in `workdir`, if that can take the results of `config`.

  Raises:
    ValueError: the folder holds results of other settings (the first differing field is named), or
      files that are no results.
  """
  folder = pathlib.Path(workdir)
  if (folder / 'config.json').is_file():
    try:
      return settings.merged(results.read_json(folder / 'config.json'), config)
    except ValueError as error:
      raise ValueError(f'--workdir={workdir} {error}. Choose another folder') from None
  if folder.exists():
    strange = not folder.is_dir() or any(not p.name.startswith('.') for p in folder.iterdir())
    if strange:
      raise ValueError(f'--workdir={workdir} exists and holds no results of tnjax; choose another')
  return config.json()


@contextlib.contextmanager
def locked(workdir: str, config: settings.Config) -> Iterator[pathlib.Path]:
  """The folder, made and checked, locked against a second run for as long as the block lasts.

  Raises:
    ValueError: as `check`, or another run is using the folder.
  """
  check(workdir, config)
  folder = pathlib.Path(workdir)
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / '.lock').open('w') as lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise ValueError(f'--workdir={workdir} is in use by another run') from None
    results.write_json(folder / 'config.json', check(workdir, config))  # again: it was not ours
    yield folder
