"""Images in class folders: what is found, and the order and position of what is read."""

import multiprocessing
import os
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common import data_folder, mesh, pictures
from experiments.common.classification import cross_entropy, evaluate
from experiments.common.progress import Progress
from tests.experiments.image_files import CLASSES, DAMAGED, needs_grain, write

pytestmark = needs_grain


@pytest.fixture(scope='module')
def root(tmp_path_factory):
  return write(tmp_path_factory.mktemp('images'))


def load(root, seed=0, workers=0):
  told = []
  found = data_folder.imagenet(str(root), seed, 16, workers, told.append)
  return found, told


def test_classes_are_numbered_by_name_and_splits_are_disjoint(root):
  found, _ = load(root)
  assert (found.num_classes, found.image_shape) == (3, (16, 16, 3))
  names = [split.files.names.tolist() for split in (found.train, found.validation, found.test)]
  assert [len(n) for n in names] == [21, 3, 12]
  disk = sorted(str(p.relative_to(root)) for p in (root / 'train').rglob('*.*'))
  assert sorted(n.decode() for n in names[0] + names[1]) == disk
  for split in (found.train, found.validation, found.test):
    folders = [n.decode().split('/')[1] for n in split.files.names]
    assert [CLASSES[i] for i in split.files.labels] == folders
    assert set(folders) == set(CLASSES)  # one of every class at least
  same, other = load(root)[0], load(root, 1)[0]
  assert same.fingerprint() == found.fingerprint() != other.fingerprint()


def test_a_file_of_another_size_is_other_data(root, tmp_path):
  before = load(shutil.copytree(root, tmp_path / 'a'))[0].fingerprint()
  assert load(tmp_path / 'a')[0].fingerprint() == before
  with (tmp_path / 'a' / DAMAGED).open('ab') as file:
    file.write(b'x')
  assert load(tmp_path / 'a')[0].fingerprint() != before


def test_evaluation_passes_over_every_image_again_and_again(root):
  found, _ = load(root)
  passes = []
  for size in (5, 5, 100):
    batches = list(found.test.batches(size))
    assert {len(images) for images, _ in batches} == {min(size, 12)}
    images, labels = (np.concatenate(arrays) for arrays in zip(*batches))
    assert labels[:12].tolist() == found.test.files.labels.tolist()
    assert (labels[12:] == pictures.NOTHING).all()
    passes.append(images[:12])
  first = next(found.test.batches(5))[0]  # broken off
  np.testing.assert_array_equal(next(found.test.batches(5))[0], first)
  for other in (passes[0], passes[2]):
    np.testing.assert_array_equal(passes[1], other)
  np.testing.assert_array_equal(passes[0][0], pictures.evaluated(found.test.files[0], 16).pixels)


def same(a, b):
  np.testing.assert_array_equal(a[0], b[0])
  np.testing.assert_array_equal(a[1], b[1])


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own(root):
  found, _ = load(root)
  batches = data_folder.Batches(found, 7, seed=3)
  assert (batches.size, batches.steps(2)) == (7, 6)
  seen = [batches(i) for i in range(6)]
  wanted = np.bincount(found.train.files.labels)
  damaged = DAMAGED.encode() in found.train.files.names
  for epoch in (seen[:3], seen[3:]):
    labels = np.concatenate([labels for _, labels in epoch])
    counts = np.bincount(labels[labels >= 0], minlength=3)
    assert (wanted - counts).tolist() == [0, int(damaged), 0]
  assert any((a[1] != b[1]).any() for a, b in zip(seen[:3], seen[3:]))
  images = np.concatenate([images for images, _ in seen])
  assert len(np.unique(images.reshape(len(images), -1), axis=0)) > 30  # no crop twice
  other = data_folder.Batches(found, 7, seed=4)
  assert (other(0)[0] != seen[0][0]).any()
  many = data_folder.Batches(found, 100, seed=3)
  assert (many.size, many.steps(1)) == (21, 1)


def test_a_batch_is_shared_out_over_devices(root):
  images, labels = data_folder.Batches(load(root)[0], 6, seed=3)(0)
  placed = mesh.shard(mesh.make('data:2'), (images, labels))
  assert [a.sharding.shard_shape(a.shape)[0] for a in placed] == [3, 3]
  same(placed, (images, labels))


