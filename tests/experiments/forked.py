"""Runs of a program that differ in their flags, as processes forked from one that imported it.

Each is a process of its own, with an exit status and output of its own, but for the seconds that
imports take. Run as a program: runs on stdin, a line of JSON each, their exit statuses on stdout.
"""

import atexit
import contextlib
import dataclasses
import functools
import gc
import importlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import warnings

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Done:
  returncode: int
  stdout: str
  stderr: str


def run(program, cases, imports, env=None):
  """One `Done` for every set of flags.

  Args:
    program: a module's name, or the path of a script.
    cases: lists of flags.
    imports: modules that the program would import itself; not those that define flags.
    env: environment, this process's by default.
  """
  env = {k: v for k, v in (env or os.environ).items() if k != 'PYTEST_CURRENT_TEST'}
  server = _server(frozenset(env.items()))
  with tempfile.TemporaryDirectory() as folder:
    flags = [[str(flag) for flag in case] for case in cases]
    try:
      server.stdin.write(json.dumps([folder, str(program), list(imports), flags]) + '\n')
      server.stdin.flush()
      codes = json.loads(server.stdout.readline())  # nothing from one that ended, which said why
    except BaseException:  # whatever it answers now would be taken for the next answer
      _end(server)
      _server.cache_clear()
      raise
    path = pathlib.Path(folder)
    return [
      Done(code, (path / f'{i}.1').read_text(), (path / f'{i}.2').read_text())
      for i, code in enumerate(codes)
    ]


@functools.cache
def _server(env):
  """The process to fork from, which ends with this one."""
  server = subprocess.Popen(
    [sys.executable, __file__], cwd=ROOT, env=dict(env) | {'PYTHONPATH': str(ROOT)}, text=True,
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
  )  # fmt: skip
  atexit.register(_end, server)
  return server


def _end(server):
  with contextlib.suppress(OSError):
    server.stdin.close()
  try:
    server.wait(10)
  except subprocess.TimeoutExpired:
    server.kill()
    server.wait()
  server.stdout.close()


def _start(folder, program, flags, i):
  os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
  for stream in (1, 2):
    os.dup2(os.open(f'{folder}/{i}.{stream}', os.O_CREAT | os.O_WRONLY), stream)
  sys.argv = [program, *flags]
  if program.endswith('.py'):
    runpy.run_path(program, run_name='__main__')
  else:
    runpy.run_module(program, run_name='__main__', alter_sys=True)


def _main():
  warnings.filterwarnings('ignore', 'os.fork')  # nothing has started threads or devices yet
  for line in sys.stdin:
    folder, program, imports, cases = json.loads(line)
    for name in imports:
      importlib.import_module(name)
    gc.collect()
    gc.freeze()
    codes = []
    for i, flags in enumerate(cases):
      child = os.fork()
      if not child:
        return _start(folder, program, flags, i)
      codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(codes), flush=True)


if __name__ == '__main__':
  _main()
