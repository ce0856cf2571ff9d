"""The latency benchmark as a user runs it, on its smallest network."""

import json

import pytest
from flax import nnx

import tnjax as tn
from experiments.benchmarks.latency import NETWORKS, Config
from tests.experiments import forked


def test_times_a_network_in_every_runtime_there_is(tmp_path):
  flags = ['--networks=tiny', '--batches=2', '--repeats=2', f'--workdir={tmp_path}/latency']
  (done,) = forked.run('experiments.benchmarks.latency', [flags], ('experiments.common.job',))
  assert done.returncode == 0, done.stderr
  (row,) = json.loads((tmp_path / 'latency' / 'report.json').read_text())['rows']
  assert {side['runtime'] for side in row['sides']} == set(Config().resolved().runtimes)
  assert {side['variant'] for side in row['sides']} == set(NETWORKS['tiny'].variants)
  for side in row['sides']:
    assert len(side['seconds']) == 2
    assert 0 <= side['difference'] < 1e-4
  assert (tmp_path / 'latency' / 'summary.csv').read_text().count('dense') >= 1


@pytest.mark.parametrize('network', NETWORKS)
def test_every_rule_finds_layers_of_its_network(network):
  model = nnx.eval_shape(NETWORKS[network].make)
  sizes = [tn.compression.plan(model, r).params for r in NETWORKS[network].variants.values()]
  assert sizes[0] == max(sizes)
  assert len(set(sizes)) == len(sizes)
