"""Training and evaluation: pure pytrees under one jitted, donated step."""

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from experiments.common.checkpoint import Checkpoint
from experiments.common.data import Dataset, Split
from experiments.common.progress import Progress

_CHECK_EVERY = 20  # steps between looks at the loss, each of which waits for the device


@dataclasses.dataclass(frozen=True)
class Settings:
  """How to train.

  Attributes:
    steps: number of updates.
    batch_size: images per update.
    learning_rate: peak of Adam's rate, after a linear warm-up over a twentieth of the steps, with
      cosine decay to zero.
    weight_decay: decoupled, on arrays of order two and more.
    seed: of the order of images and of augmentation.
  """

  steps: int
  batch_size: int
  learning_rate: float
  weight_decay: float
  seed: int


def fit(
  model: nnx.Module,
  dataset: Dataset,
  settings: Settings,
  progress: Progress,
  name: str,
  checkpoint: Checkpoint | None = None,
) -> float:
  """Trains all parameters of `model` in place with cross-entropy; returns seconds spent.

  Args:
    model: called as model(images, train=True), images in [0, 1].
    dataset: its training split is used, augmented on the device.
    settings: see `Settings`.
    progress: shows the steps.
    name: of the task shown.
    checkpoint: where to save now and then, and to resume from.

  Raises:
    FloatingPointError: the loss is not finite; `model` is then unchanged.
  """
  start = time.monotonic()
  graph, params, rest = nnx.split(nnx.clone(model, arrays=True), nnx.Param, ...)
  optimizer = _optimizer(settings)
  state = (params, rest, optimizer.init(params))
  first = 0
  if checkpoint is not None:
    state, first = checkpoint.restore(state)
  step = _make_step(graph, optimizer, dataset.scale, dataset.crop, dataset.flip)
  data = jax.device_put((dataset.train.images, dataset.train.labels))
  key = jax.random.key(settings.seed)
  note = ''
  with progress.task(name, settings.steps, first) as advance:
    advance(0, 'compiling')
    for i in range(first, settings.steps):
      state, loss, size = step(state, data, _batch(i, len(dataset.train), settings), key, i)
      if i % _CHECK_EVERY == 0 or i + 1 == settings.steps:
        _check_finite(loss, size, i, name)
        note = f'loss {float(loss):.3f}'
        if checkpoint is not None and i + 1 < settings.steps:
          checkpoint.save_if_due(state, i + 1)
      advance(1, note)
  params, rest, _ = state
  nnx.update(model, params, rest)
  return time.monotonic() - start


def evaluate(
  model: nnx.Module, split: Split, scale: float, batch_size: int, progress: Progress
) -> float:
  """Accuracy of `model` on a split, as a fraction; batch norm uses its running averages."""
  graph, state = nnx.split(model)
  count, hits = len(split), 0
  size = min(batch_size, count)
  with progress.task('evaluate', count) as advance:
    for i in range(0, count, size):
      part = np.minimum(np.arange(i, i + size), count - 1)  # the last batch repeats an image
      found = np.asarray(_predict(graph, scale, state, split.images[part]))
      fresh = min(size, count - i)
      hits += int((found == split.labels[part])[:fresh].sum())
      advance(fresh)
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


def _optimizer(settings: Settings) -> optax.GradientTransformation:
  warmup = max(1, settings.steps // 20)
  rate = optax.warmup_cosine_decay_schedule(
    settings.learning_rate / warmup,
    settings.learning_rate,
    warmup,
    max(warmup + 1, settings.steps),
  )

  def matrices(params: nnx.State) -> nnx.State:
    return jax.tree.map(lambda a: a.ndim > 1, params)

  return optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(rate, weight_decay=settings.weight_decay, mask=matrices),
  )


def _make_step(
  graph: nnx.GraphDef,
  optimizer: optax.GradientTransformation,
  scale: float,
  crop: int,
  flip: bool,
) -> Callable:
  def loss(params: nnx.State, rest: nnx.State, images: Array, labels: Array) -> tuple:
    model = nnx.merge(graph, params, rest, copy=True)
    logits = model(images, train=True)
    _, _, rest = nnx.split(model, nnx.Param, ...)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), rest

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state: tuple, data: tuple, batch: Array, key: Array, count: Array) -> tuple:
    params, rest, moments = state
    images = data[0][batch].astype(jnp.float32) / scale
    images = augment(images, jax.random.fold_in(key, count), crop, flip)
    grad = jax.value_and_grad(loss, has_aux=True)
    (value, rest), gradient = grad(params, rest, images, data[1][batch])
    updates, moments = optimizer.update(gradient, moments, params)
    state = (optax.apply_updates(params, updates), rest, moments)
    size = jnp.sqrt(sum(jnp.vdot(u, u) for u in jax.tree.leaves(updates)))
    return state, value, size

  return step


@functools.partial(jax.jit, static_argnums=(0, 1))
def _predict(graph: nnx.GraphDef, scale: float, state: nnx.State, images: Array) -> Array:
  model = nnx.merge(graph, state, copy=True)
  return model(images.astype(jnp.float32) / scale).argmax(axis=-1)


def _batch(step: int, count: int, settings: Settings) -> np.ndarray:
  """Indices of a step's images: a fresh seeded order every epoch, the remainder left out."""
  size = min(settings.batch_size, count)
  epoch, place = divmod(step, count // size)
  order = _order(settings.seed, epoch, count)
  return order[place * size : (place + 1) * size]


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
  return np.random.default_rng((seed, epoch)).permutation(count).astype('int32')


def _check_finite(loss: Array, update: Array, step: int, name: str) -> None:
  """The loss tells of the parameters before the step, the update's norm of those after it."""
  if not (np.isfinite(float(loss)) and np.isfinite(float(update))):
    raise FloatingPointError(
      f'{name}: the loss is {float(loss)} and the update {float(update)} at step {step}; lower '
      'the learning rate'
    )
