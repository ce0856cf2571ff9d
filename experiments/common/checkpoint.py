"""Checkpoints of a training state by orbax: written atomically, resumed after a kill."""

import pathlib
import shutil
import time

import jax
import orbax.checkpoint as ocp
from absl import logging

_SAVE_EVERY = 60.0  # seconds


class Checkpoint:
  """The latest state of one training run, in a folder of its own.

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
    with self._manager() as manager:
      manager.save(step, args=ocp.args.StandardSave(_named(state)))
    self._last = time.monotonic()

  def restore(self, state: object) -> tuple[object, int]:
    """The saved state and its step, or the given one and 0 where none was saved."""
    if not self._folder.is_dir():
      return state, 0
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _named(state))
    try:
      with self._manager() as manager:
        step = manager.latest_step()
        if step is None:
          return state, 0
        named = manager.restore(step, args=ocp.args.StandardRestore(abstract))
    except Exception as error:  # orbax raises many kinds for a damaged folder
      logging.warning('%s cannot be read, starting over: %s', self._folder, str(error)[:200])
      self.delete()
      return state, 0
    leaves = [named[k] for k in sorted(named)]
    return jax.tree.unflatten(jax.tree.structure(state), leaves), step

  def delete(self) -> None:
    """Removes the folder: the run is complete and its result saved elsewhere."""
    if self._folder.exists():
      doomed = self._folder.with_name(f'.{self._folder.name}.deleted')
      shutil.rmtree(doomed, ignore_errors=True)
      self._folder.rename(doomed)  # so that a kill never leaves half a checkpoint to be resumed
      shutil.rmtree(doomed, ignore_errors=True)

  def _manager(self) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    return ocp.CheckpointManager(self._folder, options=options)


def _named(state: object) -> dict[str, jax.Array]:
  """Leaves under sortable names: any pytree becomes a flat dictionary."""
  return {f'{i:06d}': leaf for i, leaf in enumerate(jax.tree.leaves(state))}
