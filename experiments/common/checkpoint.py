"""Checkpoints of a training state by orbax: written atomically, resumed after a kill."""

import concurrent.futures
import pathlib
import shutil
import time
import types
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import logging

from experiments.common.arrays import host, like
from experiments.common.results import fingerprint, naming

_SAVE_EVERY = 60.0  # seconds
_SHA256 = 'sha256'  # beside the arrays, as orbax notices no flipped bit


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
      with naming(self._folder):
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
    except Exception as error:  # orbax raises many kinds for a damaged folder
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
  ocp = _orbax()
  arrays = arrays | {_SHA256: _digest(arrays)}
  try:
    with _manager(folder) as manager:
      manager.save(step, args=ocp.args.StandardSave(arrays), force=True)
  except ValueError as error:  # how tensorstore tells of a full disk
    raise OSError(f'{folder}: {error}') from None


def _read(folder: pathlib.Path) -> tuple[dict[str, np.ndarray], int]:
  """The arrays of the latest step, and which it is."""
  ocp = _orbax()
  with _manager(folder) as manager:
    step = manager.latest_step()
    if step is None:
      raise ValueError('it holds no whole checkpoint')
    arrays = manager.restore(step, args=ocp.args.StandardRestore())
  arrays = dict(sorted(arrays.items()))
  if not np.array_equal(arrays.pop(_SHA256, None), _digest(arrays)):
    raise ValueError('its arrays do not have the sha256 they were given')
  return arrays, step


def _digest(arrays: dict[str, np.ndarray]) -> np.ndarray:
  return np.frombuffer(bytes.fromhex(fingerprint(*arrays.values())), np.uint8)


def _manager(folder: pathlib.Path) -> object:
  """A CheckpointManager that keeps one step and waits for no other process."""
  ocp = _orbax()
  folder.mkdir(parents=True, exist_ok=True)
  alone = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix='first'
  )
  options = ocp.CheckpointManagerOptions(
    max_to_keep=1,
    create=False,  # orbax would ask all processes
    cleanup_tmp_directories=True,
    enable_async_checkpointing=False,
    multiprocessing_options=alone,
  )
  return ocp.CheckpointManager(folder, options=options)


def _orbax() -> types.ModuleType:
  """Imported late: most phases end before a checkpoint is due."""
  import orbax.checkpoint

  return orbax.checkpoint
