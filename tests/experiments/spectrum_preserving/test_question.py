import math

import pytest

from experiments.spectrum_preserving.question import answer, at_size
from experiments.spectrum_preserving.table import answered


def row(scheme, size, seed, method, accuracy, curve=(1.0,)):
  """Curves: fractions of the accuracy, at equal distances over 8 updates."""
  cost = {'e2e': 800, 'seq': 200}[method]
  points = [
    {'updates': 8 * (i + 1) // len(curve), 'cost': cost * (i + 1) // len(curve),
     'accuracy': accuracy * part}
    for i, part in enumerate(curve)
  ]  # fmt: skip
  return {
    'scheme': scheme, 'rate': round(size, 2), 'seed': seed, 'method': method, 'updates': 8,
    'kernel_params_ratio': size, 'accuracy': accuracy, 'cost': cost, 'curve': points,
  }  # fmt: skip


def line(scheme, seed, method, offset, **options):
  """Accuracy offset + 0.1 log10(size), at sizes that are none of those asked for."""
  return [
    row(scheme, size, seed, method, offset + 0.1 * math.log10(size), **options)
    for size in (0.021, 0.06, 0.11, 0.23)
  ]


def test_accuracies_are_compared_at_equal_size_of_the_same_seed():
  rows = []
  for seed, shift in ((0, 0.0), (1, 0.02)):
    for scheme, offset in (('svd', 0.80), ('cp', 0.90), ('r_cp', 0.91), ('r_tt', 0.95)):
      rows += line(scheme, seed, 'e2e', offset + shift)
  found = answer(rows)['at_equal_size']
  assert [entry['size'] for entry in found] == [0.05, 0.1, 0.2]
  for entry in found:
    at = 0.1 * math.log10(entry['size'])
    assert entry['schemes']['svd']['mean'] == pytest.approx(0.81 + at)
    assert entry['schemes']['svd']['std'] == pytest.approx(0.02 / math.sqrt(2))
    assert entry['plain']['mean'] == pytest.approx(0.86 + at)
    assert entry['reshaped']['mean'] == pytest.approx(0.94 + at)
    assert entry['gain']['mean'] == pytest.approx(0.08)
    assert entry['gain']['std'] == pytest.approx(0.0, abs=1e-12)  # the shift is in both
    assert entry['gain']['seeds'] == 2


def test_nothing_is_said_beyond_the_sizes_there_are():
  rows = line('svd', 0, 'e2e', 0.9) + line('r_cp', 0, 'e2e', 0.9)[1:]  # from 0.06 on
  small, middle, _ = answer(rows)['at_equal_size']
  assert small['schemes']['r_cp'] is small['reshaped'] is small['gain'] is None
  assert small['plain'] is not None
  assert middle['gain']['mean'] == pytest.approx(0.0)
  rows += line('r_cp', 1, 'e2e', 0.9)  # a seed with one scheme alone
  assert answer(rows)['at_equal_size'][1]['gain'] is None


def test_equal_sizes_count_as_their_mean_and_one_near_size_as_itself():
  value = {'value': lambda row: row['accuracy']}
  rows = [row('svd', 0.1, 0, 'e2e', x) for x in (0.4, 0.6)]
  assert at_size(rows, 0.1, **value) == pytest.approx(0.5)
  assert at_size(rows, 0.12, **value) == pytest.approx(0.5)
  assert at_size(rows, 0.2, **value) is None
  assert at_size([], 0.1, **value) is None


def test_convergence_is_read_off_the_curves():
  fast, slow = (0.5, 0.9, 1.0, 1.0), (0.1, 0.2, 0.5, 1.0)
  rows = line('svd', 0, 'e2e', 0.9, curve=slow) + line('svd', 0, 'seq', 0.9, curve=fast)
  found = {(e['method'], e['fraction']): e for e in answer(rows)['convergence']}
  whole = found['e2e', 1.0]['plain']['mean']
  for i, fraction in enumerate((0.25, 0.5, 0.75, 1.0)):
    for method, curve in (('e2e', slow), ('seq', fast)):
      assert found[method, fraction]['plain']['mean'] == pytest.approx(curve[i] * whole)
    assert found['e2e', fraction]['cost'] == pytest.approx(fraction)
    assert found['seq', fraction]['cost'] == pytest.approx(fraction / 4)
    assert found['seq', fraction]['reshaped'] is None


def test_the_answer_is_printed():
  text = answered({'question': answer(line('svd', 0, 'e2e', 0.9) + line('r_cp', 0, 'e2e', 0.95))})
  assert '5.00%' in text
  assert answered({'question': answer([])})
