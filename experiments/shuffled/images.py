"""Images whose pixels are permuted within blocks: a graded loss of spatial similarity."""

import dataclasses

import numpy as np

from experiments.common.data import Dataset, Split

_MANY = 5000  # images, from which a correlation is known well enough


def permuted(dataset: Dataset, block: int, seed: int) -> Dataset:
  """The data set with one fixed permutation of the pixels, the same in every image.

  Args:
    dataset: any.
    block: side of the blocks within which pixels move. 1 leaves them in place. Neither has
      augmentation, which would shift permuted images as no natural image is. 0: the data set as it
      is, augmented.
    seed: of the permutation; every block has its own.
  """
  if block == 0:
    return dataset
  height, width, _ = dataset.image_shape
  index = pixel_index(height, width, block, seed)
  splits = {
    name: Split(_moved(split.images, index), split.labels)
    for name in ('train', 'validation', 'test')
    for split in [getattr(dataset, name)]
  }
  return dataclasses.replace(dataset, **splits, crop=0, flip=False)


def first(dataset: Dataset, count: int) -> Dataset:
  """The data set with its first `count` images for training."""
  train = dataset.train
  return dataclasses.replace(dataset, train=Split(train.images[:count], train.labels[:count]))


def pixel_index(height: int, width: int, block: int, seed: int) -> np.ndarray:
  """Where every pixel of a permuted image, row by row, comes from.

  >>> pixel_index(2, 4, 1, 0).tolist()
  [0, 1, 2, 3, 4, 5, 6, 7]
  >>> index = pixel_index(2, 4, 2, 0)
  >>> sorted(index.reshape(2, 4)[:, 2:].ravel().tolist())  # from within the block
  [2, 3, 6, 7]
  """
  places = np.arange(height * width).reshape(height // block, block, width // block, block)
  blocks = places.transpose(0, 2, 1, 3).reshape(-1, block * block)
  moved = np.random.default_rng((seed, block)).permuted(blocks, axis=1)
  moved = moved.reshape(height // block, width // block, block, block)
  return moved.transpose(0, 2, 1, 3).reshape(-1)


def similarity(images: np.ndarray) -> float:
  """Correlation of pixels that are neighbours, in a row or in a column, over images (n, h, w, c).

  >>> similarity(np.array([[0, 0, 9, 9]] * 4)[None, ..., None]) > 0.5
  True
  """
  x = images[:_MANY].astype('float64')
  x -= x.mean()
  pairs = np.mean(x[:, 1:] * x[:, :-1]), np.mean(x[:, :, 1:] * x[:, :, :-1])
  return float(np.mean(pairs) / (np.mean(x**2) or 1.0))


def _moved(images: np.ndarray, index: np.ndarray) -> np.ndarray:
  n, height, width, channels = images.shape
  return images.reshape(n, -1, channels)[:, index].reshape(n, height, width, channels)
