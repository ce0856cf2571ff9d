"""Stick figures, for where there is no data: people drawn by a program, with exact joints."""

import numpy as np
from PIL import Image, ImageDraw

from experiments.pose.crops import Crops, Kept
from experiments.pose.geometry import room, to_crop
from experiments.pose.people import LSP, People, around

NOTE = 'rendered stick figures, no photographs: what is learnt of them says little about people'
_FINE = 2  # pixels drawn for one that is kept
_UNIT = 60.0  # pixels of a torso
_LIMBS = {  # joint: from which, how long, its mean angle and spread in degrees, outwards from down
  'elbow': ('shoulder', 0.55, 30, 55),
  'wrist': ('elbow', 0.5, 20, 60),
  'knee': ('hip', 0.8, 12, 30),
  'ankle': ('knee', 0.8, 0, 30),
}


def figures(train: int, validation: int, size: int, seed: int) -> Crops:
  """Crops of stick figures in front of noise and stray lines, all of whom face the viewer.

  Args:
    train, validation: how many.
    size: rows and columns of a crop, a multiple of 8.
    seed: of everything.
  """
  rng = np.random.default_rng(seed)
  joints = skeletons(train + validation, rng)
  every = np.ones(joints.shape[:2], bool)
  names = np.array([f'figure {i}'.encode() for i in range(len(joints))])
  boxes, sizes = around(joints, every), np.zeros(len(joints), 'int64')
  people = People(LSP, joints, every, every, boxes, None, '', names, sizes)
  side = room(size)
  places = to_crop(boxes, joints, size) + (side - size) / 2
  canvases = np.stack([drawn(place, side, rng) for place in places])
  parts = np.split(np.arange(len(joints)), [train])
  return Crops(
    *(Kept(canvases[p], np.arange(len(p), dtype='int32'), people.part(p)) for p in parts), size
  )


def skeletons(count: int, rng: np.random.Generator) -> np.ndarray:
  """Joints in the order of `people.LSP`, in pixels, (count, 14, 2)."""
  width = rng.uniform(0.6, 1.0, count)  # of one who turns away a little
  top = rng.normal(0, 0.06, count), -rng.uniform(0.45, 0.55, count)
  place = {'neck': np.zeros((count, 2)), 'head top': np.stack(top, -1)}
  for side, sign in (('right', -1), ('left', 1)):  # the right one is on the left of the image
    for joint, out, down in (('shoulder', 0.32, 0.08), ('hip', 0.2, 1.0)):
      place[f'{side} {joint}'] = np.stack([sign * out * width, np.full(count, down)], -1)
    angle = {}
    for joint, (start, length, mean, spread) in _LIMBS.items():
      turned = np.deg2rad(rng.normal(mean, spread, count))
      angle[joint] = angle.get(start, 0) + turned
      step = np.stack([sign * np.sin(angle[joint]), np.cos(angle[joint])], -1)
      length = length * rng.uniform(0.8, 1.0, (count, 1))
      place[f'{side} {joint}'] = place[f'{side} {start}'] + length * step
  joints = np.stack([place[name] for name in LSP.names], 1)
  lean = np.deg2rad(rng.normal(0, 20, count))
  turn = np.stack([np.cos(lean), np.sin(lean), -np.sin(lean), np.cos(lean)], -1).reshape(-1, 2, 2)
  return (_UNIT * np.einsum('nkj,nji->nki', joints, turn) + 4 * _UNIT).astype('float32')


def drawn(joints: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
  """A picture of a figure, uint8 (side, side, 3).

  Args:
    joints: x and y in its pixels, (14, 2).
    side: its rows and columns.
    rng: of background and colours.
  """
  fine, cells = side * _FINE, int(rng.integers(2, 9))
  image = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), 'uint8'))
  image = image.resize((fine, fine), Image.Resampling.BICUBIC)
  draw = ImageDraw.Draw(image)
  for _ in range(3):  # limbs of nobody
    ends = tuple(rng.uniform(0, fine, 4))
    draw.line(ends, _colour(rng), int(rng.integers(2, 6)) * _FINE)
  at = {name: joint * _FINE for name, joint in zip(LSP.names, joints)}
  long = np.linalg.norm(at['left hip'] - at['right shoulder'])
  skin, shirt, trousers = (_colour(rng) for _ in range(3))

  def limb(names: tuple[str, ...], colour: tuple, width: float) -> None:
    points = [tuple(at[name].tolist()) for name in names]
    draw.line(points, colour, max(1, round(width * long)), joint='curve')
    for x, y in points:
      draw.circle((x, y), width * long / 2, colour)

  for side_name in ('right', 'left'):
    limb(tuple(f'{side_name} {joint}' for joint in ('hip', 'knee', 'ankle')), trousers, 0.16)
  corners = ('right shoulder', 'left shoulder', 'left hip', 'right hip')
  draw.polygon([tuple(at[name].tolist()) for name in corners], shirt)
  limb(('neck', 'head top'), skin, 0.1)
  for side_name in ('right', 'left'):
    limb(tuple(f'{side_name} {joint}' for joint in ('shoulder', 'elbow')), shirt, 0.13)
    limb(tuple(f'{side_name} {joint}' for joint in ('elbow', 'wrist')), skin, 0.1)
  _head(draw, at['neck'], at['head top'], skin)
  small = np.asarray(image.reduce(_FINE))
  grain = rng.integers(-15, 16, (side, side, 1), 'int16')
  return np.clip(small + grain, 0, 255).astype('uint8')


def _head(draw: ImageDraw.ImageDraw, neck: np.ndarray, top: np.ndarray, colour: tuple) -> None:
  """With two eyes, as all look at the viewer."""
  up = top - neck
  middle, radius = neck + 0.62 * up, 0.38 * float(np.linalg.norm(up))
  draw.circle(tuple(middle.tolist()), radius, colour)
  across = np.array([-up[1], up[0]])
  for sign in (-1, 1):
    eye = middle + 0.13 * sign * across + 0.05 * up
    draw.circle(tuple(eye.tolist()), 0.17 * radius, (0, 0, 0))


def _colour(rng: np.random.Generator) -> tuple[int, ...]:
  return tuple(rng.integers(0, 256, 3).tolist())
