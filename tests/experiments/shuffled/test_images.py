"""Permuted images: the same pixels, moved within blocks, in every image alike."""

import numpy as np
import pytest

from experiments.common import data
from experiments.shuffled import images

DIGITS = data.digits(0)


def test_block_zero_is_the_data_set_and_block_one_lacks_only_augmentation():
  assert images.permuted(DIGITS, 0, 3) is DIGITS
  plain = images.permuted(DIGITS, 1, 3)
  np.testing.assert_array_equal(plain.train.images, DIGITS.train.images)
  assert (plain.crop, plain.flip, DIGITS.crop) == (0, False, 1)


@pytest.mark.parametrize('block', [2, 4, 8])
def test_pixels_move_within_their_block_the_same_way_in_all_images(block):
  moved = images.permuted(DIGITS, block, 0)
  index = images.pixel_index(8, 8, block, 0)
  for name in ('train', 'validation', 'test'):
    old, new = getattr(DIGITS, name), getattr(moved, name)
    np.testing.assert_array_equal(new.labels, old.labels)
    np.testing.assert_array_equal(new.images.reshape(-1, 64), old.images.reshape(-1, 64)[:, index])

  def blocks(x):
    parts = x.reshape(8 // block, block, 8 // block, block).transpose(0, 2, 1, 3)
    return np.sort(parts.reshape(-1, block**2))

  np.testing.assert_array_equal(blocks(index), blocks(np.arange(64)))
  assert not np.array_equal(index, images.pixel_index(8, 8, block, 1))


def test_neighbours_are_less_alike_the_larger_the_blocks():
  found = [images.similarity(images.permuted(DIGITS, b, 0).train.images) for b in (1, 2, 4, 8)]
  assert found == sorted(found, reverse=True)
  assert found[0] > 0.5
  assert abs(found[-1]) < 0.15


def test_similarity_is_the_correlation_of_neighbours():
  x = np.random.default_rng(0).integers(0, 9, (50, 6, 7, 2))
  y = x - x.mean()
  pairs = (y[:, 1:] * y[:, :-1]).mean(), (y[:, :, 1:] * y[:, :, :-1]).mean()
  assert images.similarity(x) == pytest.approx(sum(pairs) / 2 / x.var())
  assert images.similarity(np.full((2, 4, 4, 1), 3)) == 0
