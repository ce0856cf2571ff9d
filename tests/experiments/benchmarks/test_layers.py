"""The layer benchmark as a user runs it, on its cheapest cells."""

import json

import pytest

import tnjax as tn
from experiments.benchmarks.layer_cells import select
from experiments.benchmarks.layer_peers import layers
from experiments.benchmarks.layers import summary, table
from tests.experiments import forked

IMPORTS = ('experiments.benchmarks.measure', 'experiments.benchmarks.networks')


def run(*flags):
  cases = [['--repeats=1', *flags]]
  (done,) = forked.run('experiments.benchmarks.layers', cases, IMPORTS)
  return done


def test_measures_resumes_and_tries_all_orders(tmp_path):
  path = tmp_path / 'layers.json'
  flags = (f'--output={path}', '--network=none', '--regret=1')
  done = run(*flags, '--cells=linear1024_svd10%_b1_infer')
  assert done.returncode == 0, done.stderr
  first = json.loads(path.read_text())
  (cell,) = first['cells']
  assert cell['planned'] > 0
  assert cell['macs'] < cell['dense_macs']
  assert cell['regret']['orders'] >= 1
  assert cell['regret']['ratio'] >= 1
  done = run(*flags, '--cells=linear1024_svd10%_b1_.*')
  assert done.returncode == 0, done.stderr
  second = json.loads(path.read_text())
  assert second['cells'][0] == cell
  assert [c['training'] for c in second['cells']] == [False, True]
  assert 'linear1024_svd10%_b1_train' in done.stdout


def test_tltorch_layers_have_the_same_size():
  pytest.importorskip('tltorch')
  (cell,) = select('conv64_8_tk10%_b128_infer', full=False)
  params = cell.parametrization.num_params
  found = list(layers(cell, params))
  assert [peer.name for peer in found] == ['tltorch-factorized', 'tltorch-reconstructed']
  for peer in found:
    assert 0.8 < peer.params / params < 1.2
    assert tuple(peer.run().shape) == (128, 64, 8, 8)


def test_bad_input_is_one_line(tmp_path):
  cases = [
    (['--cells=nothing'], '--cells=nothing matches none of'),
    (['--cells=('], 'no regular expression'),
    (['extra'], "unexpected argument 'extra'"),
  ]
  runs = forked.run(
    'experiments.benchmarks.layers',
    [['--repeats=1', f'--output={tmp_path / "x.json"}', *flags] for flags, _ in cases],
    IMPORTS,
  )
  for done, (_, words) in zip(runs, cases, strict=True):
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr


def test_the_sample_covers_every_scheme_and_both_passes():
  cells = select('.*', full=False)
  assert 60 <= len(cells) <= 85
  assert len(select('.*', full=True)) > 200
  assert {c.scheme.name for c in cells} == set(tn.schemes.NAMES)
  assert {c.training for c in cells} == {True, False}
  for cell in cells:
    if not cell.parametrization.fold.shuffled:
      assert cell.layer.dense_macs > 0


def test_the_summary_names_what_falls_short():
  good = {
    'name': 'good', 'batch': 8, 'planned': 1e-3, 'rebuild': 2e-3, 'dense': 2e-3, 'macs': 10,
    'dense_macs': 100, 'over_rebuild': 0.5, 'over_dense': 0.5, 'expected_over_dense': 0.4,
    'plan_seconds': 0.01, 'regret': {'ratio': 1.0},
  }  # fmt: skip
  bad = good | {'name': 'bad', 'over_rebuild': 1.2, 'over_dense': 1.3, 'regret': {'ratio': 1.5}}
  lost = good | {'name': 'lost', 'expected_over_dense': 1.4}
  found = summary([good, bad, lost])
  assert found['slower_than_rebuild'] == {'bad': 1.2}
  assert found['of_these_slower_than_dense'] == {'bad': 1.3}
  assert found['must_lose_to_dense'] == ['lost']
  assert found['half_the_work_but_less_than_1.5x'] == {'bad': pytest.approx(0.77)}
  assert found['regret_worst'] == 1.5
  assert len(table([good, bad]).splitlines()) == 3
