"""MPII Human Pose: the common JSON of its single people, its own .mat, or both."""

import json
import pathlib
from collections.abc import Iterator

import numpy as np

from experiments.pose.people import MPII, People, Sets, divided, sizes_of

JSON = 'mpii_annotations.json'
MAT = 'mpii_human_pose_v1_u12_1.mat'
_PLACES = ('', 'annot', 'mpii_human_pose_v1_u12_2', 'mpii_human_pose_v1_u12_1')
_VIDEOS = 8  # without the JSON, one of so many is for validation
_JOINTS = len(MPII.names)
_PERSON = {
  'img_paths': (), 'objpos': (2,), 'scale_provided': (), 'joint_self': (_JOINTS, 3),
  'isValidation': (), 'annolist_index': (), 'people_index': (),
}  # fmt: skip


def mpii(data_dir: str) -> Sets:
  """MPII's people with annotated joints, of its images for training; those for tests are hidden.

  * `mpii_annotations.json`, as repositories of pose estimation pass it on, tells people and, by
    `isValidation`, the split of Tompson et al. (22,246 and 2,958 people).
  * `mpii_human_pose_v1_u12_1.mat`, the official file, has the boxes of heads, which PCKh needs.
    Beside the JSON it gives these alone. Without it, one video of every eight validates: no split
    that results were published for. Reading it takes a minute.

  A joint is annotated if it has a place, which the occluded ones have too.

  Args:
    data_dir: folder of these files (or of `annot` or `mpii_human_pose_v1_u12_2` with them) and of
      `images`.

  Raises:
    FileNotFoundError: neither file is there, or an image is not.
    ValueError: a file is damaged, or a person in it has other joints or no number somewhere.
  """
  root = pathlib.Path(data_dir)
  table, mat = (_found(root, name) for name in (JSON, MAT))
  if table is None and mat is None:
    raise FileNotFoundError(f'--data_dir={root} has neither {JSON} nor {MAT}; it needs one of them')
  people = _official(mat) if table is None else _common(table)
  if not people:
    raise ValueError(f'--data_dir: {table or mat} has nobody with annotated joints')
  names = np.array([('images/' + person['name']).encode() for person in people])
  sizes = sizes_of(str(root), names.tolist())  # before a minute is spent on the .mat beside a JSON
  heads = None
  if mat is not None:
    known = {person['key']: person['head'] for person in (_official(mat) if table else people)}
    heads = np.array([known.get(person['key'], np.nan) for person in people], 'float32')
  return _sets(root, people, names, sizes, heads)


def _found(root: pathlib.Path, name: str) -> pathlib.Path | None:
  return next((p for folder in _PLACES if (p := root / folder / name).is_file()), None)


def _common(path: pathlib.Path) -> list[dict]:
  """People of the JSON: all of MPII, if others were merged into it."""
  try:
    found = json.loads(path.read_bytes())
  except ValueError as error:
    raise ValueError(f'--data_dir: {path} is truncated or no JSON: {error}') from None
  if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
    raise ValueError(f'--data_dir: {path} is no list of people')
  people = []
  for i, entry in enumerate(found):
    if not str(entry.get('dataset', 'MPI')).startswith('MPI'):
      continue
    facts = {name: _fact(path, i, entry, name) for name in _PERSON}
    x, y, flag = facts['joint_self'].T
    people.append(
      {
        'key': (int(facts['annolist_index']), int(facts['people_index'])),
        'name': str(entry['img_paths']),
        'middle': facts['objpos'],
        'scale': facts['scale_provided'],
        'joints': np.stack([x, y], -1),
        'annotated': (x != 0) | (y != 0) | (flag > 0),  # what is missing is spelt 0 0 0
        'visible': flag > 0,
        'validation': bool(facts['isValidation']),
      }
    )
  return people


