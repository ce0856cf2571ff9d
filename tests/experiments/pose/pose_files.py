"""Small data sets in the layouts of LSP, LSP Extended and MPII."""

import json

import numpy as np
import scipy.io
from PIL import Image


def image(path, width=60, height=40):
  """A JPEG that is red at the left, green at the right, and blue in its lower half."""
  pixels = np.zeros((height, width, 3), 'uint8')
  pixels[:, : width // 2, 0] = pixels[:, width // 2 :, 1] = pixels[height // 2 :, :, 2] = 200
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, quality=95)


def places(count, joints=14, seed=0):
  """x and y, counted from 1, of people in the middle of images of 60 x 40 pixels."""
  return np.random.default_rng(seed).uniform([15, 8], [45, 32], (count, joints, 2))


def lspet(root, count=20):
  """Whoever is person 2 has no joint, person 3 one, and the others lack joint 0."""
  joints = places(count)
  flags = np.ones((count, 14))
  flags[:, 0] = flags[2] = flags[3, 1:] = 0
  flags[3, 0] = 1
  joints[flags == 0] = -99.0
  matrix = np.concatenate([joints, flags[..., None]], -1).transpose(1, 2, 0)
  root.mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(root / 'joints.mat', {'joints': matrix})
  for i in range(count):
    image(root / f'images/im{i + 1:05d}.jpg')
  return joints, flags > 0


def lsp(root, count=10):
  """Joint 4 of everybody is occluded."""
  joints = places(count)
  occluded = np.zeros((count, 14))
  occluded[:, 4] = 1
  matrix = np.concatenate([joints, occluded[..., None]], -1).transpose(2, 1, 0)
  root.mkdir(parents=True, exist_ok=True)
  scipy.io.savemat(root / 'joints.mat', {'joints': matrix})
  for i in range(count):
    image(root / f'images/im{i + 1:04d}.jpg')
  return joints


def mpii_person(i, joints, **changes):
  """An entry of the JSON: of two an image. Joint 1 lacks, joint 3 is occluded."""
  flags = np.ones(16)
  flags[[1, 3]] = 0
  joints = np.where(np.arange(16)[:, None] == 1, 0, joints)
  entry = {
    'dataset': 'MPI', 'isValidation': float(i >= 6), 'img_paths': f'{1 + i // 2:09d}.jpg',
    'objpos': [30.0, 20.0], 'scale_provided': 0.1, 'annolist_index': 1.0 + i // 2,
    'people_index': 1.0 + i % 2, 'joint_self': np.c_[joints, flags].tolist(),
  }  # fmt: skip
  return entry | changes


def mpii(root, count=8, common=True, official=True):
  """Two people an image; the .mat has an image without people and a hidden one besides."""
  joints = places(count, 16)
  for i in range(-(-count // 2)):
    image(root / f'images/{1 + i:09d}.jpg')
  if common:
    people = [mpii_person(i, one) for i, one in enumerate(joints)]
    (root / 'mpii_annotations.json').write_text(json.dumps(people))
  if official:
    write_mat(root, joints)
  return joints


def _structs(fields):
  """A MATLAB array of structs of a list of dicts that have the same keys."""
  array = np.empty((1, len(fields)), [(name, object) for name in fields[0]])
  for i, one in enumerate(fields):
    array[0, i] = tuple(one.values())
  return array


def write_mat(root, joints):
  """RELEASE as MPII has it: structs of structs, empty where there is nothing."""
  empty = np.zeros((0, 0))

  def rect(i, one):
    points = [
      {'x': x, 'y': y, 'id': j, 'is_visible': {3: '0', 6: empty}.get(j, 1)}
      for j, (x, y) in enumerate(one)
      if j != 1
    ]
    return {
      'x1': 10, 'y1': 10, 'x2': 13 + i, 'y2': 14, 'scale': 0.1,
      'annopoints': _structs([{'point': _structs(points)}]),
      'objpos': _structs([{'x': 30, 'y': 20}]),
    }  # fmt: skip

  nobody = {
    'x1': 1, 'y1': 1, 'x2': 2, 'y2': 2, 'scale': empty, 'annopoints': empty, 'objpos': empty,
  }  # fmt: skip
  rects = [_structs([rect(i, one) for i, one in enumerate(joints[k : k + 2], k)])
           for k in range(0, len(joints), 2)]  # fmt: skip
  rects += [_structs([nobody]), empty, _structs([rect(0, joints[0])])]
  annolist = [
    {'image': _structs([{'name': f'{1 + i:09d}.jpg'}]), 'annorect': one, 'vididx': 7 + i}
    for i, one in enumerate(rects)
  ]
  shown = np.ones((1, len(rects)))
  shown[0, -1] = 0  # of the test part
  release = _structs([{'annolist': _structs(annolist), 'img_train': shown}])
  scipy.io.savemat(root / 'mpii_human_pose_v1_u12_1.mat', {'RELEASE': release})
