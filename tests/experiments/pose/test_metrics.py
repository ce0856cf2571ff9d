"""Metrics against cases worked by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pose import metrics
from experiments.pose.augment import heatmaps
from experiments.pose.geometry import to_crop
from experiments.pose.people import LSP, MPII, People


def people(joints, annotated=None, visible=None, heads=None, layout=LSP):
  joints = np.asarray(joints, 'float32')
  annotated = np.ones(joints.shape[:2], bool) if annotated is None else annotated
  visible = annotated if visible is None else visible
  boxes = np.tile(np.float32([[32, 32, 64]]), (len(joints), 1))
  names, sizes = np.array([b''] * len(joints)), np.zeros(len(joints), 'int64')
  return People(layout, joints, annotated, visible, boxes, heads, '', names, sizes)


def crowd():
  """Three people: a torso of 10, one of 20, and one without a right hip; the second has no head."""
  joints = np.zeros((3, 14, 2))
  joints[:, 9] = [[6, 8], [12, 16], [6, 8]]  # left shoulders; right hips are at 0
  annotated = np.ones((3, 14), bool)
  annotated[2, 2] = False
  return people(joints, annotated, heads=np.array([4.0, np.nan, 4.0]))


def test_torsos_and_heads_by_hand():
  found = crowd()
  np.testing.assert_allclose(metrics.torsos(found), [10, 20, np.nan])
  np.testing.assert_allclose(metrics.heads(found), [4, np.nan, 4])
  boxed = people(np.zeros((1, 16, 2)), heads=np.array([7.0]), layout=MPII)
  assert metrics.heads(boxed).tolist() == [7.0]
  assert np.isnan(metrics.heads(people(np.ones((2, 16, 2)), layout=MPII))).tolist() == [True] * 2


def test_pck_by_hand():
  found = crowd()
  predicted = found.joints.copy()
  predicted[0, 0] += [1.9, 0]  # 0.19 of a torso
  predicted[1, 0] += [0, 4.1]  # 0.205
  predicted[:, 7] += 99  # nobody's is right
  predicted[:2, 12] += [[1.2, 1.5], [0, 0]]  # 1.92
  score = metrics.pck(predicted, found, metrics.torsos(found), 0.2)
  wanted = np.ones(14)
  wanted[[0, 7]] = 0.5, 0
  np.testing.assert_array_equal(score.joints, wanted)
  assert score.mean == pytest.approx(12.5 / 14)
  assert (score.counted, score.left_out) == (2, 1)
  exact = found.joints.copy()
  exact[0, 0] += [2, 0]
  assert metrics.pck(exact, found, metrics.torsos(found), 0.2).joints[0] == 0.5  # not below
  head = metrics.pck(predicted, found, metrics.heads(found), 0.5)  # people 0 and 2, within 2 pixels
  assert (head.joints[0], head.joints[12], head.left_out) == (1, 1, 1)
  np.testing.assert_allclose(
    metrics.curve(predicted, found, metrics.torsos(found), np.array([0.0, 0.2, 0.21, 99])),
    [0, 12.5 / 14, 13 / 14, 1],
  )


def test_occluded_joints_count_unless_only_the_visible_are_asked_for():
  visible = np.ones((1, 14), bool)
  visible[0, 3] = False
  joints = np.zeros((1, 14, 2))
  joints[0, 9] = 10, 0
  found = people(joints, visible=visible)
  predicted = found.joints.copy()
  predicted[0, 3] = 50
  scales = metrics.torsos(found)
  assert metrics.pck(predicted, found, scales, 0.2).joints[3] == 0
  score = metrics.pck(predicted, found, scales, 0.2, visible=True)
  assert np.isnan(score.joints[3])
  assert score.mean == 1


def test_the_mean_of_mpii_leaves_out_pelvis_and_thorax():
  found = people(np.zeros((2, 16, 2)), heads=np.array([10.0, np.nan]), layout=MPII)
  predicted = found.joints.copy()
  predicted[:, [6, 7, 0]] = 5.1, 0  # both, and an ankle
  score = metrics.pck(predicted, found, metrics.heads(found), 0.5)
  assert score.mean == pytest.approx(13 / 14)
  assert score.joints[6:8].tolist() == [0, 0]
  assert (score.counted, score.left_out) == (1, 1)


def test_nobody_to_measure_is_no_number_and_a_nan_is_wrong():
  found = people(np.zeros((2, 14, 2)))  # torsos of 0
  score = metrics.pck(found.joints, found, metrics.torsos(found), 0.2)
  assert np.isnan(score.mean)
  assert (score.counted, score.left_out) == (0, 2)
  broken = metrics.pck(found.joints + np.nan, found, np.ones(2), 0.2)
  assert (broken.mean, broken.counted) == (0, 2)
  with pytest.raises(ValueError, match=r'predicted has shape \(2, 13, 2\); it needs \(2, 14, 2\)'):
    metrics.pck(found.joints[:, :13], found, np.ones(2), 0.2)


@pytest.mark.parametrize(('x', 'y'), [(1, 2), (0, 3), (3, 0), (2, 2)])
def test_decoding_shifts_a_quarter_towards_the_second_neighbour(x, y):
  rng = np.random.default_rng(x + 4 * y)
  maps = rng.uniform(0, 1, (1, 4, 4, 1)).astype('float32')
  maps[0, y, x, 0] = 2
  shift = np.zeros(2)
  if 0 < x < 3:
    shift[0] = 0.25 if maps[0, y, x + 1, 0] > maps[0, y, x - 1, 0] else -0.25
  if 0 < y < 3:
    shift[1] = 0.25 if maps[0, y + 1, x, 0] > maps[0, y - 1, x, 0] else -0.25
  found = metrics.decode(jnp.array(maps), 8)[0, 0]
  np.testing.assert_allclose(found, 2 * (np.array([x, y]) + 0.5 + shift))


def test_decoded_heatmaps_are_within_a_quarter_of_a_pixel():
  joints = np.random.default_rng(0).uniform(4, 60, (8, 14, 2)).astype('float32')
  found = metrics.decode(heatmaps(jnp.array(joints), 64, 16), 64)
  off = np.abs(found - joints) / 4
  assert off.max() <= 0.2501
  assert off.mean() < 0.15


def test_the_mean_pose_is_of_what_is_annotated():
  joints = np.arange(56, dtype='float32').reshape(2, 14, 2)
  annotated = np.ones((2, 14), bool)
  annotated[0, 3] = annotated[:, 5] = False
  found = people(joints, annotated)
  pose = metrics.mean_pose(found, 64)
  crop = to_crop(found.boxes, joints, 64)
  np.testing.assert_allclose(pose[0], crop[:, 0].mean(0), rtol=1e-6)
  np.testing.assert_allclose(pose[3], crop[1, 3], rtol=1e-6)
  assert pose[5].tolist() == [32, 32]
  back = metrics.posed(pose, found, 64)
  np.testing.assert_allclose(to_crop(found.boxes, back, 64)[1], pose, rtol=1e-5)
