"""Differences of accuracy, and the interval of the images they may have been measured on."""

import numpy as np
import pytest

from experiments.pose import compare

SCORED = np.array([True, True, False])


def marks(rng, share, count=400):
  counted = rng.random((count, 3)) < 0.9
  return counted & (rng.random((count, 3)) < share), counted


def test_the_difference_is_that_of_the_means_over_joints_and_seeds():
  rng = np.random.default_rng(0)
  one, other = ([marks(rng, share) for _ in range(2)] for share in (0.8, 0.5))
  found = compare.difference(one, other, SCORED)
  by_hand = [
    np.mean([[right[:, j].sum() / counted[:, j].sum() for j in (0, 1)] for right, counted in side])
    for side in (one, other)
  ]
  assert found['difference'] == pytest.approx(by_hand[0] - by_hand[1])
  assert 0.2 < found['low'] < found['difference'] < found['high'] < 0.4
  back = compare.difference(other, one, SCORED)
  assert back['low'] == pytest.approx(-found['high'])


def test_what_is_right_on_the_same_images_is_surely_equal():
  right, counted = marks(np.random.default_rng(0), 0.5)
  found = compare.difference([(right, counted)], [(right, counted)], SCORED)
  assert found == {'difference': 0.0, 'low': 0.0, 'high': 0.0}


def test_the_interval_is_that_of_a_mean():
  """One joint, independent images: its width is that of the normal approximation."""
  rng = np.random.default_rng(1)
  every = np.ones((1000, 1), bool)
  right = rng.random((1000, 1)) < 0.5
  found = compare.difference([(right, every)], [(~every, every)], every[0])
  assert found['high'] - found['low'] == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.08)


def test_pairs_are_of_equal_ratio():
  rows = [
    {'method': m, 'value': v}
    for v, methods in ((2, ('tucker', 'mps', 'trimmed', 'layerwise')), (4, ('tucker', 'trimmed')))
    for m in methods
  ]
  assert compare.pairs(rows) == [
    (2, 'tucker', 'layerwise'), (2, 'tucker', 'trimmed'), (2, 'mps', 'layerwise'),
    (2, 'mps', 'trimmed'), (4, 'tucker', 'trimmed'),
  ]  # fmt: skip
  assert compare.pairs([{'method': 'trimmed', 'value': 2}]) == []
