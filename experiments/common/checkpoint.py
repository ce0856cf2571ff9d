"""Checkpoints of a training state: one file, replaced atomically, resumed after a kill."""

import pathlib
import time
import zipfile

import jax
import numpy as np
from absl import logging

from experiments.common.arrays import host, like
from experiments.common.results import atomic

_SAVE_EVERY = 60.0  # seconds


class Checkpoint:
  """The latest state of one training run, as host arrays, so that any mesh can go on with it.

  Args:
    path: of the file, .npz; zip's check sums tell a damaged one.
    every: seconds between saves.
  """

  def __init__(self, path: pathlib.Path, every: float = _SAVE_EVERY):
    self._path = path
    self._every = every
    self._last = time.monotonic()

  def save_if_due(self, state: object, step: int) -> None:
    """Saves the state after `step` updates if the last save is long enough ago."""
    if time.monotonic() - self._last < self._every:
      return
    arrays = {f'{i:06d}': host(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    with atomic(self._path) as partial, partial.open('wb') as file:
      np.savez(file, step=step, **arrays)
    self._last = time.monotonic()

  def restore(self, state: object) -> tuple[object, int]:
    """The saved state and its step, or the given one and 0 where none was saved."""
    if not self._path.is_file():
      return state, 0
    leaves, structure = jax.tree.flatten(state)
    try:
      with self._path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
        found = [like(arrays[f'{i:06d}'], leaf) for i, leaf in enumerate(leaves)]
        if len(arrays.files) != len(leaves) + 1:
          raise ValueError('it has arrays of another model')
        return structure.unflatten(found), int(arrays['step'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
      logging.warning('%s cannot be read, starting over: %s', self._path, error)
      self.delete()
      return state, 0

  def delete(self) -> None:
    """Removes the file: the run is complete and its result saved elsewhere."""
    self._path.unlink(missing_ok=True)
