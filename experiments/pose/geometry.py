"""Places in images, in crops, and in the canvases that crops are cut from."""

import numpy as np


def room(size: int) -> int:
  """Side of the canvas that a crop of `size` is cut from. The quarter more is what the largest
  scale shows; of corners that are turned in, something stays black.

  Raises:
    ValueError: `size` is no multiple of 8; a crop would not be whole pixels of its canvas.
  """
  if size < 8 or size % 8:
    raise ValueError(f'--size={size} must be a multiple of 8')
  return size * 5 // 4


def windows(boxes: np.ndarray) -> np.ndarray:
  """What canvases show of images: left, top, right and bottom in whole pixels, int32 (n, 4).

  >>> windows(np.array([[50.0, 40.0, 16.0]]))  # 16 pixels in a crop are 20 on its canvas
  array([[40, 30, 60, 50]], dtype=int32)
  """
  half = np.maximum(1, np.rint(boxes[:, 2:] * 5 / 8))
  return np.concatenate([np.rint(boxes[:, :2]) + s * half for s in (-1, 1)], 1).astype('int32')


def to_crop(boxes: np.ndarray, joints: np.ndarray, size: int) -> np.ndarray:
  """Places in images as places in crops, both in pixels.

  Args:
    boxes: see `people.People`.
    joints: (n, J, 2).
    size: of a crop.

  Returns:
    float32 (n, J, 2).

  >>> box, joints = np.array([[50.0, 40.0, 16.0]]), np.array([[[50.0, 36.0]]])
  >>> to_crop(box, joints, 64)
  array([[[32., 16.]]], dtype=float32)
  >>> to_image(box, to_crop(box, joints, 64), 64)
  array([[[50., 36.]]], dtype=float32)
  """
  start, scale = _scales(boxes, size)
  return ((joints - start) * scale).astype('float32')


def to_image(boxes: np.ndarray, joints: np.ndarray, size: int) -> np.ndarray:
  """Places in crops as places in images; the inverse of `to_crop`."""
  start, scale = _scales(boxes, size)
  return (joints / scale + start).astype('float32')


def _scales(boxes: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
  """Where crops begin in images (n, 1, 2), and their pixels a pixel of the image (n, 1, 1)."""
  found = windows(boxes).astype('float64')
  whole = (found[:, 2:] - found[:, :2])[:, :1]
  start = found[:, :2] + whole * (room(size) - size) / 2 / room(size)
  return start[:, None], (room(size) / whole)[:, None]
