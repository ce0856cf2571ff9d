"""Leeds Sports Pose, and Leeds Sports Pose Extended, in their official layouts."""

import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.pose.people import LSP, People, Sets, around, divided, sizes_of

_FOLDERS = {'lsp': ('lsp', 'lsp_dataset'), 'lspet': ('lspet', 'lspet_dataset')}
_JOINTS = len(LSP.names)


def lsp(data_dir: str) -> Sets:
  """Leeds Sports Pose: 2,000 people, the first half for training, as its authors have it.

  `joints.mat` has x, y and whether it is occluded, (3, 14, people); occluded joints have places
  too, which are trained and measured as in published results. Images are `images/im0001.jpg`, ...

  Args:
    data_dir: the folder of `joints.mat` and `images`, or one that holds it as `lsp` or
      `lsp_dataset`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: `joints.mat` is damaged or of another shape.
  """
  folder = _folder(data_dir, 'lsp')
  x, y, occluded = _matrix(folder, (3, _JOINTS), 'LSP').transpose(0, 2, 1)
  annotated = np.ones(x.shape, bool)
  return _sets(folder, 'im{:04d}.jpg', (x, y), annotated, occluded == 0, len(x) // 2)


def lspet(data_dir: str) -> Sets:
  """Leeds Sports Pose Extended: 10,000 people. It has no official split; the first nine tenths are
  for training.

  `joints.mat` has x, y and whether it is visible, (14, 3, people); what is not has no place.
  Images are `images/im00001.jpg`, ...

  Args:
    data_dir: the folder of `joints.mat` and `images`, or one that holds it as `lspet` or
      `lspet_dataset`.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: `joints.mat` is damaged or of another shape.
  """
  folder = _folder(data_dir, 'lspet')
  x, y, flag = _matrix(folder, (_JOINTS, 3), 'LSP Extended').transpose(1, 2, 0)
  visible = flag > 0
  return _sets(folder, 'im{:05d}.jpg', (x, y), visible, visible, len(x) * 9 // 10)


def _folder(data_dir: str, kind: str) -> pathlib.Path:
  root = pathlib.Path(data_dir)
  for folder in (root, *(root / name for name in _FOLDERS[kind])):
    if (folder / 'joints.mat').is_file():
      return folder
  raise FileNotFoundError(
    f'--data_dir={data_dir} has no joints.mat, nor has {" or ".join(_FOLDERS[kind])} in it; it '
    'needs joints.mat and images/'
  )


def _matrix(folder: pathlib.Path, shape: tuple[int, int], name: str) -> np.ndarray:
  """The matrix `joints` of so many rows and columns, and people."""
  import scipy.io

  path = folder / 'joints.mat'
  try:
    found = np.asarray(scipy.io.loadmat(path)['joints'], 'float32')
  except Exception as error:  # scipy raises kinds of many sorts
    raise ValueError(f'--data_dir: {path} is truncated or has no joints: {error!r}') from error
  if found.ndim != 3 or found.shape[:2] != shape or not found.shape[2]:
    raise ValueError(
      f'--data_dir: {path} has joints {found.shape}; {name} needs ({shape[0]}, {shape[1]}, people)'
    )
  return found


def _sets(
  folder: pathlib.Path,
  pattern: str,
  places: Sequence[np.ndarray],
  annotated: np.ndarray,
  visible: np.ndarray,
  count: int,
) -> Sets:
  """The first `count` people for training."""
  joints = np.stack(places, -1) - 0.5  # the authors count pixels from 1
  joints = np.where(annotated[..., None], joints, 0).astype('float32')
  if not np.isfinite(joints).all():
    person = np.flatnonzero(~np.isfinite(joints).all((1, 2)))[0]
    raise ValueError(f'--data_dir: {folder / "joints.mat"} has no number in person {person + 1}')
  boxes = around(joints, annotated)
  names = np.array([b'images/' + pattern.format(i + 1).encode() for i in range(len(joints))])
  sizes = sizes_of(str(folder), names.tolist())
  people = People(LSP, joints, annotated, visible, boxes, None, str(folder), names, sizes)
  return divided(people, np.arange(len(people)) >= count, folder / 'joints.mat')
