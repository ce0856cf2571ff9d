"""People cut out of images: the place of every pixel, and batches from memory and from files."""

import pickle

import jax
import numpy as np
import pytest

from experiments.common.pictures import NOTHING
from experiments.common.progress import Progress
from experiments.pose import crops, metrics
from experiments.pose.augment import middle
from experiments.pose.geometry import room, to_crop, to_image, windows
from experiments.pose.leeds import lspet
from tests.experiments.image_files import needs_grain
from tests.experiments.pose import pose_files

pytestmark = needs_grain
SIZE = 16


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  folder = tmp_path_factory.mktemp('lspet')
  pose_files.lspet(folder)
  path = folder / 'images/im00006.jpg'  # place 3 of the training part
  path.write_bytes(path.read_bytes()[:300])
  return folder


def load(root):
  told = []
  with Progress(quiet=True) as progress:
    return crops.load(lspet(str(root)), SIZE, 0, told.append, progress), told


@pytest.fixture
def in_files(monkeypatch):
  monkeypatch.setattr(crops, '_KEPT', 0)


def test_canvases_show_what_their_windows_say(tmp_path):
  pose_files.image(tmp_path / 'a.jpg', 60, 40)
  boxes = np.array([[30.0, 20.0, 16.0], [0.0, 0.0, 16.0]])
  found = windows(boxes)
  assert found.tolist() == [[20, 10, 40, 30], [-10, -10, 10, 10]]
  one = crops.cut((str(tmp_path / 'a.jpg'), 0), found, 20)
  corners = one.pixels[[0, 0, -1, -1], [0, -1, 0, -1]]
  np.testing.assert_allclose(
    corners, [[200, 0, 0], [0, 200, 0], [200, 0, 200], [0, 200, 200]], atol=25
  )
  outside = crops.cut((str(tmp_path / 'a.jpg'), 1), found, 20).pixels
  assert outside[:9].max() == outside[:, :9].max() == 0
  assert outside[12:, 12:, 0].min() > 150
  joints = np.random.default_rng(0).uniform(0, 40, (2, 14, 2))
  place = to_crop(boxes, joints, 16)
  np.testing.assert_allclose(place[0], joints[0] - [22, 12], atol=1e-5)  # a pixel is a pixel here
  np.testing.assert_allclose(to_image(boxes, place, 16), joints, atol=1e-5)
  with pytest.raises(ValueError, match='--size=20 must be a multiple of 8'):
    room(20)


def test_sets_that_fit_are_kept_without_what_holds_no_image(root):
  found, told = load(root)
  assert isinstance(found.train, crops.Kept)
  assert found.train.images.shape == (15, 20, 20, 3)
  assert found.train.labels.tolist() == [i for i in range(16) if i != 3]
  assert len(told) == 1
  assert told[0].startswith('skipped images/im00006.jpg: ')
  assert found.streams.skipped == ['images/im00006.jpg']
  cutter = crops.cut((str(root / 'images/im00007.jpg'), 4), windows(found.train.people.boxes), 20)
  np.testing.assert_array_equal(found.train.images[3], cutter.pixels)
  batches = crops.Batches(found, 4, seed=0, resolution=4)
  assert (batches.size, batches.steps(2)) == (4, 6)
  epoch = np.concatenate([batches(i) for i in range(3)])
  assert len(set(epoch.tolist())) == 12


def test_a_step_from_files_is_what_it_is_from_whatever_step_on(root, in_files):
  alone, _ = load(root)
  assert isinstance(alone.train, crops.Read)
  batches = crops.Batches(alone, 5, seed=3, resolution=4)
  assert batches.steps(1) == 3
  steps = [batches(i) for i in range(6)]
  read = pickle.loads(pickle.dumps(alone.train._read))  # as it is sent to workers
  assert read(alone.train.files[0]).pixels.shape == (20, 20, 3)
  resumed = crops.Batches(load(root)[0], 5, seed=3, resolution=4)
  for i in (4, 5):
    for a, b in zip(resumed(i), steps[i]):
      np.testing.assert_array_equal(a, b)
  epochs = [np.concatenate([person for _, person in steps[i : i + 3]]) for i in (0, 3)]
  for epoch in epochs:  # of 15 of 16, one of whom may be the one that cannot be read
    real = epoch[epoch != NOTHING]
    assert len(set(real.tolist())) == len(real) >= 14
  other = crops.Batches(alone, 5, seed=4, resolution=4)(0)[1]
  assert (epochs[0] != epochs[1]).any()
  assert (epochs[0][:5] != other).any()


