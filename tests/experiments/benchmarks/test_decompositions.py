"""The benchmark as a user runs it, on tiny cells and without other libraries."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from experiments.benchmarks import (
  bounds,
  measure,
  peers,
  problems,
  reference,
  report,
  same_error,
)
from experiments.benchmarks.cells import CELLS, select
from tests.experiments import forked

IMPORTS = ('experiments.benchmarks.measure', 'experiments.benchmarks.reference')
FIELDS = {
  'name', 'method', 'shape', 'count', 'ranks', 'sweeps', 'input_bytes', 'tnjax', 'peers',
  'variants', 'copy_seconds', 'copy_new_seconds', 'bound_seconds', 'bound_kind', 'best_peer',
  'speedup_over_best_peer', 'times_bound', 'times_copy', 'error_ratio', 'aim', 'met',
  'slack', 'target_error', 'bound_skinny_seconds', 'skinny_gflops', 'times_bound_skinny',
  'speedup_at_least',
}  # fmt: skip


def run(*flags, check=True):
  (done,) = forked.run('experiments.benchmarks.decompositions', [flags], IMPORTS)
  if check:
    assert done.returncode == 0, done.stderr
  return done


def tiny(path, cells, *flags):
  return run(f'--output={path}', f'--cells={cells}', '--peers=none', '--repeats=2', *flags)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Path of a report on two cells, and the terminal output."""
  path = tmp_path_factory.mktemp('bench') / 'new' / 'report.json'
  done = tiny(path, 'tiny_cp|tiny_tt', '--float64_reference')
  return path, done.stdout


def test_the_report_keeps_its_contract(finished):
  path, out = finished
  found = json.loads(path.read_text())
  assert set(found) == {
    'command', 'versions', 'device', 'git', 'settings', 'absent', 'gemm_gflops',
    'copy_gbytes_per_s', 'cells',
  }  # fmt: skip
  assert found['gemm_gflops'] > 0
  assert found['copy_gbytes_per_s'] > 0
  assert '--repeats=2' in found['command']
  assert [c['name'] for c in found['cells']] == ['tiny_cp', 'tiny_tt']
  for cell in found['cells']:
    assert set(cell) == FIELDS
    own = cell['tnjax']
    assert set(own) == {
      'relative_error', 'compile_seconds', 'median_seconds', 'seconds', 'peak_bytes',
      'float64_relative_error', *(['sweeps'] if cell['sweeps'] else []),
    }  # fmt: skip
    assert len(own['seconds']) == 2
    assert min(own['seconds']) > 0
    assert own['relative_error'] == pytest.approx(own['float64_relative_error'], rel=1e-4)
    assert cell['bound_seconds'] > 0
    assert cell['times_bound'] == own['median_seconds'] / cell['bound_seconds']
    assert cell['times_bound_skinny'] == own['median_seconds'] / cell['bound_skinny_seconds']
    assert min(cell['skinny_gflops']) > 0
    assert cell['times_copy'] == own['median_seconds'] / cell['copy_seconds']
    assert cell['peers'] == cell['variants'] == {}
    assert cell['speedup_over_best_peer'] is None
    assert cell['name'] in out
  cp, tt = found['cells']
  assert 1 <= cp['tnjax']['sweeps'] <= cp['sweeps']
  assert cp['tnjax']['relative_error'] <= cp['target_error']
  assert tt['target_error'] is None
  assert cp['met'] is None  # an aim over peers, of which there are none
  assert tt['met'] == (tt['times_copy'] <= 3)
  assert path.with_suffix('.png').read_bytes().startswith(b'\x89PNG')
  assert not list(path.parent.glob('.*'))  # nothing partial is left


def test_a_report_is_gone_on_with_and_another_refused(finished):
  path, _ = finished
  before = json.loads(path.read_text())['cells']
  tiny(path, 'tiny_.*t', '--float64_reference')
  assert json.loads(path.read_text())['cells'] == before
  other = run(f'--output={path}', '--cells=tiny_tt', '--peers=none', '--repeats=3', check=False)
  assert other.returncode == 1
  assert '--fresh' in other.stderr
  assert json.loads(path.read_text())['cells'] == before


