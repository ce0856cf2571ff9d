"""MPII: the JSON, the .mat, and heads of the one for people of the other."""

import json

import numpy as np
import pytest

from experiments.pose.mpii import mpii
from experiments.pose.seeded import metric
from tests.experiments.pose import pose_files


def test_json_tells_people_and_split_and_mat_their_heads(tmp_path):
  joints = pose_files.mpii(tmp_path)
  found = mpii(str(tmp_path))
  assert (len(found.train), len(found.validation), found.left_out) == (6, 2, 0)
  people = found.validation
  assert people.names.tolist() == [b'images/000000004.jpg'] * 2
  missing = np.arange(16) == 1
  np.testing.assert_array_equal(people.annotated, [~missing] * 2)  # the occluded one has a place
  np.testing.assert_array_equal(people.visible, [~missing & (np.arange(16) != 3)] * 2)
  wanted = np.where(missing[:, None], 0, joints[6:] - 0.5)
  np.testing.assert_allclose(people.joints, wanted, rtol=1e-6)
  np.testing.assert_allclose(people.boxes, [[29.5, 21.0, 25.0]] * 2, rtol=1e-6)
  np.testing.assert_allclose(people.heads, 0.6 * np.hypot([9, 10], 4), rtol=1e-6)


def test_either_file_is_enough(tmp_path):
  pose_files.mpii(tmp_path / 'json', official=False)
  alone = mpii(str(tmp_path / 'json'))
  assert alone.train.heads is None
  assert metric(alone.validation) == 'pck'  # no PCKh without boxes of heads
  pose_files.mpii(tmp_path / 'mat', common=False)
  found = mpii(str(tmp_path / 'mat'))
  assert (len(found.train), len(found.validation), found.left_out) == (6, 2, 0)
  assert metric(found.validation) == 'pckh'
  assert found.validation.names.tolist() == [b'images/000000002.jpg'] * 2  # of video 8
  for name in ('joints', 'annotated', 'visible', 'boxes', 'names'):
    both = [np.concatenate([getattr(part, name) for part in sets[:2]]) for sets in (alone, found)]
    both = [np.sort(a.reshape(len(a), -1), axis=0) for a in both]
    np.testing.assert_array_equal(*both)


def test_people_without_joints_or_scale_are_left_out(tmp_path):
  joints = pose_files.mpii(tmp_path, official=False)
  people = [pose_files.mpii_person(i, one) for i, one in enumerate(joints)]
  people[0]['joint_self'] = np.zeros((16, 3)).tolist()
  people[1]['scale_provided'] = -1.0
  people.append({'dataset': 'LEEDS'})
  (tmp_path / 'mpii_annotations.json').write_text(json.dumps(people))
  found = mpii(str(tmp_path))
  assert (len(found.train), len(found.validation), found.left_out) == (4, 2, 2)


def test_bad_files_are_told(tmp_path):
  with pytest.raises(FileNotFoundError, match='has neither mpii_annotations.json nor mpii_human'):
    mpii(str(tmp_path))
  joints = pose_files.mpii(tmp_path, official=False)
  path = tmp_path / 'mpii_annotations.json'

  def told(kind, words, people):
    path.write_text(json.dumps(people))
    with pytest.raises(kind, match=words):
      mpii(str(tmp_path))

  def changed(**changes):
    people = [pose_files.mpii_person(i, one) for i, one in enumerate(joints)]
    return [*people[:-1], pose_files.mpii_person(7, joints[7], **changes)]

  short = np.ones((15, 3)).tolist()
  told(ValueError, r'joint_self of person 7 of .* has shape \(15, 3\)', changed(joint_self=short))
  told(ValueError, 'scale_provided of person 7', changed(scale_provided=[]))
  told(ValueError, 'objpos of person 7', changed(objpos=[None, 1.0]))
  mat = tmp_path / 'mpii_human_pose_v1_u12_1.mat'
  mat.write_bytes(b'no')  # which takes a minute to read, and comes after what is quickly told
  told(FileNotFoundError, 'images/9.jpg is missing$', changed(img_paths='9.jpg'))
  mat.unlink()
  told(ValueError, "person 0 of .* has no 'objpos'", [{'img_paths': 'a.jpg', 'dataset': 'MPI'}])
  told(ValueError, 'is no list of people', {'a': 1})
  told(ValueError, 'has nobody with annotated joints', [])
  told(ValueError, '6 people with joints to train with and 0', changed()[:6])
  path.write_text('[{')
  with pytest.raises(ValueError, match='is truncated or no JSON'):
    mpii(str(tmp_path))
  path.unlink()
  mat.write_bytes(b'no')
  with pytest.raises(ValueError, match='is truncated or not MPII'):
    mpii(str(tmp_path))