def test_prepared_batches_are_those_people_wherever_they_come_from(root, monkeypatch):
  kept = load(root)[0]
  monkeypatch.setattr(crops, '_KEPT', 0)
  read = load(root)[0]
  both = [crops.Batches(found, 4, seed=0, resolution=4) for found in (kept, read)]
  people = np.array([0, 2, 3, 5])  # number 3 cannot be read
  lost = people == 3
  place = np.searchsorted(kept.train.labels, people)
  canvases = kept.train.images[place]
  host = place, (canvases, np.where(lost, NOTHING, people).astype('int32'))
  found = [
    jax.jit(one.prepare)(one.constants, batch, jax.random.key(1)) for one, batch in zip(both, host)
  ]
  for a, b in zip(*found):
    np.testing.assert_allclose(a[~lost], b[~lost], atol=1e-5)
  images, maps, counted = found[1]
  assert images.shape == (4, SIZE, SIZE, 3)
  assert maps.shape == (4, 4, 4, 14)
  assert not counted[lost].any()
  assert counted[~lost].sum(1).min() > 5
  assert not counted[~lost][:, [0, 5]].all(1).any()  # one ankle has no place, left if mirrored


def test_predictions_are_of_those_who_could_be_read(root, monkeypatch):
  def evaluated(found):
    def predict(canvases):
      assert middle(canvases, SIZE).shape[1:] == (SIZE, SIZE, 3)
      return np.broadcast_to(np.float32([8, 4]), (len(canvases), 14, 2))

    with Progress(quiet=True) as progress:
      return crops.predictions(predict, found.train, SIZE, 4, progress)

  kept = evaluated(load(root)[0])
  monkeypatch.setattr(crops, '_KEPT', 0)
  for people, joints in (kept, evaluated(load(root)[0])):
    assert len(people) == len(joints) == 15
    assert b'images/im00006.jpg' not in people.names
    np.testing.assert_allclose(to_crop(people.boxes, joints, SIZE)[:, 0], [[8, 4]] * 15, rtol=1e-4)
  people, joints = kept
  score = metrics.pck(joints, people, metrics.torsos(people), 0.2)
  assert score.counted == 15


def test_no_image_at_all_is_an_error(tmp_path, monkeypatch):
  pose_files.lspet(tmp_path)
  for path in (tmp_path / 'images').iterdir():
    path.write_bytes(b'')
  with pytest.raises(OSError, match='none of 16 files holds an image'):
    load(tmp_path)
  monkeypatch.setattr(crops, '_KEPT', 0)
  found, _ = load(tmp_path)
  with (
    Progress(quiet=True) as progress,
    pytest.raises(OSError, match='none of 2 files holds an image'),
  ):
    crops.predictions(lambda c: np.zeros((len(c), 14, 2)), found.validation, SIZE, 4, progress)


def test_the_real_extended_set_can_be_cut(shared_data):
  if not (shared_data / 'lspet' / 'joints.mat').is_file():
    pytest.skip(f'no LSP Extended at {shared_data}/lspet')
  found = lspet(str(shared_data))
  few = found._replace(train=found.train.part(np.arange(4)), validation=found.validation.part([0]))
  with Progress(quiet=True) as progress:
    cut = crops.load(few, 64, 0, pytest.fail, progress)
  assert cut.train.images.shape == (4, 80, 80, 3)
  assert cut.train.images.std((1, 2, 3)).min() > 10
  people = cut.train.people
  joints = to_crop(people.boxes, people.joints, 64)
  extent = np.ptp(np.where(people.annotated[..., None], joints, 32), axis=1).max(1)
  np.testing.assert_allclose(extent, 64 / 1.25, atol=1.5)
