"""The course of training on disk: one JSON line a look at the loss."""

import json
import math
import pathlib

from experiments.common.results import atomic

_KINDS = {'phase': str, 'step': int, 'seconds': (int, float)}


class Metrics:
  """Appends to `metrics.jsonl`; whole lines, and each step of a phase once, whatever was killed.

  Args:
    path: of the file, made with the first line.
  """

  def __init__(self, path: pathlib.Path):
    self._path = path

  def resume(self, phase: str, step: int) -> float:
    """Forgets lines of a phase from `step` on, which will come again, and torn ones.

    Returns:
      Seconds that the phase had taken at the last line left.
    """
    lines = self.read()
    kept = [line for line in lines if line['phase'] != phase or line['step'] < step]
    text = ''.join(f'{json.dumps(line)}\n' for line in kept)
    if self._path.is_file() and self._path.read_text() != text:
      with atomic(self._path) as partial:
        partial.write_text(text)
    return max((line['seconds'] for line in kept if line['phase'] == phase), default=0.0)

  def append(self, phase: str, step: int, **values: float) -> None:
    """Adds a line in a single write; what is not finite becomes null."""
    values = {k: v if math.isfinite(v) else None for k, v in values.items()}
    with self._path.open('ab', buffering=0) as file:
      file.write(f'{json.dumps({"phase": phase, "step": step, **values})}\n'.encode())

  def read(self) -> list[dict]:
    """The lines; one that a kill or a full disk tore is left out."""
    if not self._path.is_file():
      return []
    lines = []
    for text in self._path.read_text(errors='replace').splitlines():
      try:
        line = json.loads(text)
        if all(isinstance(line[name], kind) for name, kind in _KINDS.items()):
          lines.append(line)
      except (ValueError, KeyError, TypeError, RecursionError):
        continue
    return lines
