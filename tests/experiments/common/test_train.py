import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from experiments.common import data, train
from experiments.common.checkpoint import Checkpoint
from experiments.common.progress import Progress


class Tiny(nnx.Module):
  """Batch norm, a factorised layer with an index, and a linear one: every kind of variable."""

  def __init__(self, seed=0):
    rngs = nnx.Rngs(seed)
    self.norm = nnx.BatchNorm(64, momentum=0.9, rngs=rngs)
    self.hidden = tn.nn.Linear(64, 32, scheme=tn.schemes.shuffled(rate=0.5), rngs=rngs)
    self.out = nnx.Linear(32, 10, rngs=rngs)

  def __call__(self, images, train=False):
    x = self.norm(images.reshape(len(images), -1), use_running_average=not train)
    return self.out(jax.nn.relu(self.hidden(x)))


def settings(steps, learning_rate=1e-2):
  return train.Settings(steps, 64, learning_rate, 1e-4, seed=0)


def fit(model, steps, checkpoint=None, learning_rate=1e-2):
  with Progress() as progress:
    return train.fit(
      model, data.digits(0), settings(steps, learning_rate), progress, 'test', checkpoint
    )


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


def test_training_learns_and_is_deterministic():
  first, again = Tiny(), Tiny()
  index = first.hidden.index[...]
  fit(first, 80)
  fit(again, 80)
  same(first, again)
  np.testing.assert_array_equal(first.hidden.index[...], index)
  digits = data.digits(0)
  with Progress() as progress:
    accuracy = train.evaluate(first, digits.test, 16.0, 100, progress)
  assert accuracy > 0.5  # chance is 0.1
  images = digits.test.images / 16.0
  by_hand = (first(jnp.asarray(images, 'float32')).argmax(-1) == digits.test.labels).mean()
  assert accuracy == pytest.approx(float(by_hand))


class Killed(Exception):
  pass


def test_a_killed_run_resumes_to_the_same_bits(tmp_path, monkeypatch):
  whole, resumed = Tiny(), Tiny()
  fit(whole, 60)
  original = Checkpoint.save_if_due

  def save_and_die(self, state, step):
    original(self, state, step)
    if step > 30:
      raise Killed

  monkeypatch.setattr(Checkpoint, 'save_if_due', save_and_die)
  with pytest.raises(Killed):
    fit(resumed, 60, Checkpoint(tmp_path / 'run', every=0.0))
  monkeypatch.setattr(Checkpoint, 'save_if_due', original)
  same(resumed, Tiny())  # a run that dies leaves the model alone
  checkpoint = Checkpoint(tmp_path / 'run')
  fit(resumed, 60, checkpoint)
  same(resumed, whole)
  checkpoint.delete()
  assert not (tmp_path / 'run').exists()


def test_a_loss_that_is_not_finite_dies_clearly():
  model = Tiny()
  model.out.kernel[...] = jnp.full((32, 10), jnp.nan)
  with pytest.raises(FloatingPointError, match='nan at step 0; lower the learning rate'):
    fit(model, 5)


def test_the_last_update_is_checked_and_the_first_is_one():
  class Edge(Tiny):
    def __call__(self, images, train=False):  # finite, but its gradient is not
      return super().__call__(images, train) + jnp.sqrt(jnp.sum(0 * self.out.bias[...]))

  with pytest.raises(FloatingPointError, match='update nan at step 0'):
    fit(Edge(), 1)
  model = Tiny()
  fit(model, 1)
  assert (model.out.kernel[...] != Tiny().out.kernel[...]).any()


def test_a_damaged_checkpoint_starts_over(tmp_path):
  checkpoint = Checkpoint(tmp_path / 'run', every=0.0)
  state = {'a': jnp.ones(3)}
  checkpoint.save_if_due(state, 40)
  assert checkpoint.restore(state)[1] == 40
  for path in (tmp_path / 'run' / '40').rglob('*'):
    if path.is_file():
      path.write_bytes(b'')
  assert checkpoint.restore(state) == (state, 0)
  assert not (tmp_path / 'run').exists()


def test_augmentation_shifts_and_mirrors_whole_images():
  images = jax.random.uniform(jax.random.key(0), (64, 6, 6, 2))
  out = np.asarray(train.augment(images, jax.random.key(1), 1, True))
  padded = np.pad(np.asarray(images), ((0, 0), (1, 1), (1, 1), (0, 0)))
  seen = set()
  for i in range(64):
    options = {
      (a, b, f): padded[i, a : a + 6, b : b + 6][:, :: -1 if f else 1]
      for a in range(3)
      for b in range(3)
      for f in (0, 1)
    }
    matches = [k for k, v in options.items() if np.array_equal(v, out[i])]
    assert matches
    seen.update(matches)
  assert len(seen) > 12
  np.testing.assert_array_equal(train.augment(images, jax.random.key(1), 0, False), images)


def test_every_image_is_seen_once_an_epoch():
  s = settings(10)
  seen = np.concatenate([train._batch(i, 640, s) for i in range(10)])
  assert sorted(seen) == list(range(640))
  following = np.concatenate([train._batch(i, 640, s) for i in range(10, 20)])
  assert sorted(following) == list(range(640))
  assert (seen != following).any()
