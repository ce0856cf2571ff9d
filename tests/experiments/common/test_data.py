import hashlib
import http.client
import io
import pickle
import tarfile

import numpy as np
import pytest

from experiments.common import data
from experiments.common.progress import Progress

NAMES = (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch')


@pytest.fixture(scope='module')
def batches(tmp_path_factory):
  """A folder in CIFAR-10's official layout, with coarse noise for images, quick to compress."""
  folder = tmp_path_factory.mktemp('cifar') / data.CIFAR_FOLDER
  folder.mkdir()
  rng = np.random.default_rng(0)
  for name in NAMES:
    batch = {
      'data': rng.integers(0, 256, (10000, 96), 'uint8').repeat(32, axis=1),
      'labels': rng.permutation(np.arange(10000) % 10).tolist(),
    }
    (folder / name).write_bytes(pickle.dumps(batch, protocol=4))
  return folder


def test_digits_are_split_stratified_seeded_and_disjoint():
  first, again, other = data.digits(0), data.digits(0), data.digits(1)
  assert first.image_shape == (8, 8, 1)
  total = len(first.train) + len(first.validation) + len(first.test)
  assert total == 1797
  for split in (first.train, first.validation, first.test):
    share = np.bincount(split.labels, minlength=10) / len(split)
    np.testing.assert_allclose(share, 0.1, atol=0.01)
  np.testing.assert_array_equal(first.test.images, again.test.images)
  assert (first.test.images != other.test.images).any()
  everything = np.concatenate([s.images for s in (first.train, first.validation, first.test)])
  from sklearn.datasets import load_digits

  original = load_digits().images.reshape(1797, -1)
  np.testing.assert_array_equal(
    np.sort(everything.reshape(1797, -1).sum(1)), np.sort(original.sum(1))
  )


def test_cifar_layout(batches):
  for path in (batches, batches.parent):
    found = data.cifar10(str(path), seed=0)
    assert [len(s) for s in (found.train, found.validation, found.test)] == [45000, 5000, 10000]
  raw = pickle.loads((batches / 'test_batch').read_bytes())
  pixels = raw['data'][7].reshape(3, 32, 32).transpose(1, 2, 0)
  np.testing.assert_array_equal(found.test.images[7], pixels)
  assert found.test.labels[7] == raw['labels'][7]
  halves = found.held_out(0)
  assert halves.train is found.train
  assert np.bincount(halves.test.labels).tolist() == [500] * 10
  parts = [s.images.reshape(len(s), -1).sum(1) for s in (halves.validation, halves.test)]
  whole = found.test.images.reshape(10000, -1).sum(1)
  np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.sort(whole))
  assert (found.held_out(1).test.images != halves.test.images).any()


def test_half_of_a_class_of_one_image_is_told():
  split = data.Split(np.zeros((3, 2, 2, 1), 'uint8'), np.array([0, 0, 1], 'int32'))
  with pytest.raises(ValueError, match='the test part has one image of class 1'):
    data.Dataset(split, split, split, scale=1.0, crop=0, flip=False).held_out(0)


class Harmful:
  """Would run code when unpickled by an unguarded loader."""

  def __reduce__(self):
    return print, ('code ran',)


def test_damaged_cifar_is_named(batches, tmp_path, capsys):
  with pytest.raises(FileNotFoundError, match=f'{tmp_path} holds no cifar'):
    data.cifar10(str(tmp_path), 0)
  folder = tmp_path / data.CIFAR_FOLDER
  folder.mkdir()
  for name in NAMES[:-1]:
    (folder / name).symlink_to(batches / name)
  with pytest.raises(FileNotFoundError, match='test_batch is missing'):
    data.cifar10(str(folder), 0)
  whole = (batches / 'test_batch').read_bytes()
  short = pickle.dumps({'data': np.zeros((5, 3072), 'uint8'), 'labels': [0] * 5})
  for content in (whole[:1000], b'', short, pickle.dumps({'data': Harmful(), 'labels': []})):
    (folder / 'test_batch').write_bytes(content)
    with pytest.raises(ValueError, match='test_batch'):
      data.cifar10(str(folder), 0)
  raw = pickle.loads(whole)
  for label in (-1, 10, 2.5, '3', None, 2**70):
    (folder / 'test_batch').write_bytes(pickle.dumps(raw | {'labels': [0] * 9999 + [label]}))
    with pytest.raises(ValueError, match='test_batch has the label .* must be whole numbers 0..9'):
      data.cifar10(str(folder), 0)
  assert 'code ran' not in capsys.readouterr().out


def archive(folder, names):
  """A .tar.gz with the batches of a folder."""
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode='w:gz', compresslevel=1) as tar:
    for name in names:
      tar.add(folder / name, f'{data.CIFAR_FOLDER}/{name}')
  return buffer.getvalue()


def test_download_checks_the_md5_and_unpacks(batches, tmp_path, monkeypatch):
  content = archive(batches, NAMES)
  source = tmp_path / 'source.tar.gz'
  source.write_bytes(content)
  target = tmp_path / 'data'
  with Progress() as progress:
    with pytest.raises(ValueError, match='md5'):
      data.download_cifar10(str(target), progress, source.as_uri())
    assert not list(target.iterdir())
    monkeypatch.setattr(data, 'CIFAR_MD5', hashlib.md5(content).hexdigest())
    data.download_cifar10(str(target), progress, source.as_uri())
    source.unlink()
    data.download_cifar10(str(target), progress, source.as_uri())  # nothing left to fetch
    with pytest.raises(ValueError, match='cannot be fetched'):
      data.download_cifar10(str(tmp_path / 'other'), progress, source.as_uri())
  assert sorted(p.name for p in target.iterdir()) == [data.CIFAR_FOLDER]
  assert len(data.cifar10(str(target), 0).test) == 10000


class Cut(io.BytesIO):
  """A response that ends before it should, quietly or not."""

  def __init__(self, headers, error=None):
    super().__init__(b'x' * 1000)
    self.headers, self.error = headers, error

  def read(self, size):
    content = super().read(size)
    if not content and self.error:
      raise self.error
    return content


def test_a_cut_download_says_so(tmp_path, monkeypatch):
  cases = [
    (Cut({'Content-Length': '5000'}), 'cut after 1,000 of 5,000 bytes'),
    (Cut({}, http.client.IncompleteRead(b'', 4000)), 'IncompleteRead'),
    (Cut({'Content-Length': 'x'}, http.client.HTTPException()), 'HTTPException'),
    (Cut({}, ConnectionResetError(104, 'reset')), 'reset'),
  ]
  for response, words in cases:
    monkeypatch.setattr(data.urllib.request, 'urlopen', lambda *_, r=response, **__: r)
    with Progress() as progress, pytest.raises(ValueError, match=f'cannot be fetched.*{words}'):
      data.download_cifar10(str(tmp_path), progress)
  monkeypatch.setattr(data.urllib.request, 'urlopen', lambda *_, **__: Cut({}))
  monkeypatch.setattr(data, 'CIFAR_MD5', hashlib.md5(b'x' * 1000).hexdigest())
  with Progress() as progress, pytest.raises(ValueError, match='cannot be unpacked'):
    data.download_cifar10(str(tmp_path), progress)
  assert not list(tmp_path.iterdir())
