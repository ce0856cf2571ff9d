"""Joints of the data sets: their order and what mirrors what."""

import numpy as np
import pytest

from experiments.pose.geometry import windows
from experiments.pose.people import LSP, MPII, People, around, divided, sizes_of


def test_joints_are_in_the_official_order():
  assert LSP.names[:6] == MPII.names[:6]
  assert (LSP.index('right wrist'), LSP.index('left shoulder'), LSP.index('head top')) == (6, 9, 13)
  assert (MPII.index('pelvis'), MPII.index('thorax'), MPII.index('head top')) == (6, 7, 9)
  assert MPII.names[10:13] == LSP.names[6:9]
  assert np.flatnonzero(~MPII.scored).tolist() == [6, 7]
  assert LSP.scored.all()


@pytest.mark.parametrize('layout', [LSP, MPII])
def test_mirrored_joints_change_sides_and_bones_stay(layout):
  mirror = np.array(layout.mirror)
  assert (mirror[mirror] == np.arange(len(layout.names))).all()
  for name, other in zip(layout.names, mirror):
    assert (layout.names[other] == name) == (not name.startswith(('left', 'right')))
  bones = {frozenset(bone) for bone in layout.bones}
  assert {frozenset(mirror[list(bone)].tolist()) for bone in bones} == bones
  assert {joint for bone in bones for joint in bone} == set(range(len(layout.names)))
  if layout is MPII:  # the pairs of the official flip
    assert {(0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)} <= set(enumerate(layout.mirror))


def test_boxes_of_too_few_joints_are_empty():
  joints = np.array([[[5.0, 7.0], [9.0, 9.0]]] * 2)
  found = around(joints, np.array([[True, False], [False, False]]))
  assert found.tolist() == [[5, 7, 0], [0, 0, 0]]


def test_who_is_placed_where_no_image_is_is_left_out():
  joints = np.full((4, 14, 2), [5.0, 7.0], 'float32')
  joints[:, 0] = [[15, 7], [25, 7], [1e10, 7], [15, -9000]]
  every = np.ones((4, 14), bool)
  names, sizes = np.array([b'a.jpg'] * 4), np.zeros(4, 'int64')
  boxes = around(joints, every)
  people = People(LSP, joints, every, every, boxes, None, '', names, sizes)
  found = divided(people, np.array([False, True, False, False]), 'joints.mat')
  assert (len(found.train), len(found.validation), found.left_out) == (1, 1, 2)
  assert windows(found.train.boxes).tolist() == [[2, -1, 18, 15]]


def test_missing_files_are_named_and_counted(tmp_path):
  (tmp_path / 'a').write_bytes(b'four')
  assert sizes_of(str(tmp_path), [b'a', b'a']).tolist() == [4, 4]
  with pytest.raises(FileNotFoundError, match=r'b is missing$'):
    sizes_of(str(tmp_path), [b'a', b'b', b'b'])
  with pytest.raises(FileNotFoundError, match='b is missing, and 1 others of 3'):
    sizes_of(str(tmp_path), [b'a', b'b', b'c'])
