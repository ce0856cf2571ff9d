"""MNIST: the official gzipped IDX files, or the same images in Keras' mnist.npz."""

import gzip
import pathlib
import zipfile
import zlib

import numpy as np

from experiments.common.data import Dataset, Split, fetch, stratified
from experiments.common.progress import Progress

URL = 'https://ossci-datasets.s3.amazonaws.com/mnist'  # a mirror of yann.lecun.com/exdb/mnist
MD5 = {
  'train-images-idx3-ubyte.gz': 'f68b3c2dcbeaaa9fbdd348bbdeb94873',
  'train-labels-idx1-ubyte.gz': 'd53e105ee54ea40749a09fcbcd1e9432',
  't10k-images-idx3-ubyte.gz': '9fb629c4189551a2d022fa330f9573f3',
  't10k-labels-idx1-ubyte.gz': 'ec29112dd5afa0611ce80d1b7f02629c',
}
_NPZ = 'mnist.npz'
_COUNTS = (60_000, 10_000)


def mnist(data_dir: str, seed: int) -> Dataset:
  """MNIST, 28x28 in one channel; a tenth of the training part is for validation.

  Args:
    data_dir: the folder of the four IDX files or of mnist.npz, or one that holds it as `mnist` or,
      as torchvision does, `MNIST/raw`.
    seed: of the stratified validation split; the test part is the official one.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is truncated or not MNIST.
  """
  folder = _folder(pathlib.Path(data_dir))
  idx = (folder / next(iter(MD5))).is_file()
  train, test = _idx(folder) if idx else _npz(folder / _NPZ)
  validation, rest = stratified(train.labels, 0.1, seed)
  splits = [Split(train.images[p], train.labels[p]) for p in (rest, validation)]
  return Dataset(*splits, test, scale=255.0, crop=0, flip=False)


def download_mnist(data_dir: str, progress: Progress, url: str = URL) -> None:
  """Fetches the four official files into `data_dir`, unless MNIST is there already.

  Raises:
    ValueError: a download failed, or its md5 is not that of the official file.
  """
  target = pathlib.Path(data_dir)
  try:
    _folder(target)
    return
  except FileNotFoundError:
    target.mkdir(parents=True, exist_ok=True)
  for name, md5 in MD5.items():
    if (target / name).is_file():
      continue
    partial = target / f'.{name}.partial'
    try:
      digest = fetch(f'{url}/{name}', partial, f'MNIST {name}', progress)
      if digest != md5:
        raise ValueError(f'--download: {url}/{name} has md5 {digest}; the official file has {md5}')
      partial.replace(target / name)
    finally:
      partial.unlink(missing_ok=True)


def _folder(path: pathlib.Path) -> pathlib.Path:
  for folder in (path, path / 'mnist', path / 'MNIST' / 'raw'):
    missing = [name for name in MD5 if not (folder / name).is_file()]
    if not missing or (folder / _NPZ).is_file():
      return folder
    if len(missing) < len(MD5):
      raise FileNotFoundError(f'--data_dir: {folder / missing[0]} is missing')
  raise FileNotFoundError(
    f'--data_dir={path} holds neither {next(iter(MD5))} nor {_NPZ}; --download fetches MNIST where '
    'there is a network'
  )


def _idx(folder: pathlib.Path) -> list[Split]:
  names = list(MD5)
  return [
    _split(folder / image, _read(folder / image, (count, 28, 28)), _read(folder / label, (count,)))
    for image, label, count in zip(names[::2], names[1::2], _COUNTS)
  ]


def _read(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
  """An IDX file of bytes: two zeros, 8 for uint8, the order, each size in four bytes, the data."""
  try:
    content = gzip.decompress(path.read_bytes())
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f'--data_dir: {path} is truncated or no gzip file: {error}') from None
  head = bytes((0, 0, 8, len(shape))) + np.array(shape, '>u4').tobytes()
  if not content.startswith(head) or len(content) != len(head) + np.prod(shape):
    raise ValueError(f'--data_dir: {path} is no IDX file of uint8{shape}')
  return np.frombuffer(content, np.uint8, offset=len(head)).reshape(shape)


def _npz(path: pathlib.Path) -> list[Split]:
  try:
    with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
      parts = [(arrays[f'x_{part}'], arrays[f'y_{part}']) for part in ('train', 'test')]
  except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
    raise ValueError(f'--data_dir: {path} is truncated or no MNIST: {error}') from None
  for (images, labels), count in zip(parts, _COUNTS):
    if (images.shape, images.dtype, labels.shape) != ((count, 28, 28), np.uint8, (count,)):
      raise ValueError(
        f'--data_dir: {path} has images {images.dtype}{images.shape} and labels {labels.shape}; it '
        f'needs uint8{(count, 28, 28)} and {(count,)}'
      )
  return [_split(path, images, labels) for images, labels in parts]


def _split(path: pathlib.Path, images: np.ndarray, labels: np.ndarray) -> Split:
  if labels.dtype.kind not in 'iu' or labels.min() < 0 or labels.max() > 9:
    raise ValueError(f'--data_dir: labels of {path} must be whole numbers 0..9')
  return Split(images[..., None], labels.astype('int32'))
