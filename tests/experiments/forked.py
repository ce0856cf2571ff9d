"""Runs of a program that differ in their flags, as processes forked from one that imported it.

Each is a process of its own, with an exit status and output of its own, but for the seconds that
imports take. Run as a program: `forked.py FOLDER PROGRAM MODULES`, sets of flags on stdin as JSON.
"""

import dataclasses
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
  with tempfile.TemporaryDirectory() as folder:
    done = subprocess.run(
      [sys.executable, __file__, folder, str(program), ','.join(imports)],
      cwd=ROOT, env=(env or dict(os.environ)) | {'PYTHONPATH': str(ROOT)}, text=True,
      input=json.dumps([[str(flag) for flag in flags] for flags in cases]), capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = pathlib.Path(folder)
    return [
      Done(code, (path / f'{i}.1').read_text(), (path / f'{i}.2').read_text())
      for i, code in enumerate(json.loads(done.stdout))
    ]


def _start(folder, program, flags, i):
  for stream in (1, 2):
    os.dup2(os.open(f'{folder}/{i}.{stream}', os.O_CREAT | os.O_WRONLY), stream)
  sys.argv = [program, *flags]
  if program.endswith('.py'):
    runpy.run_path(program, run_name='__main__')
  else:
    runpy.run_module(program, run_name='__main__', alter_sys=True)


def _main(folder, program, imports):
  for name in imports.split(','):
    importlib.import_module(name)
  warnings.filterwarnings('ignore', 'os.fork')  # nothing has started threads or devices yet
  codes = []
  for i, flags in enumerate(json.load(sys.stdin)):
    child = os.fork()
    if not child:
      return _start(folder, program, flags, i)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
  print(json.dumps(codes))


if __name__ == '__main__':
  _main(*sys.argv[1:])
