"""LSP and LSP Extended: what their two matrices mean, and what is wrong with bad ones."""

import numpy as np
import pytest
import scipy.io

from experiments.pose.leeds import lsp, lspet
from tests.experiments.pose import pose_files


def test_extended_has_joints_first_and_places_of_what_is_visible(tmp_path):
  joints, flags = pose_files.lspet(tmp_path / 'lspet')
  found = lspet(str(tmp_path))
  assert (len(found.train), len(found.validation), found.left_out) == (16, 2, 2)
  kept = [0, 1, *range(4, 18)]
  assert found.train.names[[0, 2]].tolist() == [b'images/im00001.jpg', b'images/im00005.jpg']
  np.testing.assert_array_equal(found.train.annotated, flags[kept])
  np.testing.assert_array_equal(found.train.visible, flags[kept])
  wanted = np.where(flags[kept][..., None], joints[kept] - 0.5, 0)
  np.testing.assert_allclose(found.train.joints, wanted, rtol=1e-6)
  person = joints[0, 1:] - 0.5
  low, high = person.min(0), person.max(0)
  box = [*(low + high) / 2, 1.25 * (high - low).max()]
  np.testing.assert_allclose(found.train.boxes[0], box, rtol=1e-6)
  assert found.train.heads is None
  assert found.train.files()[2] == (str(tmp_path / 'lspet/images/im00005.jpg'), 2)
  assert found.train.fingerprint() != found.validation.fingerprint()


def test_lsp_has_x_y_and_what_is_occluded_first(tmp_path):
  joints = pose_files.lsp(tmp_path)
  found = lsp(str(tmp_path))
  assert (len(found.train), len(found.validation), found.left_out) == (5, 5, 0)
  assert found.validation.names[0] == b'images/im0006.jpg'
  np.testing.assert_allclose(found.validation.joints, joints[5:] - 0.5, rtol=1e-6)
  assert found.train.annotated.all()
  assert np.flatnonzero(~found.train.visible[0]).tolist() == [4]


def test_bad_folders_are_told(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'has no joints.mat, nor has lspet or lspet_dataset'):
    lspet(str(tmp_path))
  pose_files.lsp(tmp_path)
  with pytest.raises(ValueError, match=r'joints \(3, 14, 10\); LSP Extended needs \(14, 3, people'):
    lspet(str(tmp_path))
  (tmp_path / 'images/im0007.jpg').unlink()
  with pytest.raises(FileNotFoundError, match=r'im0007.jpg is missing'):
    lsp(str(tmp_path))
  path = tmp_path / 'joints.mat'
  matrix = scipy.io.loadmat(path)['joints']
  for name, wrong, words in [
    ('joints', matrix[:, :13], r'joints \(3, 13, 10\); LSP needs \(3, 14, people\)'),
    ('joints', matrix + np.nan, 'has no number in person 1'),
    ('others', matrix, 'is truncated or has no joints'),
    ('joints', matrix[..., :1], '0 people with joints to train with and 1 to validate with'),
  ]:
    scipy.io.savemat(path, {name: wrong})
    with pytest.raises(ValueError, match=words):
      lsp(str(tmp_path))
  path.write_bytes(path.read_bytes()[:300])
  with pytest.raises(ValueError, match='is truncated or has no joints'):
    lsp(str(tmp_path))


def test_the_real_extended_set(shared_data):
  if not (shared_data / 'lspet' / 'joints.mat').is_file():
    pytest.skip(f'no LSP Extended at {shared_data}/lspet')
  found = lspet(str(shared_data))
  assert (len(found.train), len(found.validation), found.left_out) == (9000, 1000, 0)
  assert found.validation.names[0] == b'images/im09001.jpg'
  for people in (found.train, found.validation):
    assert 12 < people.annotated.sum(1).mean() < 12.5
    joints = people.joints[people.annotated]
    assert joints.min() > 0
    assert joints.max() < 144
