import gzip
import hashlib

import numpy as np
import pytest

from experiments.common import data_mnist
from experiments.common.progress import Progress


@pytest.fixture(scope='module')
def arrays():
  """Stripes for images, quick to compress, with as many labels of each kind."""
  rng = np.random.default_rng(0)
  found = {}
  for part, count in (('train', 60_000), ('test', 10_000)):
    found[f'x_{part}'] = rng.integers(0, 256, (count, 1, 28), 'uint8').repeat(28, axis=1)
    found[f'y_{part}'] = rng.permutation(np.arange(count) % 10).astype('uint8')
  return found


def idx(array):
  """An IDX file of bytes, written out by hand."""
  sizes = b''.join(n.to_bytes(4, 'big') for n in array.shape)
  return gzip.compress(bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes(), 1)


@pytest.fixture(scope='module')
def files(arrays):
  """The four files by name."""
  names = ('x_train', 'y_train', 'x_test', 'y_test')
  return {file: idx(arrays[name]) for file, name in zip(data_mnist.MD5, names, strict=True)}


def fill(folder, files):
  folder.mkdir(parents=True, exist_ok=True)
  for name, content in files.items():
    (folder / name).write_bytes(content)


def test_both_layouts_give_the_same_splits(arrays, files, tmp_path):
  fill(tmp_path / 'a' / 'MNIST' / 'raw', files)
  (tmp_path / 'b' / 'mnist').mkdir(parents=True)
  np.savez(tmp_path / 'b' / 'mnist' / 'mnist.npz', **arrays)
  first, second = (data_mnist.mnist(str(tmp_path / name), seed=3) for name in 'ab')
  assert first.fingerprint() == second.fingerprint()
  assert first.image_shape == (28, 28, 1)
  assert [len(s) for s in (first.train, first.validation, first.test)] == [54000, 6000, 10000]
  np.testing.assert_array_equal(np.bincount(first.validation.labels), 600)
  np.testing.assert_array_equal(first.test.images[7, :, :, 0], arrays['x_test'][7])
  everything = np.concatenate([first.train.images, first.validation.images]).reshape(60000, -1)
  np.testing.assert_array_equal(
    np.sort(everything.sum(1)), np.sort(arrays['x_train'].reshape(60000, -1).sum(1))
  )


def test_damaged_files_are_named(arrays, files, tmp_path):
  with pytest.raises(FileNotFoundError, match=f'--data_dir={tmp_path} holds neither'):
    data_mnist.mnist(str(tmp_path), 0)
  images, labels, _, last = data_mnist.MD5
  fill(tmp_path, {k: v for k, v in files.items() if k != last})
  with pytest.raises(FileNotFoundError, match=f'{last} is missing'):
    data_mnist.mnist(str(tmp_path), 0)
  fill(tmp_path, files)
  for name, content in (
    (images, files[images][:1000]),
    (images, b''),
    (images, files[labels]),
    (images, gzip.compress(gzip.decompress(files[images])[:-1], 1)),
    (labels, idx(np.full(60_000, 10, 'uint8'))),
  ):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r'--data_dir: .*(train-images|train-labels)[^\n]*$'):
      data_mnist.mnist(str(tmp_path), 0)
    (tmp_path / name).write_bytes(files[name])
  path = tmp_path / 'other' / 'mnist.npz'
  path.parent.mkdir()
  for change in ({'x_test': arrays['x_train']}, {'y_test': arrays['y_test'] + 1}):
    np.savez(path, **arrays | change)
    with pytest.raises(ValueError, match='mnist.npz'):
      data_mnist.mnist(str(path.parent), 0)
  np.save(tmp_path / 'one.npy', arrays['y_test'])
  one, whole = (tmp_path / 'one.npy').read_bytes(), bytearray(path.read_bytes())
  whole[10**6] ^= 1
  for content in (whole, whole[:1000], b'', one, idx(arrays['y_test'])):
    path.write_bytes(content)
    with pytest.raises(ValueError, match='mnist.npz is truncated or no MNIST'):
      data_mnist.mnist(str(path.parent), 0)


def test_download_checks_the_md5_and_goes_on(files, tmp_path, monkeypatch):
  source, target = tmp_path / 'source', tmp_path / 'target'
  fill(source, files)
  digests = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
  with Progress() as progress:
    with pytest.raises(ValueError, match='train-images-idx3-ubyte.gz has md5'):
      data_mnist.download_mnist(str(target), progress, source.as_uri())
    assert not list(target.iterdir())
    monkeypatch.setattr(data_mnist, 'MD5', digests)
    last = list(files)[-1]
    (source / last).unlink()
    with pytest.raises(ValueError, match=f'{last} cannot be fetched'):
      data_mnist.download_mnist(str(target), progress, source.as_uri())
    assert len(list(target.iterdir())) == 3
    fill(source, {last: files[last]})
    for name in list(files)[:-1]:
      (source / name).unlink()  # what is there is not fetched again
    for _ in range(2):
      data_mnist.download_mnist(str(target), progress, source.as_uri())
  assert sorted(p.name for p in target.iterdir()) == sorted(files)
  assert len(data_mnist.mnist(str(target), 0).test) == 10000


def test_the_real_images_where_they_are(shared_data):
  found = data_mnist.mnist(str(shared_data), 0)
  assert np.bincount(found.test.labels).tolist() == [
    980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
  ]  # fmt: skip
  mean = np.concatenate([found.train.images, found.validation.images]).mean() / 255
  assert mean == pytest.approx(0.1307, abs=1e-4)
