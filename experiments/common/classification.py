"""Images and their labels: augmented batches, cross-entropy, accuracy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from experiments.common import data_folder
from experiments.common.data import Dataset, Split
from experiments.common.pictures import NOTHING
from experiments.common.progress import Progress


class Batches:
  """The training split, kept on the device, augmented there; see `train.Batches`.

  Args:
    dataset: its training split, scale, crop and flip are used.
    batch_size: images per update, all of them if there are fewer.
    seed: of the order of images.
  """

  def __init__(self, dataset: Dataset, batch_size: int, seed: int):
    self.constants = (dataset.train.images, dataset.train.labels)
    self.size = min(batch_size, len(dataset.train))
    self._dataset = dataset
    self._seed = seed

  def __call__(self, step: int) -> np.ndarray:
    """Indices of a step's images: a fresh seeded order every epoch, the remainder left out."""
    epoch, place = divmod(step, self.steps(1))
    order = _order(self._seed, epoch, len(self._dataset.train))
    return order[place * self.size : (place + 1) * self.size]

  def steps(self, epochs: int) -> int:
    """Number of updates in so many epochs."""
    return epochs * (len(self._dataset.train) // self.size)

  def prepare(self, constants: tuple[Array, Array], batch: Array, key: Array) -> tuple:
    """Images in [0, 1], augmented, and their labels."""
    images = constants[0][batch].astype(jnp.float32) / self._dataset.scale
    images = augment(images, key, self._dataset.crop, self._dataset.flip)
    return images, constants[1][batch]


def batches(dataset: data_folder.Data, batch_size: int, seed: int) -> Batches | data_folder.Batches:
  """Those of the training split, whether it is in memory or in files."""
  found = data_folder.Batches if isinstance(dataset, data_folder.Folder) else Batches
  return found(dataset, batch_size, seed)


class Later:
  """Batches from an update on, as if those before had been made; see `train.Batches`.

  Args:
    batches: from the first update on.
    start: how many of them to leave out.
  """

  def __init__(self, batches: Batches, start: int):
    self.constants, self.size, self.prepare = batches.constants, batches.size, batches.prepare
    self._batches = batches
    self._start = start

  def __call__(self, step: int) -> np.ndarray:
    """Indices of a step's images."""
    return self._batches(self._start + step)


def cross_entropy(
  model: nnx.Module, batch: tuple[Array, Array], key: Array
) -> tuple[Array, dict[str, Array]]:
  """The mean cross-entropy of model(images, train=True), and its accuracy; see `train.Loss`.

  A third part of the batch, bool, says which images count.
  """
  del key  # dropout has its own
  images, labels, *counted = batch
  logits = model(images, train=True)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return _mean(losses, *counted), {'accuracy': _mean(logits.argmax(-1) == labels, *counted)}


def evaluate(
  model: nnx.Module,
  split: Split | data_folder.Split,
  scale: float,
  batch_size: int,
  progress: Progress,
) -> float:
  """Accuracy of `model` on a split, as a fraction; batch norm uses its running averages.

  Raises:
    OSError: the split is of files that are gone, or of which none holds an image.
  """
  graph, state = nnx.split(model)
  count = hits = 0
  with progress.task('evaluate', len(split)) as advance:
    for images, labels in split.batches(batch_size):
      found = np.asarray(_predict(graph, scale, state, images))
      fresh = int((labels != NOTHING).sum())
      hits += int((found == labels).sum())  # a prediction is never NOTHING
      count += fresh
      advance(fresh)
  if not count:
    raise OSError(f'none of {len(split)} files holds an image')
  return hits / count


def augment(images: Array, key: Array, crop: int, flip: bool) -> Array:
  """Random crops of the images padded by `crop` zeros, mirrored at random if `flip`.

  >>> augment(jnp.ones((2, 8, 8, 1)), jax.random.key(0), 1, True).shape
  (2, 8, 8, 1)
  """
  n, height, width, channels = images.shape
  shift_key, flip_key = jax.random.split(key)
  if crop:
    padded = jnp.pad(images, ((0, 0), (crop, crop), (crop, crop), (0, 0)))
    starts = jax.random.randint(shift_key, (n, 2), 0, 2 * crop + 1)
    size = (height, width, channels)
    images = jax.vmap(lambda x, s: jax.lax.dynamic_slice(x, (s[0], s[1], 0), size))(padded, starts)
  if flip:
    mirrored = jax.random.bernoulli(flip_key, 0.5, (n, 1, 1, 1))
    images = jnp.where(mirrored, images[:, :, ::-1], images)
  return images


def _mean(values: Array, counted: Array | None = None) -> Array:
  """Of those that count; of none 0."""
  if counted is None:
    return values.mean()
  return values.sum(where=counted) / jnp.maximum(counted.sum(), 1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _predict(graph: nnx.GraphDef, scale: float, state: nnx.State, images: Array) -> Array:
  model = nnx.merge(graph, state, copy=True)
  return model(images.astype(jnp.float32) / scale).argmax(axis=-1)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(count).astype('int32')
