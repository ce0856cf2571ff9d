"""The benchmark of convolutions as a user runs it, on one small cell."""

import json

import pytest

from tests.experiments import forked


def run(*flags):
  (done,) = forked.run('experiments.benchmarks.convolutions', [flags], ('experiments.common.job',))
  return done


def test_times_both_sides_of_a_cell(tmp_path):
  done = run('--cells=2x2x4', '--batch=2', '--repeats=1', f'--workdir={tmp_path}/conv')
  assert done.returncode == 0, done.stderr
  (row,) = json.loads((tmp_path / 'conv' / 'report.json').read_text())['rows']
  assert row['faster'] == pytest.approx(row['jax_seconds'] / row['tnjax_seconds'])
  assert '2x2x4' in done.stdout
  done = run('--cells=2x2', f'--workdir={tmp_path}/bad')
  assert done.returncode == 1
  assert '--cells=2x2 must be HEIGHTxWIDTHxCHANNELS' in done.stderr
