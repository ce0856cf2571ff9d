"""The paper's preprocessing, as the first thing a network does to images in [0, 1]."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from experiments.common.data import Split


class Preparation(NamedTuple):
  """What is done to images in [0, 1].

  Attributes:
    mean: subtracted; of the shape of one image.
    scale: multiplied with what is left.
    contrast: each image is then centred and brought to this standard deviation (global contrast
      normalisation); None for not.
    whiten: (entries, entries), applied to flat images at the end; None for not.
  """

  mean: np.ndarray
  scale: np.ndarray
  contrast: float | None = None
  whiten: np.ndarray | None = None


class Prepared(nnx.Module):
  """A network behind fixed preprocessing; its arrays are variables, but no parameters.

  Args:
    net: called as net(images, train, **more).
    preparation: what is done to its images.
  """

  def __init__(self, net: nnx.Module, preparation: Preparation):
    self.net = net
    mean, scale, self.contrast, whiten = preparation
    self.mean, self.scale = (nnx.Variable(jnp.asarray(a, 'float32')) for a in (mean, scale))
    self.whiten = nnx.data(None if whiten is None else nnx.Variable(jnp.asarray(whiten, 'float32')))

  def __call__(self, images: Array, train: bool = False, **more: object) -> Array:
    """What the network makes of images (batch, height, width, channels) in [0, 1]."""
    x = (images - self.mean[...][None]) * self.scale[...][None]
    if self.contrast is not None:
      x = normalised(x, self.contrast)
    if self.whiten is not None:
      x = (x.reshape(len(x), -1) @ self.whiten[...]).reshape(x.shape)
    return self.net(x, train, **more)


def centred(split: Split, white: float) -> Preparation:
  """The mean image is subtracted, no more."""
  mean = split.images.mean(0) / white
  return Preparation(mean, np.ones_like(mean))


def standardised(split: Split, white: float) -> Preparation:
  """Every entry gets mean 0 and standard deviation 1 over the images."""
  mean = split.images.mean(0) / white
  squares = np.square(split.images, dtype='uint16').mean(0) / white**2  # 255^2 just fits
  std = np.sqrt(np.maximum(squares - mean**2, 0))
  return Preparation(mean, 1 / np.maximum(std, 1e-6))


def whitening(split: Split, white: float) -> Preparation:
  """MatConvNet's preprocessing of CIFAR-10, with which the paper was made.

  Mean image subtracted, global contrast normalisation, ZCA whitening, in grey levels 0..255; then,
  which is ours, divided by the images' mean deviation, as our initial weights expect.
  """
  mean = split.images.mean(0)
  x = split.images.reshape(len(split), -1) - mean.ravel().astype('float32')
  contrast = float(x.std(1, ddof=1).mean())
  x = np.asarray(normalised(x, contrast))
  values, vectors = _spectrum(x)
  even = np.sqrt(values.sum() / x.shape[1])
  rest = even / 10  # in directions that no image has
  shrink = even / np.maximum(np.sqrt(values), 10)
  whiten = (vectors * (shrink - rest)) @ vectors.T + rest * np.eye(x.shape[1], dtype='float32')
  scale = np.full_like(mean, white)
  return Preparation(mean / white, scale, contrast, whiten / contrast)


def normalised(images: Array, contrast: float) -> Array:
  """Images with mean 0 and, of those that had more than 40 grey levels of it, one deviation.

  >>> x = normalised(jnp.arange(12.0).reshape(1, 2, 2, 3) * 90, 50.0)
  >>> bool(jnp.allclose(x.std(ddof=1), 50.0)), bool(abs(x.mean()) < 1e-3)
  (True, True)
  """
  axes = tuple(range(1, images.ndim))
  x = images - images.mean(axes, keepdims=True)
  return x * (contrast / jnp.maximum(x.std(axes, keepdims=True, ddof=1), 40.0))


def _spectrum(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Eigenvalues of x^T x / n that may differ from 0, and their vectors as columns."""
  if len(x) < x.shape[1]:  # many times as fast
    _, s, vh = np.linalg.svd(x, full_matrices=False)
    return s**2 / len(x), vh.T
  values, vectors = np.linalg.eigh(x.T @ x / len(x))
  return np.maximum(values, 0), vectors
