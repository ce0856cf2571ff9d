"""Differences of accuracy, and the interval of the images they may have been measured on."""

import numpy as np
import pytest

from experiments.pose import compare

SCORED = np.array([True, True, False])
ALONE = np.arange(400)  # everybody in an image of their own


def marks(rng, share, count=400):
  counted = rng.random((count, 3)) < 0.9
  return counted & (rng.random((count, 3)) < share), counted


def test_the_difference_is_that_of_the_means_over_joints_and_seeds():
  rng = np.random.default_rng(0)
  one, other = ([marks(rng, share) for _ in range(2)] for share in (0.8, 0.5))
  found = compare.difference(one, other, SCORED, ALONE)
  by_hand = [
    [np.mean([right[:, j].sum() / counted[:, j].sum() for j in (0, 1)]) for right, counted in side]
    for side in (one, other)
  ]
  assert found['by_seed'] == pytest.approx(np.subtract(*by_hand))
  assert found['difference'] == pytest.approx(np.subtract(*by_hand).mean())
  assert 0.2 < found['low'] < found['difference'] < found['high'] < 0.4
  back = compare.difference(other, one, SCORED, ALONE)
  assert back['low'] == pytest.approx(-found['high'])


def test_what_is_right_on_the_same_images_is_surely_equal():
  right, counted = marks(np.random.default_rng(0), 0.5)
  found = compare.difference([(right, counted)], [(right, counted)], SCORED, ALONE)
  assert found == {'difference': 0.0, 'low': 0.0, 'high': 0.0, 'by_seed': [0.0]}


def test_the_interval_is_that_of_a_mean():
  """One joint, independent images: its width is that of the normal approximation."""
  rng = np.random.default_rng(1)
  every = np.ones((1000, 1), bool)
  right = rng.random((1000, 1)) < 0.5
  found = compare.difference([(right, every)], [(~every, every)], every[0], np.arange(1000))
  assert found['high'] - found['low'] == pytest.approx(2 * 1.96 * 0.5 / 1000**0.5, rel=0.08)


def test_images_are_drawn_with_all_who_are_in_them():
  """Four who are always alike in an image tell as much as one."""
  rng = np.random.default_rng(1)
  every = np.ones((1000, 1), bool)
  right = np.repeat(rng.random((250, 1)) < 0.5, 4, 0)
  images = np.repeat([f'{i}.jpg'.encode() for i in range(250)], 4)
  found = compare.difference([(right, every)], [(~every, every)], every[0], images)
  assert found['high'] - found['low'] == pytest.approx(2 * 1.96 * 0.5 / 250**0.5, rel=0.08)


def test_pairs_are_with_the_control_and_of_equal_size():
  sizes = {2.0: ('tucker', 'mps', 'trimmed', 'layerwise'), 4.0: ('tucker', 'trimmed')}
  control = ('methods', 'dense', 1)
  keys = [control, *(('methods', m, v) for v, methods in sizes.items() for m in methods)]
  keys += [('modes', 'dense', 1), ('modes', 'depth', 2), ('modes', 'kernel', 2)]
  found = compare.pairs(keys)
  assert [one for one, other in found if other == control] == keys[1:7]
  assert [(one[1], other) for one, other in found if other == keys[7]] == [
    ('depth', keys[7]), ('kernel', keys[7]),
  ]  # fmt: skip
  assert [(*one[1:], other[1]) for one, other in found if 'dense' not in other] == [
    ('tucker', 2, 'layerwise'), ('tucker', 2, 'trimmed'), ('mps', 2, 'layerwise'),
    ('mps', 2, 'trimmed'), ('tucker', 4, 'trimmed'),
  ]  # fmt: skip
  assert all(one[2] == other[2] for one, other in found if 'dense' not in other)
  assert compare.pairs([('methods', 'trimmed', 2.0)]) == []
