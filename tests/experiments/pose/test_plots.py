"""Pictures: written whole, with the limbs on the sides they belong to."""

import numpy as np
from PIL import Image

from experiments.pose.people import LSP
from experiments.pose.plots import curves, skeletons


def test_right_limbs_are_red_and_left_ones_blue(tmp_path):
  joints = np.zeros((1, 14, 2))
  joints[0, :2] = [[10, 10], [10, 50]]  # right ankle and knee
  joints[0, 4:6] = [[50, 50], [50, 10]]
  shown = np.zeros((1, 14), bool)
  shown[0, [0, 1, 4, 5]] = True
  image = np.ones((1, 64, 64, 3))
  skeletons(tmp_path / 'a.png', image, LSP, {'truth': joints, 'ours': joints}, [shown, None], 'a')
  with Image.open(tmp_path / 'a.png') as picture:
    pixels = np.asarray(picture.convert('RGB')).astype(int)
  top = pixels[: len(pixels) // 2]
  red = np.argwhere((top[..., 0] > 180) & (top[..., 2] < 90))[:, 1]
  blue = np.argwhere((top[..., 2] > 140) & (top[..., 0] < 90))[:, 1]
  assert 0 < red.max() < blue.min()


def test_curves_are_written(tmp_path):
  thresholds = np.linspace(0, 0.5, 6)
  lines = {'mean pose': thresholds, 'network': thresholds * 2}
  curves(tmp_path / 'b.png', thresholds, lines, 'torso', 0.2, 'figures')
  with Image.open(tmp_path / 'b.png') as image:
    assert image.size == (720, 480)