def _fact(path: pathlib.Path, i: int, entry: dict, name: str) -> np.ndarray | str:
  if name not in entry:
    raise ValueError(f'--data_dir: person {i} of {path} has no {name!r}')
  if name == 'img_paths':
    return entry[name]
  try:
    value = np.array(entry[name], 'float64')
  except (TypeError, ValueError):
    value = np.array(np.nan)
  if value.shape != _PERSON[name] or not np.isfinite(value).all():
    kind = f'numbers of shape {_PERSON[name]}' if _PERSON[name] else 'a number'
    raise ValueError(
      f'--data_dir: {name} of person {i} of {path} has shape {value.shape} or no numbers; it needs '
      f'{kind}'
    )
  return value


def _official(path: pathlib.Path) -> list[dict]:
  """People of the .mat with annotated joints, a place and a scale."""
  import scipy.io

  try:
    release = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)['RELEASE']
    images, shown = _items(release.annolist), _items(release.img_train)
    return [
      person | {'name': str(image.image.name), 'validation': _video(image, i) % _VIDEOS == 0}
      for i, image in enumerate(images)
      if shown[i]
      for person in _annotated(image, i + 1)
    ]
  except Exception as error:  # of scipy many kinds; and a field that is missing
    raise ValueError(f'--data_dir: {path} is truncated or not MPII: {error!r}') from error


def _annotated(image: object, number: int) -> Iterator[dict]:
  for i, person in enumerate(_items(getattr(image, 'annorect', ()))):
    points = [p for a in _items(getattr(person, 'annopoints', ())) for p in _items(a.point)]
    middle, scale = (_items(getattr(person, name, ())) for name in ('objpos', 'scale'))
    if not points or not middle or not scale:
      continue
    joints, annotated = np.zeros((_JOINTS, 2)), np.zeros(_JOINTS, bool)
    visible = np.zeros(_JOINTS, bool)
    for point in points:
      if not 0 <= point.id < _JOINTS:
        raise ValueError(f'image {number} has the joint {point.id}; there are {_JOINTS}')
      joints[point.id] = point.x, point.y
      annotated[point.id] = True
      flag = _items(getattr(point, 'is_visible', ()))
      visible[point.id] = not flag or bool(int(flag[0]))  # '0', 1; the pelvis has none
    corners = [float(v) for n in ('x1', 'y1', 'x2', 'y2') for v in _items(getattr(person, n, ()))]
    box = np.array(corners if len(corners) == 4 else [np.nan] * 4)
    yield {
      'key': (number, i + 1),
      'middle': np.array([middle[0].x, middle[0].y], 'float64'),
      'scale': float(scale[0]),
      'joints': joints,
      'annotated': annotated,
      'visible': visible,
      'head': 0.6 * np.hypot(*(box[2:] - box[:2])),
    }


def _items(found: object) -> list:
  """What scipy makes one thing, an array of several or an empty array of."""
  return list(np.atleast_1d(np.asarray(found, object)).ravel())


def _video(image: object, i: int) -> int:
  """Frames of a video are alike, so that they stay together."""
  number = _items(getattr(image, 'vididx', ()))
  return int(number[0]) if number else i


def _sets(
  root: pathlib.Path,
  people: list[dict],
  names: np.ndarray,
  sizes: np.ndarray,
  heads: np.ndarray | None,
) -> Sets:
  joints, annotated, visible, middle, scale, validation = (
    np.array([person[name] for person in people])
    for name in ('joints', 'annotated', 'visible', 'middle', 'scale', 'validation')
  )
  joints = np.where(annotated[..., None], joints - 0.5, 0)  # MATLAB counts pixels from 1
  # A scale is a person's height / 200; the place is lowered and the square widened for the feet.
  boxes = np.stack([middle[:, 0], middle[:, 1] + 15 * scale, 250 * scale], -1)
  boxes[:, :2] -= 0.5
  found = People(
    MPII, joints.astype('float32'), annotated, visible & annotated, boxes.astype('float32'), heads,
    str(root), names, sizes,
  )  # fmt: skip
  return divided(found, validation, root)
