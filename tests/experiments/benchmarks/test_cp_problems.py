"""The hard CP problems, and the race on them."""

import json

import jax
import numpy as np
import pytest

from experiments.benchmarks import cp_race
from experiments.benchmarks.cp_tensors import PROBLEMS, collinear
from tests.experiments import forked


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """The folder of a small run, and what it printed."""
  folder = tmp_path_factory.mktemp('cp') / 'run'
  flags = [
    f'--workdir={folder}',
    '--problems=border_rank_2,rank_2',
    '--sides=tnjax,plain,restarts',
    '--starts=2',
  ]
  flags += ['--sweeps=60', '--repeats=1', '--restarts=2', '--compile_cache=']
  (done,) = forked.run('experiments.benchmarks.cp_problems', [flags], ('experiments.common.job',))
  assert done.returncode == 0, done.stderr
  return folder, done.stdout


def test_the_report_says_who_reaches_the_target(finished):
  folder, out = finished
  report = json.loads((folder / 'report.json').read_text())
  assert [(row['problem'], row['start']) for row in report['rows']] == [
    (name, start) for name in ('border_rank_2', 'rank_2') for start in range(2)
  ]
  for row in report['rows']:
    racing = [row['tnjax'], row['plain']]
    assert row['target'] >= min(side['relative_error'] for side in racing)
    assert any(side['sweeps'] for side in racing)
    for side in racing:
      assert (side['sweeps'] is not None) == (side['relative_error'] <= row['target'])
      if side['sweeps']:
        assert side['seconds'] == side['run_seconds'] * (side['sweeps'] / 60)
    assert 'sweeps' not in row['restarts']
  assert report['totals'].keys() == {'plain', 'restarts'}
  assert report['totals']['plain']['fits'] == 4
  assert (folder / 'summary.csv').read_text().count('rank_2,') == 2
  assert 'tnjax beside plain: fits 4' in out


def test_extrapolation_wins_in_a_swamp(finished):
  report = json.loads((finished[0] / 'report.json').read_text())
  for row in report['rows'][:2]:
    assert row['tnjax']['relative_error'] < 0.8 * row['plain']['relative_error']
    assert row['plain']['sweeps'] is None


def test_plain_sweeps_are_ours_before_they_start_ahead():
  x, start = PROBLEMS['rank_2'].tensor(3), PROBLEMS['rank_2'].start(3)
  with jax.enable_x64(True):
    ours, plain = (
      side.errors(side.run())
      for side in (cp_race.SIDES[name](x, start, 6, 2) for name in ('tnjax', 'plain'))
    )
  np.testing.assert_allclose(plain[:3], ours[:3], rtol=1e-6)
  assert abs(plain[5] / ours[5] - 1) > 1e-3


def test_plain_sweeps_are_those_of_others():
  pytest.importorskip('tensorly', reason='TensorLy is an optional peer')
  row = cp_race.race(PROBLEMS['rank_2'], 3, ('plain', 'tensorly'), 6, 1, 2)
  assert row['plain']['relative_error'] == pytest.approx(row['tensorly']['relative_error'])


@pytest.mark.parametrize('name', PROBLEMS)
def test_tensors_are_the_same_again_and_of_full_start(name):
  x, start = PROBLEMS[name].tensor(1), PROBLEMS[name].start(1)
  assert np.array_equal(x, PROBLEMS[name].tensor(1))
  assert not np.array_equal(x, PROBLEMS[name].tensor(2))
  assert [f.shape for f in start] == [(n, PROBLEMS[name].rank) for n in x.shape]
  for f in start:
    np.testing.assert_allclose(np.linalg.norm(f, axis=0), 1)


@pytest.mark.parametrize(('congruence', 'noise'), [(0.5, 0.0), (0.99, 0.1)])
def test_collinear_terms_and_noise_are_as_asked(congruence, noise):
  rng = np.random.default_rng(0)
  x = collinear(10, 5, congruence, noise)(rng)
  rng = np.random.default_rng(0)
  gram = np.full((5, 5), congruence) + (1 - congruence) * np.eye(5)
  clean = collinear(10, 5, congruence, 0.0)(rng)
  assert np.linalg.norm(x - clean) == pytest.approx(noise * np.linalg.norm(clean), abs=1e-12)
  # The squared norm of the sum of terms is the sum over the Gram matrices' product.
  assert np.linalg.norm(clean) ** 2 == pytest.approx(np.sum(gram**3))


@pytest.mark.parametrize(
  ('name', 'rank'), [('rank_2', 2), ('border_rank_2', 2), ('matrix_product_r7', 4)]
)
def test_exact_tensors_have_the_ranks_of_their_unfoldings(name, rank):
  x = PROBLEMS[name].tensor(0)
  for mode in range(3):
    matrix = np.moveaxis(x, mode, 0).reshape(x.shape[mode], -1)
    assert np.linalg.matrix_rank(matrix) == rank
