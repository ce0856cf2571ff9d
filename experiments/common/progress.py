"""Progress with an ETA: bars on a terminal, a line now and then in a log."""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

import rich.console
import rich.progress

_LOG_EVERY = 30.0  # seconds between lines where there is no terminal


class Stopped(KeyboardInterrupt):
  """A signal, whose number is the argument, ends the run in good order."""


class Progress(contextlib.AbstractContextManager):
  """Shows nested tasks; use as a context manager.

  Args:
    quiet: show nothing, for all processes but the first.

  >>> with Progress() as progress, progress.task('count', 3) as advance:
  ...   for _ in range(3):
  ...     advance(1)
  """

  def __init__(self, quiet: bool = False):
    self.interrupted = 0  # a signal's number, set by its handler; the next `advance` raises
    self.console = rich.console.Console(file=_Output(sys.stdout, self), quiet=quiet)
    columns = (
      rich.progress.TextColumn('{task.description}'),
      rich.progress.BarColumn(),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TimeElapsedColumn(),
      rich.progress.TextColumn('ETA'),
      rich.progress.TimeRemainingColumn(),
      rich.progress.TextColumn('{task.fields[note]}'),
    )
    self._bars = rich.progress.Progress(
      *columns,
      console=self.console,
      disable=not self.console.is_terminal,
      speed_estimate_period=1e9,  # rows are minutes apart; rich forgets after 30 seconds
    )

  def __enter__(self) -> 'Progress':
    """Starts the display."""
    self._bars.start()
    return self

  def __exit__(self, *_: object) -> None:
    """Stops the display."""
    self._bars.stop()

  def print(self, text: object) -> None:
    """A line above the bars."""
    self.console.print(text, highlight=False, markup=False, soft_wrap=True)
    self.check()

  def check(self) -> None:
    """Raises `Stopped` after a signal, or once nobody reads the output."""
    if self.interrupted:
      raise Stopped(self.interrupted)

  @contextlib.contextmanager
  def task(self, description: str, total: int, done: int = 0) -> Iterator[Callable]:
    """A bar of `total` units, `done` of them before; yields `advance(units, note='')`."""
    bar = self._bars.add_task(description, total=total or None, completed=done, note='')
    start = last = time.monotonic()
    count = done

    def advance(units: int, note: str = '') -> None:
      nonlocal count, last
      self.check()
      count += units
      self._bars.update(bar, advance=units, note=note)
      now = time.monotonic()
      if not self.console.is_terminal and now - last >= _LOG_EVERY and count > done:
        last = now
        left = (now - start) / (count - done) * (total - count)
        self.print(f'{description}: {count}/{total} {note} ETA {_clock(left)}')

    try:
      yield advance
    finally:
      self._bars.remove_task(bar)


class _Output:
  """Standard output that may go away: a closed pipe or terminal is noted, not raised.

  It may be a thread of the display that writes, and where it raised nobody would hear.
  """

  def __init__(self, file: TextIO, progress: Progress):
    self._file = file
    self._progress = progress
    self._lost = False

  def write(self, text: str) -> None:
    """As the file does."""
    self._try(lambda: self._file.write(text))

  def flush(self) -> None:
    """As the file does."""
    self._try(self._file.flush)

  def __getattr__(self, name: str) -> object:
    return getattr(self._file, name)

  def _try(self, action: Callable[[], object]) -> None:
    if self._lost:
      return
    try:
      action()
    except OSError as error:
      self._lost = True
      number = signal.SIGPIPE if isinstance(error, BrokenPipeError) else signal.SIGHUP
      self._progress.interrupted = self._progress.interrupted or number
      with open(os.devnull, 'w') as null:  # what is still buffered would raise again at exit
        os.dup2(null.fileno(), self._file.fileno())


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(max(0, seconds)), 60)
  return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'
