import json

import pytest

from experiments.common import grid
from experiments.common.progress import Progress

ABOUT = {'command': 'a', 'versions': {}, 'device': 'cpu', 'git': {'commit': 'c', 'clean': True}}


def run(folder, settings, row, about=ABOUT):
  """Runs a grid, with the settings it computed."""
  study = grid.Grid(settings, folder, about, {'baseline': None})
  seen = []
  with Progress() as progress:
    study.run(row, progress, lambda r: seen.append({k: r[k] for k in settings[0]}))
  return study, seen


def product(rates, seeds):
  return [{'rate': r, 'seed': s} for s in seeds for r in rates]


def test_rows_are_saved_as_they_finish_and_the_rest_is_run_later(tmp_path):
  settings = product((0.1, 0.2), (0, 1))

  def row(rate, seed):
    if (rate, seed) == (0.1, 1):
      raise KeyboardInterrupt
    return {'value': rate + seed}

  with pytest.raises(KeyboardInterrupt):
    run(tmp_path, settings, row)
  saved = json.loads((tmp_path / 'report.json').read_text())
  assert [r['value'] for r in saved['rows']] == [0.1, 0.2]
  study, seen = run(tmp_path, settings, lambda rate, seed: {'value': -1})
  assert seen == settings[2:]
  assert [r['value'] for r in study.rows] == [0.1, 0.2, -1, -1]
  assert not study.pending()


def test_a_finished_grid_grows_and_a_part_of_it_keeps_the_rest(tmp_path):
  run(tmp_path, product((0.1, 0.2), (0,)), lambda **_: {'value': 1})
  wide = product((0.1, 0.2, 0.4), (0, 3))
  study, seen = run(tmp_path, wide, lambda **_: {'value': 2})
  assert seen == [s for s in wide if s not in product((0.1, 0.2), (0,))]
  study, seen = run(tmp_path, product((0.4,), (3,)), lambda **_: {'value': 3})
  assert not seen
  assert len(study.rows) == 6


def test_a_report_remembers_how_its_earlier_rows_were_made(tmp_path):
  settings = product((0.1,), (0,))
  for commit in ('c', 'c', 'd', 'd'):
    about = ABOUT | {'git': {'commit': commit, 'clean': True}}
    study, _ = run(tmp_path, settings, lambda **_: {}, about)
    study.report['baseline'] = commit
    study.write()
  saved = json.loads((tmp_path / 'report.json').read_text())
  assert saved['git']['commit'] == 'd'
  assert saved['earlier'] == [ABOUT]
  assert saved['baseline'] == 'd'
  assert saved['memory']['process_bytes'] > 2**20


def test_a_damaged_report_is_named(tmp_path):
  for content in ('{', '[]', '{"rows": 3}', '{"rows": [3]}', '{"rows": []}'):
    (tmp_path / 'report.json').write_text(content)
    with pytest.raises(ValueError, match='report.json is damaged'):
      grid.Grid(product((0.1,), (0,)), tmp_path, ABOUT, {'baseline': None})


def test_other_versions_are_refused(tmp_path):
  settings = product((0.1,), (0,))
  about = ABOUT | {'versions': {'jax': '0.10.1', 'numpy': '2.4'}}
  run(tmp_path, settings, lambda **_: {}, about)
  before = (tmp_path / 'report.json').read_text()
  for versions, words in (
    ({'jax': '0.10.2', 'numpy': '2.4'}, 'made with jax 0.10.1; this is 0.10.2'),
    ({'jax': '0.10.1', 'numpy': '2.4', 'flax': '1'}, 'made with flax None; this is 1'),
    ({'jax': '0.10.1'}, 'damaged'),
  ):
    with pytest.raises(ValueError, match=words):
      run(tmp_path, settings, lambda **_: {}, about | {'versions': versions})
  assert (tmp_path / 'report.json').read_text() == before
  run(tmp_path, settings, lambda **_: {}, about)


def test_rows_that_lack_a_newer_entry_have_no_mean_of_it():
  rows = [{'rate': 0.1, 'seed': 0, 'loss': 1.0}, {'rate': 0.1, 'seed': 1, 'loss': 3.0, 'new': 1.0}]
  assert grid.summarised(rows[::-1], ['rate']) == grid.summarised(rows, ['rate'])
  assert 'new' not in grid.summarised(rows, ['rate'])[0]


def test_one_seed_is_left_as_it_is_and_several_have_mean_and_spread():
  rows = [
    {'rate': r, 'seed': s, 'size': 10, 'accuracy': a, 'path': f'{r}_{s}', 'ranks': {'a': [r]}}
    for r, s, a in ((0.1, 0, 0.5), (0.2, 0, 0.9), (0.1, 1, 0.7))
  ]
  assert grid.summarised(rows[:2], ('rate',)) == rows[:2]
  first, second = grid.summarised(rows, ('rate',))
  assert first.keys() == second.keys()
  assert (first['seeds'], second['seeds']) == (2, 1)
  assert first['accuracy'] == pytest.approx(0.6)
  assert first['accuracy_std'] == pytest.approx(0.02**0.5)
  assert (second['accuracy'], second['accuracy_std']) == (0.9, 0.0)
  assert (first['size'], first['ranks']) == (10, {'a': [0.1]})
  assert 'path' not in first