def test_workers_go_on_from_any_step_and_hand_back_what_they_skip(root):
  """Whoever decodes, a step is what it is: a run that resumes sees what it would have seen."""
  alone, told = load(root)
  batches = data_folder.Batches(alone, 7, seed=3)
  whole = [batches(i) for i in range(7)]
  assert alone.skipped == [DAMAGED]
  assert len(told) == 1  # though it was met in every epoch
  assert told[0].startswith(f'skipped {DAMAGED}: ')
  shared, told = load(root, workers=2)
  resumed = data_folder.Batches(shared, 7, seed=3)
  for step in (3, 4):  # one of each worker, so that both have begun
    same(resumed(step), whole[step])
  workers = multiprocessing.active_children()
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # sent to the whole group
    for worker in workers:
      os.kill(worker.pid, number)
  for step in (5, 6):
    same(resumed(step), whole[step])
  assert (shared.skipped, len(told)) == ([DAMAGED], 1)
  assert len(workers) == 2
  shared.close()
  assert not multiprocessing.active_children()
  assert [worker.exitcode for worker in workers] == [0, 0]  # having freed their memory


class First(nnx.Module):
  """Says the first class, whatever it sees."""

  def __call__(self, images):
    return jnp.zeros((len(images), 3)).at[:, 0].set(1.0)


def test_images_that_cannot_be_read_count_for_nothing(root, tmp_path):
  found, told = load(shutil.copytree(root, tmp_path / 'a'))
  names = [tmp_path / 'a' / name.decode() for name in found.test.files.names]
  with Progress(quiet=True) as progress:
    assert evaluate(First(), found.test, 255.0, 5, progress) == 4 / 12
    for name in names[:3]:  # of the first class
      name.write_bytes(b'')
    assert evaluate(First(), found.test, 255.0, 5, progress) == 1 / 9
    assert len(found.skipped) == len(told) == 3
    for name in names:
      name.write_bytes(b'')
    with pytest.raises(OSError, match='none of 12 files holds an image'):
      evaluate(First(), found.test, 255.0, 5, progress)


def test_the_loss_leaves_out_what_is_no_image(root):
  images, labels = jnp.array([[2.0, 0.0], [1.0, 0.0], [9.0, 0.0]]), jnp.array([0, 1, -1])

  def loss(counted):
    found, metrics = cross_entropy(
      lambda images, train: images, (images, labels, jnp.array(counted)), None
    )
    return float(found), float(metrics['accuracy'])

  two = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(1.0))) / 2
  assert loss([True, True, False]) == pytest.approx((two, 0.5), rel=1e-6)
  assert loss([False] * 3) == (0.0, 0.0)
  folder, _ = load(root)
  batches = data_folder.Batches(folder, 7, seed=3)
  host = np.full((7, 16, 16, 3), 255, 'uint8'), np.array([0, 1, 2, -1, 0, 1, 2])
  prepared = batches.prepare((), host, None)
  assert prepared[0].max() == 1.0
  assert prepared[2].tolist() == [True, True, True, False, True, True, True]


def test_bad_folders_are_told(root, tmp_path):
  def broken(change):
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    shutil.copytree(root, folder)
    change(folder)
    return folder

  def one_left(folder):
    for path in sorted((folder / 'train/n02').iterdir())[1:]:
      path.unlink()

  def none_left(folder):
    for path in (folder / 'val/n03').iterdir():
      path.rename(path.with_suffix('.txt'))

  cases = [
    (lambda f: shutil.rmtree(f / 'val'), FileNotFoundError, "has no folder 'val'"),
    (lambda f: shutil.rmtree(f / 'val/n02'), ValueError, "class 'n02' in train, but not in val"),
    (lambda f: (f / 'val/n00').mkdir(), ValueError, "class 'n00' in val, but not in train"),
    (lambda f: (f / 'val/n04').mkdir(), ValueError, "class 'n04' in val, but not in train"),
    (none_left, ValueError, r'val/n03 has no image in it \(.jpg'),
    (one_left, ValueError, 'train/n02 has one image; it needs another'),
  ]
  for change, kind, words in cases:
    with pytest.raises(kind, match=words):
      load(broken(change))
  with pytest.raises(FileNotFoundError, match="nowhere has no folder 'train'"):
    load(tmp_path / 'nowhere')
  for part in ('train', 'val'):
    (tmp_path / 'empty' / part).mkdir(parents=True)
  with pytest.raises(ValueError, match='train has no class folders'):
    load(tmp_path / 'empty')
