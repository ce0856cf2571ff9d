import csv
import json
import subprocess

import numpy as np
import pytest

from experiments.common import plots, results


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.json'
  results.write_json(path, {'a': 1})
  with pytest.raises(ValueError, match='JSON'):
    results.write_json(path, {'a': float('nan')})
  assert json.loads(path.read_text()) == {'a': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_a_full_disk_names_the_file(tmp_path):
  path = tmp_path / 'a.npz'
  with (
    pytest.raises(OSError, match="No space left on device: '.*a.npz'"),
    results.atomic(path),
    open('/dev/full', 'wb', buffering=0) as full,
  ):
    full.write(b'a')


def test_csv_has_the_same_rows(tmp_path):
  rows = [{'scheme': 'tk', 'ranks': {'a/b': [1, 2]}, 'rate': 0.1}]
  results.write_csv(tmp_path / 'a.csv', rows)
  with (tmp_path / 'a.csv').open() as file:
    (row,) = csv.DictReader(file)
  assert row == {'scheme': 'tk', 'ranks': '{"a/b": [1, 2]}', 'rate': '0.1'}


def test_git_tells_commit_and_state_or_that_it_knows_neither(tmp_path, monkeypatch):
  def git(*words):
    words = ('git', '-C', tmp_path, '-c', 'user.name=a', '-c', 'user.email=b', *words)
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

  unknown = {'commit': 'unknown', 'clean': 'unknown'}
  path = tmp_path / 'code.py'
  path.write_text('1')
  monkeypatch.setattr(results, '__file__', str(path))
  assert results.git() == unknown
  git('init')
  assert results.git() == unknown  # inside a repository, but not of it
  git('add', '.')
  git('commit', '-m', 'first')
  assert results.git() == {'commit': git('rev-parse', 'HEAD'), 'clean': True}
  path.write_text('2')
  assert results.git()['clean'] is False


def test_fingerprint_tells_values_shape_and_type():
  a = np.arange(6, dtype='int32')
  others = [a[::-1], a.reshape(2, 3), a.view('float32'), a[:5]]
  found = {results.fingerprint(x) for x in (a, *others)}
  assert len(found) == 5
  assert results.fingerprint(a.copy()) in found


@pytest.mark.parametrize('baseline', [None, 0.95])
def test_plots_are_images(tmp_path, baseline):
  row = {'scheme': 'tk', 'kernel_params_ratio': 0.1, 'accuracy_finetuned_std': 0.1}
  row |= {'accuracy_decomposed': 0.1, 'accuracy_finetuned': 0.9}
  rows = [row, row | {'kernel_params_ratio': 0.4}] if baseline else []
  plots.accuracy_vs_compression(tmp_path / 'p.png', rows, baseline, 'title')
  lines = [{'phase': p, 'step': s, 'loss': x} for p in 'ab' for s, x in enumerate((2.0, 1.0, None))]
  plots.curves(tmp_path / 'c.png', lines if baseline else [], 'loss')
  for path in tmp_path.iterdir():
    assert path.read_bytes().startswith(b'\x89PNG')
