"""What augmentation does to pixels it does to joints; and heatmaps have their peaks there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pose.augment import Augmentation, augment, heatmaps, inside, middle
from experiments.pose.people import LSP

SIZE, SIDE, COUNT = 64, 80, 16
NONE = Augmentation(rotation=0.0, scale=0.0, colour=0.0)
_augment = jax.jit(augment, static_argnums=(4, 5, 6))


def spots():
  """Crops with a bright spot at the left shoulder, and joints, in pixels of the crop."""
  joints = np.random.default_rng(0).uniform(16, 48, (COUNT, 14, 2)).astype('float32')
  place = np.arange(SIDE) + 0.5
  canvases = []
  for x, y in joints[:, 9] + (SIDE - SIZE) / 2:
    spot = np.exp(-((place - x) ** 2 + (place[:, None] - y) ** 2) / 8)
    canvases.append(np.rint(255 * spot)[..., None].repeat(3, -1))
  return np.array(canvases, 'uint8'), joints


def run(canvases, joints, settings, seed=0, annotated=None):
  annotated = np.ones(joints.shape[:2], bool) if annotated is None else annotated
  key = jax.random.key(seed)
  return map(np.asarray, _augment(canvases, joints, annotated, key, SIZE, LSP.mirror, settings))


def test_joints_move_with_the_pixels():
  canvases, joints = spots()
  crops, moved, counted = run(canvases, joints, Augmentation(25.0, 0.25, 0.0))
  assert counted.mean() > 0.9
  place = np.arange(SIZE) + 0.5
  mirrored = 0
  for crop, old, new in zip(crops[..., 0], joints, moved):
    spot = np.array([crop.sum(0) @ place, crop.sum(1) @ place]) / crop.sum()
    flipped = bool(np.linalg.norm(new[8] - spot) < np.linalg.norm(new[9] - spot))
    mirrored += flipped  # the left shoulder is then called the right one
    same = new[list(LSP.mirror)] if flipped else new
    np.testing.assert_allclose(same[9], spot, atol=0.15)
    matrix, rest, *_ = np.linalg.lstsq(np.c_[old, np.ones(14)], same)
    assert rest.max() < 1e-5  # an affine map,
    scale = np.linalg.svd(matrix[:2], compute_uv=False)
    assert 1 / 1.25 - 1e-3 < scale[1] <= scale[0] < 1 / 0.75 + 1e-3
    assert scale[0] - scale[1] < 1e-4  # which turns and scales,
    assert (np.linalg.det(matrix[:2]) < 0) == flipped  # and mirrors
  assert 3 < mirrored < COUNT - 3


def test_none_of_it_is_the_middle_or_its_mirror_image():
  canvases = np.random.default_rng(0).integers(0, 256, (COUNT, SIDE, SIDE, 3), 'uint8')
  joints = np.random.default_rng(1).uniform(0, 64, (COUNT, 14, 2)).astype('float32')
  annotated = np.random.default_rng(2).random((COUNT, 14)) < 0.7
  crops, moved, counted = run(canvases, joints, NONE, annotated=annotated)
  plain = np.asarray(middle(canvases, SIZE))
  mirror = list(LSP.mirror)
  flips = 0
  for i in range(COUNT):
    flips += (flipped := np.abs(crops[i] - plain[i]).max() > 0.1)
    image = plain[i, :, ::-1] if flipped else plain[i]
    places = joints[i, mirror] * [-1, 1] + [64, 0] if flipped else joints[i]
    np.testing.assert_allclose(crops[i], image, atol=1e-4)
    np.testing.assert_allclose(moved[i], places, atol=1e-4)
    np.testing.assert_array_equal(counted[i], annotated[i, mirror] if flipped else annotated[i])
  assert 3 < flips < COUNT - 3


def test_a_key_gives_the_same_again_and_settings_bound_it():
  canvases = np.full((COUNT, SIDE, SIDE, 3), 128, 'uint8')
  joints = np.full((COUNT, 14, 2), 32, 'float32')
  joints[:, 0] = 32, 12  # 20 above the middle
  first, again, other = (list(run(canvases, joints, Augmentation(), seed)) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first[0], again[0])
  assert (first[1] != other[1]).any()
  ankles = np.stack([first[1], other[1]])[:, :, [0, 5]] - 32  # one of both, by side
  off = ankles.sum(2).reshape(-1, 2)  # the other one is in the middle
  degrees = np.rad2deg(np.arctan2(off[:, 0], -off[:, 1]))
  lengths = 20 / np.linalg.norm(off, axis=-1)
  assert 15 < np.abs(degrees).max() <= 25.01
  assert degrees.min() < -5 < 5 < degrees.max()
  assert 0.749 <= lengths.min() < 0.9 < 1.1 < lengths.max() <= 1.251
  colours = first[0][:, 32, 32] / (128 / 255)
  assert 0.799 <= colours.min() < 0.9 < 1.1 < colours.max() <= 1.201
  assert np.ptp(colours, axis=1).min() > 0  # each channel has its own


def test_joints_outside_do_not_count():
  joints = np.tile(np.float32([[[0, 0], [-0.1, 5], [5, 64], [63.9, 63.9]]]), (1, 1, 1))
  assert inside(joints, 64).tolist() == [[True, False, False, True]]
  many = np.full((COUNT, 14, 2), 32, 'float32')
  many[:, 12] = 32, 70
  _, _, counted = run(np.zeros((COUNT, SIDE, SIDE, 3), 'uint8'), many, NONE)
  assert (counted.sum(1) == 13).all()
  assert not counted[:, 12].any()


@pytest.mark.parametrize('sigma', [1.0, 2.0])
def test_heatmaps_are_gaussians_about_the_joints(sigma):
  joints = np.random.default_rng(0).uniform(0, 64, (2, 3, 2)).astype('float32')
  maps = heatmaps(jnp.array(joints), 64, 16, sigma)
  assert maps.shape == (2, 16, 16, 3)
  place = np.arange(16) + 0.5
  for n in range(2):
    for j in range(3):
      x, y = joints[n, j] / 4
      wanted = np.exp(-((place - x) ** 2 + (place[:, None] - y) ** 2) / (2 * sigma**2))
      np.testing.assert_allclose(maps[n, ..., j], wanted, atol=1e-6)
