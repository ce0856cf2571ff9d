import csv
import json

import pytest

from experiments.common import plots, results


def test_a_failed_write_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.json'
  results.write_json(path, {'a': 1})
  with pytest.raises(ValueError, match='JSON'):
    results.write_json(path, {'a': float('nan')})
  assert json.loads(path.read_text()) == {'a': 1}
  assert [p.name for p in tmp_path.iterdir()] == ['a.json']


def test_csv_has_the_same_rows(tmp_path):
  rows = [{'scheme': 'tk', 'ranks': {'a/b': [1, 2]}, 'rate': 0.1}]
  results.write_csv(tmp_path / 'a.csv', rows)
  with (tmp_path / 'a.csv').open() as file:
    (row,) = csv.DictReader(file)
  assert row == {'scheme': 'tk', 'ranks': '{"a/b": [1, 2]}', 'rate': '0.1'}


def test_workdir_is_new_resumed_or_refused(tmp_path):
  config = {'rates': (0.1, 0.2), 'seed': 0}
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / '.config.partial.json').write_text('killed while writing')
  with (
    results.open_workdir(str(tmp_path / 'run'), config) as folder,
    pytest.raises(ValueError, match='in use'),
    results.open_workdir(str(folder), config),
  ):
    pass
  with results.open_workdir(str(folder), config) as again:
    assert again == folder
  with pytest.raises(ValueError, match='seed=0; this run has 1'):
    results.check_workdir(str(folder), config | {'seed': 1})
  (tmp_path / 'mine.txt').write_text('precious')
  with pytest.raises(ValueError, match='holds no results'):
    results.check_workdir(str(tmp_path), config)
  for content in (b'{', b'[]', b'\xff\xfe'):
    (folder / 'config.json').write_bytes(content)
    with pytest.raises(ValueError, match=r'config.json is damaged'):
      results.check_workdir(str(folder), config)


def test_plot_is_an_image(tmp_path):
  row = {'scheme': 'tk', 'kernel_params_ratio': 0.1}
  row |= {'accuracy_decomposed': 0.1, 'accuracy_finetuned': 0.9}
  path = tmp_path / 'p.png'
  plots.accuracy_vs_compression(path, [row, row | {'kernel_params_ratio': 0.4}], 0.95, 'title')
  assert path.read_bytes().startswith(b'\x89PNG')