def test_bad_input_is_one_clear_line(tmp_path):
  cases = [
    (['--cells=nothing'], '--cells=nothing matches none of the cells: cp_256x256x9_r64'),
    (['--cells=('], 'is no regular expression'),
    (['--peers=tensorflow'], '--peers=tensorflow is unknown'),
    (['--tensorly_backends=mxnet'], '--tensorly_backends=mxnet is unknown'),
    (['--repeats=0'], 'repeats'),
    (['stray'], "unexpected argument 'stray'"),
  ]
  runs = forked.run(
    'experiments.benchmarks.decompositions',
    [[*flags, f'--output={tmp_path / "a.json"}'] for flags, _ in cases],
    IMPORTS,
  )
  for done, (_, words) in zip(runs, cases, strict=True):
    assert done.returncode != 0
    assert words in done.stderr
    assert 'Traceback' not in done.stderr
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('cell', CELLS, ids=lambda c: c.name)
def test_bounds_are_positive_and_read_at_least_the_input(cell):
  flops, read = bounds.work(cell)
  assert flops > 0
  assert read >= bounds.input_bytes(cell) > 0
  rates = [1e-9] * len(cell.shapes)
  seconds, kind = bounds.bound(cell, rates, copy_gbytes_per_s=1.0, copy_seconds=1.0)
  assert (seconds, kind) == (pytest.approx(flops), 'products')
  rates = [1e30] * len(cell.shapes)
  seconds, kind = bounds.bound(cell, rates, copy_gbytes_per_s=1e-9, copy_seconds=1e30)
  assert (seconds, kind) == (pytest.approx(read), 'streaming')


@pytest.mark.parametrize('cell', select('tiny_.*'), ids=lambda c: c.name)
def test_every_method_runs_and_its_error_is_that_of_the_record(cell):
  if not problems.available(cell):
    pytest.skip(f'no tn.{cell.method}')
  data = problems.inputs(cell)
  side = measure.tnjax_side(cell, data)
  records = side.records(side.run())
  error = problems.relative_error(cell, data, records)
  if cell.method == 'tt_round':
    x = np.asarray(tn.TT(tuple(map(jnp.asarray, data))).full())
    assert error == pytest.approx(_norm(x - records[0].full()) / _norm(x), rel=1e-4)
    assert records[0].ranks == cell.ranks[0]
  else:
    assert [r.shape for r in records] == list(cell.shapes)
    gap = _norm(*(x - r.full() for x, r in zip(data, records)))
    assert error == pytest.approx(gap / _norm(*data), rel=1e-4)


def test_inputs_are_the_same_again_and_as_hard_as_they_say():
  (cell,) = select('cp_256x256x9_r64')
  cell = dataclasses.replace(cell, shapes=((30, 20, 9),), ranks=((2,),))
  (x,), (again,) = problems.inputs(cell), problems.inputs(cell)
  assert np.array_equal(x, again)
  left = np.linalg.svd(x.reshape(30, -1), compute_uv=False)
  assert np.sqrt(np.sum(left[2:] ** 2) / np.sum(left**2)) == pytest.approx(0.7, abs=0.05)
  (cell,) = select('hooi_256x256x9_r64x64x9')
  (x,) = problems.inputs(dataclasses.replace(cell, shapes=((64, 64, 9),)))
  sizes = np.linalg.norm(x.reshape(64, -1), axis=1)
  slope = np.polyfit(np.log(np.arange(1, 65)), np.log(sizes), 1)[0]
  assert slope == pytest.approx(-0.25, abs=0.05)


def test_others_get_the_start_of_cp_als():
  """One sweep of textbook ALS from `cp_start` gives the error of one sweep of tnjax."""
  cell = dataclasses.replace(select('tiny_cp')[0], sweeps=1)
  data = problems.inputs(cell)
  found = problems.tnjax_run(cell)(jnp.asarray(data[0])).relative_error
  assert float(found) == pytest.approx(reference.float64_error(cell, data), rel=1e-3)
  shifted = tn.cp_als(jnp.asarray(data[0]), 2, jax.random.key(1), max_iters=1, tol=0.0)
  assert float(shifted.relative_error) != pytest.approx(float(found), rel=1e-2)


def test_a_peer_that_fails_is_reported_and_a_slow_side_runs_once():
  def fail():
    raise RuntimeError('singular\nmatrix')

  sides = [
    problems.Side('tensorly-numpy', fail, lambda _: []),
    problems.Side('tnjax', lambda: 1, lambda _: []),
  ]
  seen = []
  out = measure.rounds(sides, 3, 0.0, lambda _: None, lambda side, _: seen.append(side.name))
  assert out['tensorly-numpy'] == {'failed': 'RuntimeError: singular'}
  assert len(out['tnjax']['seconds']) == 1
  assert seen == ['tnjax']


RATES = {'gemm_gflops': 1e-6, 'skinny_gflops': [5e-7], 'copy_gbytes_per_s': 1.0}
COPIES = {'copy': [0.5], 'copy_new': [1.0]}
OWN = {'median_seconds': 1.0, 'relative_error': 0.1005, 'sweeps': 2}


