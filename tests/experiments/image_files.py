"""JPEGs in the layout of ImageNet, of all the kinds that it has, one of them damaged."""

import importlib.util

import numpy as np
import pytest
from PIL import Image

CLASSES = ('n01', 'n02', 'n03')
DAMAGED = 'train/n02/n02_3.JPEG'
needs_grain = pytest.mark.skipif(
  importlib.util.find_spec('grain') is None, reason='grain is not installed'
)


def write(root, train=8, val=4):
  """Class folders of noise in blocks; every class has a grey, a CMYK and a palette image."""
  rng = np.random.default_rng(0)
  for part, count in (('train', train), ('val', val)):
    for name in CLASSES:
      folder = root / part / name
      folder.mkdir(parents=True)
      for i in range(count):
        height, width = rng.integers(20, 40, 2)
        noise = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), 'uint8')
        image = Image.fromarray(noise.repeat(4, 0).repeat(4, 1))
        kind = ('L', 'CMYK', 'P')[i] if i < 3 else 'RGB'
        image.convert(kind).save(folder / f'{name}_{i}.{"png" if kind == "P" else "JPEG"}')
  damaged = root / DAMAGED
  content = damaged.read_bytes()
  damaged.write_bytes(content[: len(content) // 2])
  return root
