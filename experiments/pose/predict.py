"""Draws the skeleton that a trained hourglass finds on an image of yours.

    python -m experiments.pose.predict IMAGE --weights=FILE [--box=X,Y,SIDE] [--output=PICTURE]

FILE is one that `experiments.pose.main` saved under weights/, dense or compressed. The network
looks at one square, in which the person should take four fifths of the height: without --box that
is the whole image. Prints every joint with its place in pixels of the image, and how sure the
network is (the height of its peak, 1 for a clear one).
"""

import math
import pathlib
from collections.abc import Sequence

import numpy as np
from absl import app, flags, logging
from flax import nnx
from PIL import Image, ImageOps

import tnjax as tn
from experiments.common import job
from experiments.pose import crops, plots
from experiments.pose.config import LAYOUTS
from experiments.pose.geometry import room, to_image, windows
from experiments.pose.people import Layout
from experiments.pose.seeded import notes, predictor


def load(path: str) -> tuple[nnx.Module, Layout, int]:
  """A network that `main` saved, its joints, and the size of the crops that it is shown.

  Raises:
    FileNotFoundError, ValueError: no such file, damaged, or not of such a network.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'--weights={path} does not exist or is a folder')
  noted = notes(path)
  try:
    model = tn.load(path)
  except ValueError as error:
    raise ValueError(f'--weights: {error}') from None
  return model, LAYOUTS[noted['dataset']], noted['size']


def read(path: str) -> Image.Image:
  """An image file in RGB, turned as its camera says.

  Raises:
    FileNotFoundError, ValueError: no such file, or no whole image.
  """
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'{path} does not exist or is a folder')
  try:
    with Image.open(path) as image:
      return ImageOps.exif_transpose(image).convert('RGB')
  except Exception as error:  # each format raises kinds of its own
    raise ValueError(f'{path} holds no whole image: {error}') from None


def box_of(text: Sequence[str] | None, image: Image.Image) -> np.ndarray:
  """The square that is looked at, see `people.People.boxes`, (1, 3).

  Raises:
    ValueError: not three numbers, the side above 0; it is far larger than the image, or shows
      nothing of it.
  """
  width, height = image.size
  if text is None:
    return np.array([[width / 2, height / 2, max(width, height)]])
  try:
    x, y, side = map(float, text)
  except ValueError:
    x = y = side = math.nan
  if not all(map(math.isfinite, (x, y, side))) or side <= 0:
    raise ValueError(f'--box={",".join(text)} must be X,Y,SIDE: its middle and side in pixels')
  if side > 8 * max(width, height):
    raise ValueError(
      f'--box={",".join(text)} is larger than 8 times an image of {width} x {height}: name the '
      'square about the person'
    )
  if not (-side / 2 < x < width + side / 2 and -side / 2 < y < height + side / 2):
    raise ValueError(f'--box={",".join(text)} shows nothing of an image of {width} x {height}')
  return np.array([[x, y, side]])


def predict(
  model: nnx.Module, image: Image.Image, box: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
  """Joints in pixels of the image (J, 2), and the peaks of their heatmaps (J,).

  Args:
    model: an hourglass.
    image: RGB.
    box: see `box_of`.
    size: of the crops that the network knows.
  """
  canvas = crops.canvas(image, windows(box)[0], room(size))
  joints, peaks = predictor(model, size)(np.asarray(canvas)[None])
  return to_image(box, np.asarray(joints), size)[0], np.asarray(peaks)[0]


def main(argv: Sequence[str], weights: str, box: Sequence[str] | None, output: str | None) -> None:
  """Prints the joints, and writes the picture."""
  logging.set_verbosity(logging.ERROR)  # jax tells which back ends it does not find
  with job.one_line(ValueError, OSError, Image.DecompressionBombError):
    if len(argv) != 2:
      raise ValueError(f'give one image, not {len(argv) - 1}; --help says how')
    path = pathlib.Path(output or f'{pathlib.Path(argv[1]).stem}_pose.png')
    if path.exists() and path.samefile(argv[1]):
      raise ValueError(f'--output={path} is the image itself, which would be lost')
    image = read(argv[1])
    square = box_of(box, image)
    model, layout, size = load(weights)
    joints, peaks = predict(model, image, square, size)
    for name, (x, y), peak in zip(layout.names, joints, peaks):
      print(f'{name:>14} {x:7.1f} {y:7.1f} {peak:6.2f}')
    plots.person(path, np.asarray(image), layout, joints)
    print(f'wrote {path}')


if __name__ == '__main__':
  file = flags.DEFINE_string('weights', None, 'A network that experiments.pose.main saved.')
  square = flags.DEFINE_list('box', None, 'X,Y,SIDE: the square to look at, in pixels.')
  to = flags.DEFINE_string('output', None, 'Picture to write; default IMAGE_pose.png, here.')
  flags.mark_flag_as_required('weights')
  app.run(lambda argv: main(argv, file.value, square.value, to.value))
