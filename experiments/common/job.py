"""One frame for all jobs: settings, signals, folder and errors, so that a job is only its work."""

import contextlib
import dataclasses
import gc
import os
import pathlib
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import jax
from absl import app, flags, logging

from experiments.common import config as settings
from experiments.common import mesh, results, workdir
from experiments.common.progress import Progress, Stopped

T = TypeVar('T')
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Work(Protocol):
  """What a job prepares, to be run by the frame."""

  def run(self) -> None:
    """Does the work, leaving results on disk as it goes."""

  def finish(self) -> None:
    """Writes what is made from the results there are; also after an interrupt."""

  def state(self) -> str:
    """How far it came, such as '3 of 9 rows'."""

  def summary(self) -> str:
    """What to print at the end of a whole run."""


@dataclasses.dataclass
class Job:
  """What a job is given to prepare its work with.

  Attributes:
    config: the settings.
    progress: display.
    mesh: the devices over which training shards its batches; None for one device.
    command: the command line.
    workdir: path of the results' folder.
  """

  config: settings.Config
  progress: Progress
  mesh: jax.sharding.Mesh | None
  command: list[str]
  workdir: str
  _stack: contextlib.ExitStack

  def check(self) -> None:
    """Raises ValueError if `open` would, before any costly preparation."""
    if mesh.primary():
      workdir.check(self.workdir, self.config)

  def open(self) -> pathlib.Path:
    """The folder of the results, locked until the job ends; of all but the first of several
    processes one that vanishes.
    """
    if mesh.primary():
      folder = self._stack.enter_context(workdir.locked(self.workdir, self.config))
      self.progress.print(f'results in {self.workdir}')
      return folder
    return pathlib.Path(self._stack.enter_context(tempfile.TemporaryDirectory()))

  def enter(self, resource: contextlib.AbstractContextManager[T]) -> T:
    """A resource entered now and left when the job ends, in whichever way."""
    return self._stack.enter_context(resource)

  def provenance(self) -> dict:
    """What a report says of how it was made."""
    return {
      'command': shlex.join(self.command),
      'preset': self.config.preset,
      'versions': results.versions(),
      'device': results.device(),
      'mesh': None if self.mesh is None else f'data:{self.mesh.size}',
      'processes': jax.process_count(),
      'git': results.git(),
    }


def launch(kind: type[settings.Config], name: str, prepare: Callable[[Job], Work | None]) -> None:
  """Runs a binary: to be called from its `__main__`, whose docstring heads --help.

  Args:
    kind: its settings.
    name: of the folders under results/.
    prepare: checks everything, opens the folder and returns the work; or does something short, such
      as evaluating a file, and returns None. A ValueError or OSError is the user's to mend.
  """

  def parse(argv: list[str]) -> settings.Config:
    flags.FLAGS.mark_as_parsed()  # absl's own, of which a job has none
    with one_line(ValueError, OSError):
      return settings.parse(kind, argv, sys.modules['__main__'].__doc__)

  app.run(lambda config: _run(config, name, prepare), flags_parser=parse)


@contextlib.contextmanager
def one_line(*kinds: type[Exception]) -> Iterator[None]:
  """Errors of these kinds, which the user can mend, end the program without a traceback."""
  try:
    yield
  except kinds as error:
    sys.exit('error: ' + ' '.join(str(error).split()))


def _run(config: settings.Config, name: str, prepare: Callable[[Job], Work | None]) -> None:
  logging.set_verbosity(logging.ERROR)  # jax tells which back ends it does not find
  gc.collect()
  gc.freeze()  # what was imported stays, and need not be looked through for garbage again and again
  progress = Progress()
  _stop_on_signals(progress)
  main = sys.modules['__main__'].__spec__
  command = ['python', *(('-m', main.name) if main else sys.argv[:1]), *sys.argv[1:]]
  path = config.workdir or workdir.new(name)
  work = None
  try:
    with progress, contextlib.ExitStack() as stack:
      with one_line(ValueError, OSError):
        devices = _devices(config)
        progress.console.quiet = not mesh.primary()
        work = prepare(Job(config, progress, devices, command, path, stack))
      if work is not None:
        _carry_out(work)
        progress.print(work.summary())
  except Stopped as stop:
    again = shlex.join(command if config.workdir else [*command, f'--workdir={path}'])
    text = f'interrupted; {path} has {work.state()}. To go on: {again}' if work else None
    left = text or 'interrupted before any work was started', 128 + stop.args[0]
  except SystemExit as error:
    if not (error.code and jax.process_count() > 1):
      raise
    left = str(error.code), 1  # an orderly exit would wait for the others, and they for this one
  else:
    return
  _leave(*left)  # by now the error's traceback holds nothing any more


def _devices(config: settings.Config) -> jax.sharding.Mesh | None:
  _compile_cache(config.compile_cache)
  mesh.start(config)
  return mesh.make(config.mesh)


def _carry_out(work: Work) -> None:
  with one_line(FloatingPointError, OSError):
    try:
      work.run()
    finally:
      for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # a second one would spoil what the first one saved
      work.finish()


def _stop_on_signals(progress: Progress) -> None:
  def stop(number: int, _: object) -> None:
    progress.interrupted = number  # an exception inside one of XLA's callbacks would be lost
    raise Stopped(number)

  for number in _SIGNALS:
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
      signal.signal(number, stop)


def _leave(text: str, status: int) -> None:
  """Ends the process at once: an orderly exit waits for, or crashes in, XLA's compiler threads."""
  with contextlib.suppress(OSError):
    print(text, file=sys.stderr, flush=True)
  with contextlib.suppress(OSError):
    sys.stdout.flush()
  gc.collect()  # named semaphores of closed queues, which multiprocessing would call leaked
  os._exit(status)


def _compile_cache(folder: str | None) -> None:
  """Keeps compiled programs of this and later runs, the small ones too."""
  if folder is None and jax.config.jax_compilation_cache_dir is None:
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    folder = os.path.join(home, 'tnjax', 'xla')
    if not _writable(folder):
      return
  elif folder and not _writable(folder):
    raise ValueError(f'--compile_cache={folder} is no folder that can be written to')
  if folder is not None:
    jax.config.update('jax_compilation_cache_dir', folder or None)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def _writable(folder: str) -> bool:
  try:
    os.makedirs(folder, exist_ok=True)
  except OSError:
    return False
  return os.access(folder, os.W_OK)
