"""The benchmark of T-Net as a user runs it, on a small network."""

import json

import pytest

from tests.experiments import forked

SMALL = '--size=32', '--stacks=2', '--depth=1', '--features=8', '--conv_batch=1', '--repeats=1'


def run(*flags):
  (done,) = forked.run('experiments.benchmarks.tnet', [flags], ('experiments.common.job',))
  return done


def test_a_network_and_a_convolution_beside_the_dense_ones(tmp_path):
  done = run('--cases=tucker_5.2x,conv_4.17x', *SMALL, f'--workdir={tmp_path}/tnet')
  assert done.returncode == 0, done.stderr
  network, conv = json.loads((tmp_path / 'tnet' / 'report.json').read_text())['rows']
  # Twelve kernels of 8 x 8 x 3 x 3 become a core of 2 x 2 x 2 x 8 x 8 x 3 x 3 and its factors.
  saved = 12 * 576 - (8 * 576 + 4 + 1 + 6 + 4 + 2 * 64 + 2 * 9)
  assert network['dense_params'] - network['params'] == 4 * saved
  assert network['optimizer_ratio'] == pytest.approx(network['params_ratio'], rel=1e-3)
  assert conv['params_ratio'] == pytest.approx(1 / 4.17, rel=0.01)
  assert conv['flops'] < conv['dense_flops']
  assert all(
    row['seconds_ratio'] == row['seconds'] / row['dense_seconds'] for row in (network, conv)
  )
  done = run('--size=48', f'--workdir={tmp_path}/bad')
  assert done.returncode == 1
  assert '--size=48 must be a multiple of 64' in done.stderr
