"""Speed and memory of the decompositions, beside TensorLy, torchTT and what the machine can do.

    make bench                      # all cells and peers
    python -m experiments.benchmarks.decompositions --cells='cp_.*' --peers=none --repeats=3

All sides of a cell take turns in one process, at equal ranks and starts, in float32; a side runs
once to warm up and then --repeats times. Of an iterative method each side does the least sweeps
that bring it to the least error of any side (`same_error.py`). Peak memory is
of one run, beyond the input, in a new process. Errors are computed the same way for all from what
they return. A bound is what no implementation can avoid (`bounds.py`) at the rates of this machine,
that of large square products and that of the cell's own. TensorLy runs its defaults
(`svd='truncated_svd'`); its jax back end, op by op, runs once, in its own process, as many sweeps
as the others need.

Results go to --output after every cell, with a picture beside it; cells that it has are not
measured again.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from absl import app, flags, logging

from experiments.benchmarks import measure, one_cell, peers, problems, report
from experiments.benchmarks.cells import select
from experiments.common import results
from experiments.common.progress import Progress

_CELLS = flags.DEFINE_string(
  'cells', '(?!tiny_).*', 'Regular expression over the whole names of the cells to measure.'
)
_REPEATS = flags.DEFINE_integer('repeats', 7, 'Timed runs of every side.', lower_bound=1)
_SIDE_SECONDS = flags.DEFINE_float(
  'side_seconds', 60.0, 'A side is not run again once its runs have taken this long in all.', 0.0
)
_OUTPUT = flags.DEFINE_string(
  'output', 'results/benchmarks/decompositions.json', 'The report; a .png goes beside it.'
)
_PEERS = flags.DEFINE_list(
  'peers', 'auto', 'auto (those installed), none, or names: tensorly, torchtt.'
)
_BACKENDS = flags.DEFINE_list(
  'tensorly_backends', 'numpy,pytorch,jax', "TensorLy's back ends to try: numpy, pytorch, jax."
)
_PEAKS = flags.DEFINE_bool('peaks', True, 'Measure peak memory, in a new process for every side.')
_FLOAT64 = flags.DEFINE_bool(
  'float64_reference', False, "Add the error of tnjax's run in double precision."
)
_FRESH = flags.DEFINE_bool('fresh', False, 'Start over where --output exists.')
_PEAK_OF = flags.DEFINE_string(
  'peak_of', None, 'Used by the benchmark itself: cell:side:sweeps to run once in this process.'
)

_BEAT = 20.0  # seconds between signs of life where there is no terminal


def main(argv: list[str]) -> None:
  """Measures the cells. Bad input is one line on stderr, found before any work."""
  logging.set_verbosity(logging.ERROR)  # jax tells which back ends it does not find
  if _PEAK_OF.value is not None:
    print(json.dumps(measure.once(_PEAK_OF.value)))
    return
  progress = Progress()

  def interrupt(*_: object) -> None:
    progress.interrupted = True
    raise KeyboardInterrupt

  signal.signal(signal.SIGINT, interrupt)
  signal.signal(signal.SIGTERM, interrupt)  # or the process of a peak would live on
  try:
    with progress:
      _benchmark(argv, progress)
  except KeyboardInterrupt:
    print(f'interrupted; the same command goes on from {_OUTPUT.value}', file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)  # an orderly exit waits for XLA's threads


def _benchmark(argv: list[str], progress: Progress) -> None:
  path = pathlib.Path(_OUTPUT.value)
  try:
    if len(argv) > 1:
      raise ValueError(f'unexpected argument {argv[1]!r}; flags start with --')
    if path.suffix != '.json':
      raise ValueError(f'--output={path} must end in .json')
    cells = select(_CELLS.value)
    found, absent = peers.find(tuple(_PEERS.value), tuple(_BACKENDS.value))
    settings = one_cell.Settings(_REPEATS.value, _SIDE_SECONDS.value, _PEAKS.value, _FLOAT64.value)
    content = _started(path, found, absent, settings)
  except (ValueError, OSError) as error:
    sys.exit(f'error: {error}')
  have = {c['name'] for c in content['cells']}
  for side, reason in absent.items():
    progress.print(f'{side} is left out: {reason}')
  if 'gemm_gflops' not in content:
    progress.print('measuring the rates of this machine')
    content['gemm_gflops'], content['copy_gbytes_per_s'] = measure.rates()
  done = len([c for c in cells if c.name in have])
  try:
    with progress.task('cells', len(cells), done) as advance:
      for cell in cells:
        if cell.name in have:
          continue
        if not problems.available(cell):
          content['absent'][cell.name] = f'this version of tnjax has no {cell.method}'
        else:
          with _heartbeat(progress, advance, cell.name) as note:
            result = one_cell.measured(cell, found, settings, content, note)
          content['cells'].append(result)
        results.write_json(path, content)
        advance(1, cell.name)
  except FloatingPointError as error:
    sys.exit(f'error: {error}')
  picture = path.with_suffix('.png')
  if content['cells']:
    report.plot(picture, content['cells'], content['device'])
  progress.print(report.table(content))
  progress.print(f'wrote {path}, {picture}')


def _started(
  path: pathlib.Path, found: list[str], absent: dict[str, str], settings: one_cell.Settings
) -> dict:
  """The report so far: that of `path` if it was measured the same way, else a new one.

  Raises:
    ValueError: `path` holds another benchmark.
  """
  versions = results.versions()
  for package in peers.PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package.lower()] = importlib.metadata.version(package)
  new = {
    'command': shlex.join(['python', '-m', one_cell.MODULE, *sys.argv[1:]]),
    'versions': versions,
    'device': results.device(),
    'git': results.git(),
    'settings': {'sides': found, **dataclasses.asdict(settings)},
    'absent': absent,
    'cells': [],
  }
  return results.resumed(path, new, _FRESH.value) | {'absent': absent}


@contextlib.contextmanager
def _heartbeat(progress: Progress, advance: Callable, name: str) -> Iterator[Callable]:
  """Yields `note(text)`; where there is no terminal, a line now and then says what is going on."""
  over, now, start = threading.Event(), [''], time.monotonic()

  def beat() -> None:
    while not over.wait(_BEAT):
      progress.print(f'{name}: {now[0]}; {time.monotonic() - start:.0f} s')

  def note(text: str) -> None:
    now[0] = text
    advance(0, f'{name}: {text}')

  thread = threading.Thread(target=beat, daemon=True)
  if not progress.console.is_terminal:
    thread.start()
  try:
    yield note
  finally:
    over.set()


if __name__ == '__main__':
  app.run(main)
