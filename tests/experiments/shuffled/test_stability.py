"""What rows say of the claims, on rows whose answer is known."""

import pytest

from experiments.shuffled import stability, table


def row(entries, ratio, accuracy, seed=0, format='tt', mode='scratch', block=0):
  about = {'dataset': 'digits', 'block': block, 'format': format, 'entries': entries}
  about |= {'ratio': ratio, 'mode': mode, 'seed': seed, 'realised_ratio': 1.1 * ratio}
  return about | {'accuracy': accuracy}


ROWS = [
  row('td', 1.0, 0.97, format='dense') | {'realised_ratio': 1.0},
  *(row('td', ratio, a, seed) for ratio, pair in ((2.0, (0.9, 0.96)), (10.0, (0.5, 0.54)))
    for seed, a in enumerate(pair)),
  *(row('rstd', ratio, a, seed) for ratio, pair in ((2.0, (0.96, 0.96)), (10.0, (0.9, 0.92)))
    for seed, a in enumerate(pair)),
  row('rstd', 10.0, 0.1, block=8),
  row('td', 10.0, 0.4, block=8),
]  # fmt: skip


def test_both_measures():
  found = {one['entries']: one for one in stability.stability(ROWS)}
  assert set(found) == {'td', 'rstd'}  # the dense network has one ratio
  td, rstd = found['td'], found['rstd']
  root = 2**0.5  # of two values the deviation is their distance over it
  assert td['seed_std'] == pytest.approx((0.06 + 0.04) / root / 2)
  assert td['ratio_range'] == pytest.approx(0.93 - 0.52)
  assert td['lowest'] == pytest.approx(0.52)
  assert rstd['seed_std'] == pytest.approx(0.02 / root / 2)
  assert rstd['ratio_range'] == pytest.approx(0.05)
  assert (td['ratios'], td['seeds']) == (2, 2)


def test_claims():
  found = stability.claims(ROWS)
  (one,) = found['survives']
  assert (one['dense'], one['ratio'], one['accuracy']) == (0.97, pytest.approx(2.2), 0.96)
  assert [c['rstd_smaller_in'] for c in found['steadier']] == [1, 1]
  assert {c['measure'] for c in found['steadier']} == set(stability.MEASURES)
  text = '\n'.join(table.claimed(found))
  assert 'digits, scratch, tt: up to 2.2x, 96.00% (dense 97.00%)' in text
  assert 'TD 41.00%, RsTD 5.00%; RsTD smaller in 1 of 1 formats' in text
  poor = stability.claims([ROWS[0], *(r | {'accuracy': 0.1} for r in ROWS[1:])])
  assert poor['survives'][0]['ratio'] is None
  assert 'at no ratio' in '\n'.join(table.claimed(poor))


def test_gaps_are_paired_by_seed():
  augmented, permuted = stability.gaps(ROWS, 'tt', 10.0)
  assert (augmented['block'], augmented['seeds']) == (0, 2)
  assert augmented['gap'] == pytest.approx(-0.39)
  assert augmented['gap_std'] == pytest.approx((0.4 - 0.38) / 2**0.5)
  assert (permuted['block'], permuted['gap']) == (8, pytest.approx(0.3))
  assert not stability.gaps(ROWS, 'cp', 10.0)


def test_nothing_is_claimed_of_nothing():
  assert stability.claims([]) == {'survives': [], 'steadier': []}
  assert '\n'.join(table.claimed(stability.claims([]))).count('no rows to tell from') == 2
