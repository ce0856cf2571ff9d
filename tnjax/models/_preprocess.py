"""What every network for images does with its input."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def checked(images: Array, channels: int) -> Array:
  """The images.

  Raises:
    ValueError: no floats (batch, height, width, channels).
  """
  if not (jnp.issubdtype(images.dtype, jnp.floating) and images.ndim == 4):
    raise ValueError(
      f'images is {images.dtype}{images.shape}; it needs floats in [0, 1], '
      '(batch, height, width, channels)'
    )
  if images.shape[-1] != channels:
    raise ValueError(f'images has shape {images.shape}; it needs {channels} channels, the last')
  return images


def statistics(mean: Sequence[float], std: Sequence[float]) -> dict[str, tuple[float, ...]]:
  """Both as tuples of floats, by name.

  Raises:
    ValueError: of other lengths, of none, or a deviation that cannot be divided by.

  >>> statistics([0.5], [0.25])
  {'mean': (0.5,), 'std': (0.25,)}
  """
  found = {'mean': tuple(map(float, mean)), 'std': tuple(map(float, std))}
  if not found['mean'] or len(found['mean']) != len(found['std']):
    raise ValueError(f'mean={mean} and std={std} must have an entry each for every channel')
  if not all(0 < deviation < math.inf for deviation in found['std']):
    raise ValueError(f'std={std} must be positive and finite')
  return found


def normalised(images: Array, mean: Sequence[float], std: Sequence[float]) -> Array:
  """Per channel, the mean subtracted and divided by the deviation."""
  shape = (1,) * (images.ndim - 1) + (-1,)
  mean, std = (jnp.asarray(v, images.dtype).reshape(shape) for v in (mean, std))
  return (images - mean) / std
