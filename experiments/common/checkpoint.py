"""Checkpoints of a training state by orbax: written atomically, resumed after a kill."""

import concurrent.futures
import errno
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging

from experiments.common import results
from experiments.common.arrays import host, like

_SAVE_EVERY = 60.0  # seconds
_MANIFEST = 'sha256.json'  # beside the arrays: orbax tells of damage in thousands of lines, or not


class Checkpoint:
  """The latest state of one training run, in a folder of its own.

  It holds host arrays, so that any mesh can go on with it, keys as their data. Of several processes
  the first alone writes and reads.

  Args:
    folder: made when the first state is saved.
    every: seconds between saves.
  """

  def __init__(self, folder: pathlib.Path, every: float = _SAVE_EVERY):
    self._folder = folder.absolute()
    self._every = every
    self._last = time.monotonic()

  def save_if_due(self, state: object, step: int) -> None:
    """Saves the state after `step` updates if the last save is long enough ago."""
    if time.monotonic() - self._last < self._every:
      return
    if jax.process_index() == 0:
      arrays = {name: host(leaf) for name, leaf in _named(jax.tree.leaves(state)).items()}
      with results.naming(self._folder):
        _undisturbed(_write, self._folder, arrays, step)
    self._last = time.monotonic()

  def restore(self, state: object) -> tuple[object, int]:
    """The saved state and its step, or the given one and 0 where none was saved."""
    if jax.process_index() != 0 or not self._folder.exists():
      return state, 0
    leaves, structure = jax.tree.flatten(state)
    try:
      arrays, step = _undisturbed(_read, self._folder)
      named = _named(leaves)
      if arrays.keys() != named.keys():
        raise ValueError('it has arrays of another model')
      found = {name: like(arrays[name], leaf) for name, leaf in named.items()}
      leaves = [found.get(_name(i), leaf) for i, leaf in enumerate(leaves)]
      return structure.unflatten(leaves), step
    except Exception as error:  # orbax raises many kinds
      text = ' '.join(str(error).split())[:200]
      logging.error('%s cannot be read, starting over: %s', self._folder, text)
      self.delete()
      return state, 0

  def delete(self) -> None:
    """Removes the folder: the run is complete and its result saved elsewhere."""
    if self._folder.exists():
      doomed = self._folder.with_name(f'.{self._folder.name}.deleted')
      shutil.rmtree(doomed, ignore_errors=True)
      self._folder.rename(doomed)  # so that a kill never leaves half a checkpoint to be resumed
      shutil.rmtree(doomed, ignore_errors=True)


def _undisturbed(work: Callable[..., object], *args: object) -> object:
  """Calls in a thread: a signal ends the job once orbax is done, not in the middle of its event
  loop. What it logs, tracebacks of errors that it also raises, is not shown.
  """
  before = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  try:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
      return pool.submit(work, *args).result()
  finally:
    logging.set_verbosity(before)


def _named(leaves: Sequence[jax.Array]) -> dict[str, jax.Array]:
  """Arrays under sortable names; orbax takes none without entries, which say nothing anyway."""
  return {_name(i): leaf for i, leaf in enumerate(leaves) if leaf.size}


def _name(i: int) -> str:
  return f'{i:06d}'


def _write(folder: pathlib.Path, arrays: dict[str, np.ndarray], step: int) -> None:
  whole, partial = folder / str(step), folder / f'.{step}.partial'
  folder.mkdir(parents=True, exist_ok=True)
  room = sum(3 * a.nbytes // 2 + 2**14 for a in arrays.values()) + 2**18
  if shutil.disk_usage(folder).free < room:  # orbax tells of that in hundreds of lines
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
  try:
    with _orbax() as checkpointer:
      checkpointer.save(partial / 'arrays', arrays, force=True)
  except ValueError as error:  # how tensorstore tells of a full disk
    raise OSError(f'{folder}: {error}') from None
  results.write_json(partial / _MANIFEST, _digests(partial))
  partial.rename(whole)
  for old in folder.iterdir():
    if old != whole:
      shutil.rmtree(old)


def _read(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], int]:
  """The arrays of the latest step, and which it is."""
  steps = [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]
  if not steps:
    raise ValueError('it holds no whole checkpoint')
  whole = folder / str(max(steps))
  wanted, found = results.read_json(whole / _MANIFEST), _digests(whole)
  for name in sorted(wanted.keys() | found.keys()):
    if wanted.get(name) != found.get(name):
      raise ValueError(f'{name} of step {whole.name} does not have the sha256 it was given')
  with _orbax() as checkpointer:
    return dict(checkpointer.restore(whole / 'arrays')), max(steps)


def _digests(folder: pathlib.Path) -> dict[str, str]:
  """sha256 of every file below a folder but the manifest."""
  files = (path for path in folder.rglob('*') if path.is_file() and path.name != _MANIFEST)
  return {str(path.relative_to(folder)): results.sha256(path) for path in files}


def _orbax() -> object:
  """A checkpointer that waits for no other process; imported late, as most phases end before one
  is due.
  """
  import orbax.checkpoint as ocp

  alone = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix='first'
  )
  return ocp.Checkpointer(
    ocp.PyTreeCheckpointHandler(multiprocessing_options=alone), multiprocessing_options=alone
  )
