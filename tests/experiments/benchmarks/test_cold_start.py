"""The cold-start benchmark: one real process, and the same error from every side."""

import json
import subprocess
import sys

import pytest

from experiments.benchmarks import cold_side

ROOT = __file__.rsplit('/tests/', 1)[0]


def test_measures_in_processes_of_their_own_and_goes_on(tmp_path):
  flags = ['--cells=svd', '--sides=tnjax', '--repeats=1', '--compile_cache=']
  command = [sys.executable, '-m', 'experiments.benchmarks.cold_start', *flags]
  done = subprocess.run(
    [*command, f'--workdir={tmp_path}/cold'], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  report = json.loads((tmp_path / 'cold' / 'report.json').read_text())
  (row,) = report['rows']
  assert row['seconds'] > 0
  assert 0 < row['relative_error'] < 1
  assert 'commit' in report['git']
  assert (tmp_path / 'cold' / 'summary.csv').read_text().count('svd') == 1


@pytest.mark.parametrize('cell', ['tk', 'svd', 'r_tt'])
def test_tensorly_finds_no_other_error(cell):
  pytest.importorskip('tensorly', reason='TensorLy is an optional peer')
  ours, theirs = (
    cold_side.main({'cell': cell, 'side': side})['relative_error']
    for side in ('tnjax', 'tensorly-numpy')
  )
  assert ours == pytest.approx(theirs, rel=1e-3)
