"""Crops that are turned, scaled, mirrored and coloured on the device; and heatmaps of joints."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.ndimage import map_coordinates


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """How far augmentation goes, either way and uniformly; and every other person is mirrored.

  Attributes:
    rotation: in degrees.
    scale: of the square that is shown, as a fraction.
    colour: of the brightness of each channel, as a fraction.
  """

  rotation: float = 25.0
  scale: float = 0.25
  colour: float = 0.2


def middle(canvases: Array, size: int) -> Array:
  """Crops as they are measured: the middle of canvases uint8 (n, c, c, 3), in [0, 1].

  >>> middle(jnp.full((2, 80, 80, 3), 255, 'uint8'), 64).shape
  (2, 64, 64, 3)
  """
  start = (canvases.shape[1] - size) // 2
  found = canvases[:, start : start + size, start : start + size]
  return found.astype(jnp.float32) / 255


def augment(
  canvases: Array,
  joints: Array,
  annotated: Array,
  key: Array,
  size: int,
  mirror: tuple[int, ...],
  settings: Augmentation,
) -> tuple[Array, Array, Array]:
  """Crops of canvases about their middles, turned, scaled and mirrored (which swaps left and right
  joints), bilinear, black outside; then coloured.

  Args:
    canvases: uint8 (n, c, c, 3).
    joints: x and y in pixels of the crop that `middle` gives, (n, J, 2).
    annotated: which joints have a place, bool (n, J).
    key: a typed key.
    size: of the crops.
    mirror: see `people.Layout.mirror`.
    settings: how far.

  Returns:
    Crops in [0, 1], (n, size, size, 3); the joints in their pixels, (n, J, 2); and which of them
    count, bool (n, J): those that are annotated, and still inside.
  """
  n = len(canvases)
  turn, grow, flip, paint = jax.random.split(key, 4)
  angle = jnp.deg2rad(settings.rotation) * jax.random.uniform(turn, (n,), minval=-1)
  scale = 1 + settings.scale * jax.random.uniform(grow, (n,), minval=-1)
  mirrored = jax.random.bernoulli(flip, 0.5, (n,))
  shown = _shown(angle, scale, mirrored)
  crops = jax.vmap(lambda *one: _warped(*one, size))(canvases, shown)
  factor = 1 + settings.colour * jax.random.uniform(paint, (n, 1, 1, 3), minval=-1)
  back = shown / (scale**2)[:, None, None]  # its transpose is the inverse
  moved = jnp.einsum('nji,nkj->nki', back, joints - size / 2, precision='highest') + size / 2
  other = np.array(mirror)
  moved = jnp.where(mirrored[:, None, None], moved[:, other], moved)
  counted = jnp.where(mirrored[:, None], annotated[:, other], annotated)
  return jnp.clip(crops * factor, 0, 1), moved, counted & inside(moved, size)


def heatmaps(joints: Array, size: int, resolution: int, sigma: float = 1.0) -> Array:
  """Gaussians, each with its peak of 1 at the joint itself, not at the nearest pixel, so that
  small maps tell the place within a pixel too.

  Args:
    joints: in pixels of a crop, (..., J, 2).
    size: of the crop.
    resolution: of the maps.
    sigma: in pixels of the maps.

  Returns:
    (..., resolution, resolution, J).

  >>> maps = heatmaps(jnp.array([[10.0, 6.0]]), size=64, resolution=16)[..., 0]
  >>> float(maps[1, 2])  # the middle of this pixel is (2.5, 1.5), which is the joint in the map
  1.0
  """
  places = (jnp.arange(resolution) + 0.5).reshape((1,) * joints.ndim + (-1,))
  bells = jnp.exp(-((places - (joints * (resolution / size))[..., None]) ** 2) / (2 * sigma**2))
  x, y = jnp.moveaxis(bells, -2, 0)  # each (..., J, resolution)
  return jnp.moveaxis(y[..., :, None] * x[..., None, :], -3, -1)


def inside(joints: Array, size: int) -> Array:
  """Which joints (..., J, 2) lie in a crop, bool (..., J)."""
  return ((joints >= 0) & (joints < size)).all(-1)


def _shown(angle: Array, scale: Array, mirrored: Array) -> Array:
  """Matrices (n, 2, 2) that take places in crops to places on canvases, both from the middle."""
  cos, sin = scale * jnp.cos(angle), scale * jnp.sin(angle)
  side = jnp.where(mirrored, -1.0, 1.0)
  return jnp.stack([jnp.stack([side * cos, -sin], -1), jnp.stack([side * sin, cos], -1)], -2)


def _warped(canvas: Array, matrix: Array, size: int) -> Array:
  """A crop (size, size, 3) in [0, 1]."""
  places = jnp.arange(size) + 0.5 - size / 2
  x, y = places[None, :], places[:, None]
  origin = canvas.shape[0] / 2 - 0.5
  rows = matrix[1, 0] * x + matrix[1, 1] * y + origin
  columns = matrix[0, 0] * x + matrix[0, 1] * y + origin
  take = jax.vmap(lambda channel: map_coordinates(channel, [rows, columns], order=1), 2, 2)
  return take(canvas.astype(jnp.float32) / 255)
