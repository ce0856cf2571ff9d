"""Progress with an ETA: bars on a terminal, a line now and then in a log."""

import contextlib
import time
from collections.abc import Callable, Iterator

import rich.console
import rich.progress

_LOG_EVERY = 30.0  # seconds between lines where there is no terminal


class Progress(contextlib.AbstractContextManager):
  """Shows nested tasks; use as a context manager.

  >>> with Progress() as progress, progress.task('count', 3) as advance:
  ...   for _ in range(3):
  ...     advance(1)
  """

  def __init__(self):
    self.interrupted = False  # set by a signal handler; the next `advance` raises
    self.console = rich.console.Console()
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

  @contextlib.contextmanager
  def task(self, description: str, total: int, done: int = 0) -> Iterator[Callable]:
    """A bar of `total` units, `done` of them before; yields `advance(units, note='')`."""
    bar = self._bars.add_task(description, total=total or None, completed=done, note='')
    start = last = time.monotonic()
    count = done

    def advance(units: int, note: str = '') -> None:
      nonlocal count, last
      if self.interrupted:
        raise KeyboardInterrupt
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


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(max(0, seconds)), 60)
  return f'{minutes // 60}:{minutes % 60:02d}:{seconds:02d}'
