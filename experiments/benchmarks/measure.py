"""Clocks and memory: rounds of all sides, machine rates, the peak of one run in a new process."""

import ctypes
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks import peers, problems
from experiments.benchmarks.cells import Cell, select
from experiments.benchmarks.problems import Input, Side

_GEMM = 2048  # rows and columns
_COPY = 1 << 26  # entries, as many as in the largest TT-SVD cells
_REPEATS = 9  # of a rate

Note = Callable[[str], None]  # says what is going on now


def tnjax_side(cell: Cell, data: Input, method: str | None = None) -> Side:
  """tnjax's side, compiled; `method` other than None is a variant of rounding."""
  x = problems.on_device(cell, data)
  program, *seconds = compiled(problems.tnjax_run(cell, method), x)
  name = 'tnjax' if method is None else f'tnjax-{method}'
  return Side(
    name,
    lambda: jax.block_until_ready(program(x)),
    lambda result: problems.tnjax_records(cell, result),
    compile_seconds=sum(seconds),
  )


def compiled(run: Callable, *args: object) -> tuple[Callable, float, float]:
  """A program of a function, and the seconds that tracing and compiling it took.

  >>> program, trace, build = compiled(jnp.sin, jnp.zeros(3))
  >>> program(jnp.zeros(3)).tolist(), min(trace, build) > 0
  ([0.0, 0.0, 0.0], True)
  """
  start = time.perf_counter()
  lowered = (run if hasattr(run, 'lower') else jax.jit(run)).lower(*args)
  traced = time.perf_counter()
  program = lowered.compile()
  return program, traced - start, time.perf_counter() - traced


def copy_sides(size: int) -> list[Side]:
  """Copies of a float32 array of `size` entries: into memory in use, and into new memory."""
  x = jax.block_until_ready(jnp.ones(size))
  target = [jnp.zeros_like(x)]
  into = jax.jit(lambda x, y: x * 1.0000001, donate_argnums=1, keep_unused=True)
  new = jax.jit(lambda x: x * 1.0000001)  # a plain copy may be answered by the same buffer

  def overwrite() -> None:
    target[0] = jax.block_until_ready(into(x, target[0]))

  def copy() -> None:
    jax.block_until_ready(new(x))

  return [Side('copy', overwrite, lambda _: []), Side('copy_new', copy, lambda _: [])]


def rates() -> tuple[float, float]:
  """Gflop/s of a product of two float32 matrices, GB/s (read and written) of a large copy.

  The best of a few runs: these are what the machine can do.
  """
  overwrite, _ = copy_sides(_COPY)
  copy = min(_clock(overwrite.run) for _ in range(_REPEATS))
  return product_gflops(_GEMM, _GEMM, _GEMM), 2 * 4 * _COPY / copy / 1e9


def product_gflops(rows: int, inner: int, columns: int) -> float:
  """Gflop/s of a product of float32 matrices (rows x inner) x (inner x columns), best of a few.

  Of two forms the faster: the large matrix from the left, and the same numbers with the long side
  summed over, (inner x rows) x (rows x columns), as CP needs it too.
  """

  def rate(m: int, k: int, n: int) -> float:
    a, b = jax.block_until_ready((jnp.ones((m, k)), jnp.ones((k, n))))
    product = jax.jit(lambda a, b: jnp.dot(a, b, precision=jax.lax.Precision.HIGHEST))
    seconds = min(_clock(lambda: jax.block_until_ready(product(a, b))) for _ in range(_REPEATS))
    return 2 * m * k * n / seconds / 1e9

  return max(rate(rows, inner, columns), rate(inner, rows, columns))


def rounds(
  sides: Sequence[Side],
  repeats: int,
  limit: float,
  note: Note,
  inspect: Callable[[Side, object], None],
) -> dict[str, dict]:
  """Times all sides: one run each to warm up, then round robin.

  A side whose runs have taken `limit` seconds in all is not run again; one whose first run alone
  took longer keeps that one.

  Args:
    sides: to be timed.
    repeats: rounds.
    limit: seconds of a side.
    note: called with what is being run.
    inspect: called with every side and its first result.

  Returns:
    By side, `median_seconds` and `seconds`, or `failed` for another library that raised.
  """
  seconds: dict[str, list[float]] = {side.name: [] for side in sides}
  spent = dict.fromkeys(seconds, 0.0)
  failed: dict[str, str] = {}
  for i in range(repeats + 1):
    for side in sides:
      if side.name in failed or (i and spent[side.name] >= limit and seconds[side.name]):
        continue
      note(f'{side.name}, {f"run {i} of {repeats}" if i else "first run"}')
      side.prepare()
      gc.collect()
      start = time.perf_counter()
      try:
        result = side.run()
      except Exception as error:  # whatever another library raises
        if side.name.startswith('tnjax'):
          raise
        failed[side.name] = reason(error)
        continue
      took = time.perf_counter() - start
      spent[side.name] += took
      if i or took >= limit:
        seconds[side.name].append(took)
      if not i:
        inspect(side, result)
      del result
  return {
    name: {'failed': failed[name]} if name in failed else summary(values)
    for name, values in seconds.items()
  }


