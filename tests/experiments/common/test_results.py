import csv
import json
import subprocess

import numpy as np
import pytest
from matplotlib.text import Text

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


NAMES = ('svd', 'cp', 'tk', 'tt', 'tr', 'r_cp', 'r_tk', 'r_tt', 'shuffled')


def study(rates, finetuned=True):
  """Nine lines that end close to each other, and one size that none shares."""
  rows = [
    {'scheme': name, 'kernel_params_ratio': rate * (1 + i / 50), 'accuracy_decomposed': 0.1 + rate}
    for i, name in enumerate(NAMES)
    for rate in rates
  ]
  for i, row in enumerate(rows):
    row['accuracy_finetuned'] = 0.97 + 0.001 * (i % 7) if finetuned else None
  return rows


def drawn(monkeypatch, plot, *args):
  """The figure that a function of `plots` would save, and all its texts with their places."""
  found = []
  monkeypatch.setattr(plots, 'save', lambda figure, path: found.append(figure))
  plot(None, *args)
  (figure,) = found
  figure.canvas.draw()
  texts = [figure._suptitle] if figure._suptitle else []
  for axes in figure.axes:
    assert axes.get_legend() is None
    for axis in (axes.xaxis, axes.yaxis):
      low, high = sorted(axis.get_view_interval())
      ticks = axis.get_major_ticks() + axis.get_minor_ticks()
      texts += [t.label1 for t in ticks if low <= t.get_loc() <= high]
    texts += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
  shown = [t for t in texts if t.get_text() and t.get_visible()]
  return figure, [(t.get_text(), Text.get_window_extent(t)) for t in shown]  # without arrows


@pytest.mark.parametrize('rates', [(0.05, 0.1, 0.2, 0.4), (0.01, 0.5), (0.07,), (0.11, 0.13)])
def test_no_text_of_a_plot_covers_another_or_leaves_the_picture(monkeypatch, rates):
  figure, texts = drawn(
    monkeypatch, plots.accuracy_vs_compression, study(rates), 0.98, 'resnet8 on digits'
  )
  names = [text for text, _ in texts]
  assert all(names.count(name) == 2 for name in NAMES)
  assert sum(text.endswith('%') for text in names) >= 4
  check_places(figure, texts)


def test_curves_are_named_at_their_ends(monkeypatch):
  lines = [{'phase': p, 'step': s, 'loss': 1 / (1 + s)} for p in NAMES for s in range(3)]
  figure, texts = drawn(monkeypatch, plots.curves, lines, 'loss')
  assert {text for text, _ in texts} >= set(NAMES)
  check_places(figure, texts)


def check_places(figure, texts):
  for i, (text, box) in enumerate(texts):
    assert figure.bbox.padded(1).containsx(box.x0), text
    assert figure.bbox.padded(1).containsx(box.x1), text
    covered = [other for other, place in texts[:i] if place.overlaps(box)]
    assert not covered, f'{text} and {covered}'
  plots.pyplot().close(figure)


def test_without_fine_tuning_there_is_no_line_of_it(monkeypatch):
  figure, texts = drawn(
    monkeypatch, plots.accuracy_vs_compression, study((0.1, 0.2), False), 0.98, 'title'
  )
  assert len(figure.axes) == 1
  assert 'fine-tuned' not in [text for text, _ in texts]
  assert len(figure.axes[0].containers) == len(NAMES)
  plots.pyplot().close(figure)