def test_the_result_compares_with_the_best_peer():
  (cell,) = select('tiny_cp')
  sides = {
    'tnjax': OWN,
    'tensorly-numpy': {'median_seconds': 9.0, 'relative_error': 0.1, 'sweeps': 3},
    'tensorly-pytorch': {'median_seconds': 6.0, 'relative_error': 0.11, 'sweeps': 3},
    'tensorly-jax': {'median_seconds': 0.1, 'failed': 'RuntimeError: no'},
  }
  found = report.result(cell, sides, COPIES, RATES, 0.11)
  assert (found['best_peer'], found['speedup_over_best_peer']) == ('tensorly-pytorch', 6.0)
  assert found['speedup_at_least'] is None
  assert found['error_ratio'] == pytest.approx(1.005)
  assert found['times_copy'] == 2.0
  assert found['bound_seconds'] == pytest.approx(bounds.work(cell.at(2))[0] / 1e3)  # our sweeps
  assert found['bound_skinny_seconds'] == pytest.approx(2 * found['bound_seconds'])
  assert found['met'] is True
  worse = report.result(cell, sides | {'tnjax': OWN | {'relative_error': 0.102}}, COPIES, RATES)
  assert worse['met'] is False


def test_a_side_that_never_comes_as_low_has_no_time():
  (cell,) = select('tiny_cp')
  never = {
    'sweeps': None,
    'relative_error': 0.2,
    'median_seconds': None,
    'most_sweeps_seconds': 7.0,
  }
  found = report.result(cell, {'tnjax': OWN, 'tensorly-numpy': never}, COPIES, RATES, 0.11)
  assert found['speedup_over_best_peer'] is None
  assert found['speedup_at_least'] == 7.0
  assert found['met'] is None
  peer = OWN | {'relative_error': 0.1}
  lost = report.result(cell, {'tnjax': never, 'tensorly-numpy': peer}, COPIES, RATES, 0.11)
  assert lost['met'] is False
  assert lost['speedup_over_best_peer'] is lost['times_bound'] is None
  both = {'cells': [found, lost], 'absent': {}, 'gemm_gflops': 1.0, 'copy_gbytes_per_s': 1.0}
  for c in both['cells']:
    c['tnjax'] = {'compile_seconds': 0.1} | c['tnjax']
  text = report.table(both)
  assert '> 7.00' in text
  assert 'tnjax: 0.110000 not reached, 0.200000 after 3 sweeps' in text


@pytest.mark.parametrize('most', [1, 2, 7, 100])
def test_the_least_sweeps_are_found_in_few_runs(most):
  for needed in range(1, most + 2):
    runs = []

    def error(sweeps, needed=needed, runs=runs):
      runs.append(sweeps)
      return 1.0 if sweeps < needed else 0.5

    assert same_error.least(error, 0.5, most) == (needed if needed <= most else None)
    assert set(runs) <= set(range(1, most + 1))
    assert len(runs) <= 2 + 2 * most.bit_length()


def test_every_side_climbs_to_the_same_target(monkeypatch):
  """A side with errors 1 / n, one that is twice as slow, and one that breaks."""
  (cell,) = select('tiny_cp')
  cell, sweeps = cell.at(16), {'tnjax': 1, 'tensorly-numpy': 2}

  def side(name, cell, _):
    return problems.Side(name, lambda: sweeps[name] / cell.sweeps, lambda error: [error])

  monkeypatch.setattr(measure, 'make_side', side)
  monkeypatch.setattr(problems, 'relative_error', lambda cell, data, records: records[0])
  out = {name: {} for name in (*sweeps, 'tensorly-pytorch')}
  target = same_error.climb(cell, list(out), (), lambda _: None, out)
  assert target == pytest.approx((1 + cell.slack) / 16)
  assert out['tnjax'] == {'sweeps': 16, 'relative_error': 1 / 16}
  assert out['tensorly-numpy'] == {'sweeps': None, 'relative_error': 1 / 8}
  assert out['tensorly-pytorch']['failed'].startswith('KeyError')


def test_peers_that_are_missing_are_said_to_be_absent(monkeypatch):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: name == 'tensorly' or None)
  found, absent = peers.find(('auto',), ('numpy', 'pytorch'))
  assert found == ['tensorly-numpy']
  assert absent == {
    'tensorly-pytorch': 'torch not installed',
    'torchtt': 'torch and torchtt not installed',
  }


def _norm(*arrays):
  return float(np.sqrt(sum(np.sum(np.square(np.asarray(a, 'float64'))) for a in arrays)))
