import json
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import types

import pytest

from experiments.common import job
from tests.experiments import forked

ROOT = pathlib.Path(__file__).parents[3]
TOY = pathlib.Path(__file__).with_name('toy_job.py')


@pytest.fixture
def start(one_device):
  """Starts the toy job, with the signals that a terminal gives it, under `nohup` too."""
  before = signal.signal(signal.SIGHUP, signal.SIG_DFL)

  def started(*flags):
    command = [sys.executable, TOY, *flags]
    env = one_device | {'PYTHONPATH': str(ROOT)}
    return subprocess.Popen(command, env=env, cwd=ROOT, text=True, stdout=-1, stderr=-1)

  yield started
  signal.signal(signal.SIGHUP, before)


def test_every_way_to_stop_saves_says_how_to_go_on_and_goes_on(start, tmp_path):
  """Four jobs side by side: three signals, and a reader of the output that goes away."""
  waits = {signal.SIGINT: 99, signal.SIGTERM: 99, signal.SIGHUP: 99, signal.SIGPIPE: 0.5}
  folders = {stop: tmp_path / stop.name for stop in waits}
  jobs = {s: start(f'--workdir={folders[s]}', '--rows=4', f'--wait={w}') for s, w in waits.items()}
  for stop, process in jobs.items():
    assert process.stdout.readline() == f'results in {folders[stop]}\n'
    assert process.stdout.readline() == '0\n'
    if stop == signal.SIGPIPE:
      process.stdout.close()
    else:
      process.send_signal(stop)
  for stop, process in jobs.items():
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + stop, errors
    (line,) = errors.splitlines()
    report = json.loads((folders[stop] / 'report.json').read_text())
    done = len(report['rows'])
    assert done == 1 or stop == signal.SIGPIPE  # noticed when there is something to print
    assert len((folders[stop] / 'summary.csv').read_text().splitlines()) == done + 1
    assert line.startswith(f'interrupted; {folders[stop]} has {done} rows. To go on: python ')
    flags = shlex.split(line.partition('To go on: ')[2])[2:]
    jobs[stop] = start(*flags, '--wait=0')
  for stop, process in jobs.items():
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    report = json.loads((folders[stop] / 'report.json').read_text())
    assert [r['value'] for r in report['rows']] == [0, 1, 4, 9]


def test_without_a_workdir_the_line_names_it(start):
  process = start('--rows=2', '--wait=99')
  name = process.stdout.readline().split()[-1]
  assert process.stdout.readline() == '0\n'
  process.terminate()
  _, errors = process.communicate(timeout=60)
  try:
    assert process.returncode == 143
    assert errors.rstrip().endswith(f'--rows=2 --wait=99 --workdir={name}')
  finally:
    shutil.rmtree(ROOT / name)


def test_what_a_user_can_mend_is_one_line_and_saves_what_there_is(start, tmp_path, one_device):
  busy = start(f'--workdir={tmp_path / "busy"}', '--wait=99')
  assert busy.stdout.readline()
  (tmp_path / 'damaged').mkdir()
  (tmp_path / 'damaged' / 'config.json').write_text('{')
  cases = [
    (['--fail=disk', f'--workdir={tmp_path / "disk"}'], 'No space left on device'),
    (['--fail=nan', f'--workdir={tmp_path / "nan"}'], 'is nan'),
    ([f'--workdir={tmp_path / "busy"}'], 'is in use by another run'),
    ([f'--workdir={tmp_path / "damaged"}'], 'config.json is damaged'),
    (['--rows=0'], '--rows=0 must be at least 1'),
    (['--nonsense'], "Unknown command line flag 'nonsense'"),
    (['--mesh=data:2'], '--mesh=data:2: jax sees 1 device'),
    (['--mesh=2'], '--mesh=2 must be data:N'),
    (['--process=1'], '--process goes with --distributed'),
    (['--compile_cache=/proc/none'], '--compile_cache=/proc/none is no folder'),
  ]
  runs = forked.run(TOY, [flags for flags, _ in cases], ('experiments.common.job',), one_device)
  for done, (flags, words) in zip(runs, cases, strict=True):
    assert done.returncode == 1, flags
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: ')
    assert words in line
  busy.terminate()
  busy.communicate(timeout=60)
  for name in ('disk', 'nan'):
    assert len(json.loads((tmp_path / name / 'report.json').read_text())['rows']) == 1
    assert (tmp_path / name / 'summary.csv').is_file()


def test_the_compile_cache_is_the_users_the_flags_or_none(tmp_path, monkeypatch):
  updates = {}
  unset = types.SimpleNamespace(jax_compilation_cache_dir=None, update=updates.__setitem__)
  monkeypatch.setattr(job.jax, 'config', unset)  # that of the tests has a folder
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
  for folder, found in (
    (None, tmp_path / 'home' / 'tnjax' / 'xla'),
    (str(tmp_path / 'mine'), tmp_path / 'mine'),
    ('', None),
  ):
    updates.clear()
    job._compile_cache(folder)
    assert updates['jax_compilation_cache_dir'] == (found and str(found))
    assert found is None or found.is_dir()
  monkeypatch.setenv('XDG_CACHE_HOME', '/proc/none')  # not asked for, so not missed
  job._compile_cache(None)