def reason(error: Exception) -> str:
  """One line that says why another library failed."""
  return f'{type(error).__name__}: {error}'.splitlines()[0][:200]


def summary(seconds: Sequence[float]) -> dict:
  """The median and all runs, as they go into the report."""
  return {
    'median_seconds': statistics.median(seconds),
    'seconds': [round(s, 6) for s in seconds],
  }


def in_new_process(cell: Cell, name: str, module: str) -> dict:
  """What `once` returns for a side, in a process of its own, or {'failed': reason}."""
  command = [sys.executable, '-m', module, f'--peak_of={cell.name}:{name}:{cell.sweeps}']
  root = pathlib.Path(__file__).parent.parent.parent
  path = os.pathsep.join(filter(None, (str(root), os.environ.get('PYTHONPATH'))))
  env = os.environ | {'PYTHONPATH': path}
  if jax.default_backend() == 'gpu':
    env['XLA_PYTHON_CLIENT_PREALLOCATE'] = 'false'
  done = subprocess.run(command, env=env, capture_output=True, text=True)
  if done.returncode:
    lines = done.stderr.strip().splitlines()
    return {'failed': lines[-1] if lines else f'exit status {done.returncode}'}
  return json.loads(done.stdout.splitlines()[-1])


def once(name: str) -> dict:
  """Peak memory beyond the input of one run, after another to compile and warm up.

  Args:
    name: 'cell:side:sweeps', the last 0 for a direct method.

  Returns:
    peak_bytes, median_seconds, seconds (of the one run) and relative_error. On a GPU the peak is
    that of device memory since the process began, for tnjax. None where it cannot be had: off
    Linux, and for other libraries on a GPU.
  """
  cell_name, side_name, sweeps = name.split(':')
  (cell,) = [c.at(int(sweeps)) for c in select('.*') if c.name == cell_name]
  data = problems.inputs(cell)
  side = make_side(side_name, cell, data)
  side.prepare()
  records = [jax.tree.map(np.asarray, r) for r in side.records(side.run())]
  error = problems.relative_error(cell, data, records)
  del records
  gc.collect()
  peak = Peak(side_name)
  start = time.perf_counter()
  result = side.run()
  seconds = time.perf_counter() - start
  peak_bytes = peak.stop()
  del result
  return {'peak_bytes': peak_bytes, **summary([seconds]), 'relative_error': error}


def make_side(name: str, cell: Cell, data: Input) -> Side:
  """A side by its name in the report."""
  if name.startswith('tnjax'):
    return tnjax_side(cell, data, name.removeprefix('tnjax').removeprefix('-') or None)
  return peers.side(name, cell, data)


class Peak:
  """Highest memory in use from the making of this object to `stop()`, beyond that at the start.

  Args:
    name: of the side that is measured.

  Attributes:
    start: bytes in use then; None where that cannot be told.
  """

  def __init__(self, name: str):
    self._gpu = jax.default_backend() == 'gpu'
    self._tnjax = name.startswith('tnjax')
    if self._gpu:
      self.start = jax.local_devices()[0].memory_stats()['bytes_in_use']
      return
    try:
      ctypes.CDLL(None).malloc_trim(0)  # memory kept for reuse would hide what the run needs
      pathlib.Path('/proc/self/clear_refs').write_text('5')  # resets the high-water mark
      self.start = _status('VmRSS')
    except (OSError, AttributeError):  # not Linux, or not allowed
      self.start = None

  def stop(self) -> int | None:
    """Bytes; None where that cannot be told."""
    if self._gpu:
      used = jax.local_devices()[0].memory_stats()['peak_bytes_in_use'] - self.start
      return used if self._tnjax else None
    if self.start is None:
      return None
    return max(0, _status('VmHWM') - self.start)


def _status(field: str) -> int:
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith(f'{field}:'):
      return int(line.split()[1]) * 1024
  raise OSError(f'/proc/self/status has no {field}')


def _clock(run: Callable[[], object]) -> float:
  start = time.perf_counter()
  run()
  return time.perf_counter() - start
