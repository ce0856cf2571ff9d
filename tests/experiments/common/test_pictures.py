"""Files as arrays: the transforms, and every kind of image."""

import numpy as np
import pytest
from PIL import Image

from experiments.common import pictures

BILINEAR = Image.Resampling.BILINEAR


def noise(height, width, channels=3):
  return np.random.default_rng(0).integers(0, 256, (height, width, channels), 'uint8')


@pytest.mark.parametrize(
  ('width', 'height', 'resized', 'left', 'top'),
  [
    (500, 375, (341, 256), 58, 16),  # 58.5, to the even one, as torchvision
    (375, 500, (256, 341), 16, 58),
    (300, 200, (384, 256), 80, 16),
    (100, 100, (256, 256), 16, 16),
  ],
)
def test_evaluation_is_as_for_the_published_accuracies(tmp_path, width, height, resized, left, top):
  image = Image.fromarray(noise(height, width))
  image.save(tmp_path / 'a.png')
  found = pictures.evaluated((str(tmp_path / 'a.png'), 7), 224)
  wanted = np.asarray(image.resize(resized, BILINEAR))[top : top + 224, left : left + 224]
  np.testing.assert_array_equal(found.pixels, wanted)
  assert (found.label, found.failure) == (7, '')


def test_training_takes_a_box_and_mirrors_half_of_them(tmp_path):
  image = Image.fromarray(noise(40, 60))
  image.save(tmp_path / 'a.png')
  mirrored = 0
  for seed in range(40):
    rng = np.random.default_rng(seed)
    box = pictures.random_box(60, 40, rng)
    plain = np.asarray(image.crop(box).resize((16, 16), BILINEAR))
    mirrored += (flip := rng.random() < 0.5)
    found = pictures.augmented((str(tmp_path / 'a.png'), 0), np.random.default_rng(seed), 16)
    np.testing.assert_array_equal(found.pixels, plain[:, ::-1] if flip else plain)
  assert 10 < mirrored < 30


def test_boxes_have_the_areas_and_shapes_they_should():
  rng = np.random.default_rng(0)
  boxes = np.array([pictures.random_box(500, 400, rng) for _ in range(2000)])
  widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
  assert boxes.min() >= 0
  assert boxes[:, 2].max() <= 500
  assert boxes[:, 3].max() <= 400
  areas, ratios = widths * heights / 200_000, np.log(widths / heights)
  assert 0.078 < areas.min() < 0.1
  assert areas.max() > 0.9
  assert areas.mean() == pytest.approx(0.5, abs=0.05)  # uniform, but for the largest
  assert np.abs(ratios).max() <= np.log(4 / 3) + 0.02
  assert ratios.std() == pytest.approx(np.log(4 / 3) / 3**0.5, rel=0.1)
  assert pictures.random_box(1000, 30, rng) == (480, 0, 520, 30)  # nothing fits
  assert pictures.random_box(30, 1000, rng) == (0, 480, 30, 520)


@pytest.mark.parametrize('mode', ['L', '1', 'CMYK', 'P', 'RGBA', 'LA', 'I;16'])
def test_every_kind_of_image_becomes_rgb(tmp_path, mode):
  levels = np.full((16, 16, 3), 128 if mode != '1' else 255, 'uint8')
  image = Image.fromarray(levels)
  image = (
    Image.fromarray(levels[..., 0].astype('uint16')) if mode == 'I;16' else image.convert(mode)
  )
  assert image.mode == mode
  if mode == 'P':
    image.info['transparency'] = bytes(range(256))
  image.save(path := tmp_path / f'a.{"jpeg" if mode in ("L", "CMYK") else "png"}')
  found = pictures.evaluated((str(path), 0), 8)
  assert found.failure == ''
  assert (found.pixels.shape, found.pixels.dtype) == ((8, 8, 3), np.uint8)
  assert np.abs(found.pixels.astype(int) - levels[0, 0]).max() <= 8


def test_what_holds_no_image_is_told_and_what_is_gone_is_raised(tmp_path):
  Image.fromarray(noise(32, 32)).save(path := tmp_path / 'a.jpg')
  whole = path.read_bytes()
  for content in (b'', b'text', whole[:20], whole[: len(whole) // 2]):
    path.write_bytes(content)
    found = pictures.evaluated((str(path), 3), 8)
    assert found.pixels is None
    assert found.failure
    assert found.path == str(path)
  path.unlink()
  with pytest.raises(FileNotFoundError, match=r'a\.jpg'):
    pictures.evaluated((str(path), 3), 8)


def test_a_batch_keeps_its_shape_whatever_could_be_read():
  def picture(label):
    return pictures.Picture(f'{label}', label, np.full((4, 4, 3), label, 'uint8'), '')

  broken = pictures.Picture('b', 9, None, 'cut')
  found = pictures.collected([broken, picture(1), picture(2)], 4, 4)
  assert found['labels'].tolist() == [-1, 1, 2, -1]
  assert found['images'][:, 0, 0, 0].tolist() == [1, 1, 2, 1]
  assert found['skipped'] == (('b', 'cut'),)
  found = pictures.collected([broken] * 2, 3, 4)
  assert found['labels'].tolist() == [-1] * 3
  assert found['images'].shape == (3, 4, 4, 3)
