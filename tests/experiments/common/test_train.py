import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import tnjax as tn
from experiments.common import data, train
from experiments.common.checkpoint import Checkpoint
from experiments.common.classification import Batches, cross_entropy
from experiments.common.metrics import Metrics
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


def fit(model, steps, checkpoint=None, learning_rate=1e-2, metrics=None):
  settings = train.Settings(steps, train.adamw(steps, learning_rate, 1e-4), seed=0)
  batches = Batches(data.digits(0), 64, seed=0)
  with Progress() as progress:
    return train.fit(model, cross_entropy, batches, settings, progress, 'test', checkpoint, metrics)


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


def test_training_learns_and_leaves_a_record(tmp_path):
  first = Tiny()
  index = first.hidden.index[...]
  metrics = Metrics(tmp_path / 'metrics.jsonl')
  fit(first, 80, metrics=metrics)
  np.testing.assert_array_equal(first.hidden.index[...], index)
  images = jnp.asarray(data.digits(0).test.images / 16.0, 'float32')
  accuracy = (first(images).argmax(-1) == data.digits(0).test.labels).mean()
  assert accuracy > 0.5  # chance is 0.1
  lines = metrics.read()
  assert [line['step'] for line in lines] == [0, 20, 40, 60, 79]
  assert lines[-1]['loss'] < lines[0]['loss']
  assert lines[-1]['accuracy'] > lines[0]['accuracy']
  assert max(line['learning_rate'] for line in lines) <= 1e-2
  assert lines[-1]['learning_rate'] < 1e-4
  assert {line['phase'] for line in lines} == {'test'}


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
  path, metrics = tmp_path / 'run_0.2', Metrics(tmp_path / 'metrics.jsonl')
  with pytest.raises(Killed):
    fit(resumed, 60, Checkpoint(path, every=0.0), metrics=metrics)
  monkeypatch.setattr(Checkpoint, 'save_if_due', original)
  same(resumed, Tiny())  # a run that dies leaves the model alone
  checkpoint = Checkpoint(path)
  fit(resumed, 60, checkpoint, metrics=metrics)
  same(resumed, whole)
  assert [line['step'] for line in metrics.read()] == [0, 20, 40, 59]
  checkpoint.delete()
  assert not path.exists()


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


class Regression(nnx.Module):
  """A frozen layer in front, dropout behind: y = tail(dropout(head(x)))."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.head = nnx.Linear(4, 8, rngs=rngs)
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.tail = nnx.Linear(8, 1, rngs=rngs)

  def __call__(self, x):
    return self.tail(self.dropout(self.head(x)))


class Points:
  """Batches made on the host, with nothing kept on the device."""

  constants = ()
  size = 16

  def __call__(self, step):
    x = np.random.default_rng(step).normal(size=(16, 4)).astype('float32')
    return {'x': x, 'y': x.sum(1, keepdims=True)}

  def prepare(self, constants, batch, key):
    return batch | {'noise': jax.random.normal(key, (16, 1))}


def squares(model, batch, key):
  residual = model(batch['x']) - batch['y'] - 1e-3 * batch['noise']
  return (residual**2).mean(), {'worst': jnp.abs(residual).max()}


def test_any_loss_trains_what_the_filter_names_and_keeps_its_keys(tmp_path):
  model, metrics = Regression(), Metrics(tmp_path / 'metrics.jsonl')
  head, tail = model.head.kernel[...], model.tail.kernel[...]
  count = model.dropout.rngs.count[...]
  trainable = nnx.All(nnx.Param, nnx.PathContains('tail'))
  optimizer = train.Optimizer(optax.sgd(1e-2), lambda step: 1e-2)
  settings = train.Settings(25, optimizer, seed=0, trainable=trainable)
  checkpoint = Checkpoint(tmp_path / 'run_0.2', every=0.0)
  with Progress() as progress:
    train.fit(model, squares, Points(), settings, progress, 'points', checkpoint, metrics)
  np.testing.assert_array_equal(model.head.kernel[...], head)
  assert (model.tail.kernel[...] != tail).all()
  assert model.dropout.rngs.count[...] == count + 25
  lines = metrics.read()
  assert [line['step'] for line in lines] == [0, 20, 24]
  assert all(line['worst'] > 0 and line['learning_rate'] == 1e-2 for line in lines)


def test_every_update_may_be_watched_without_a_trace():
  """Whoever watches gets the model as it is then, and a copy of it stays what it was."""
  model, plain, seen = Regression(), Regression(), []
  settings = train.Settings(3, train.Optimizer(optax.sgd(1e-2), lambda step: 1e-2), seed=0)
  with Progress() as progress:
    train.fit(plain, squares, Points(), settings, progress, 'points')
    train.fit(
      model, squares, Points(), settings, progress, 'points',
      on_step=lambda now: seen.append(np.array(now().tail.kernel[...])),
    )  # fmt: skip
  np.testing.assert_array_equal(model.tail.kernel[...], plain.tail.kernel[...])
  assert len(seen) == 3
  np.testing.assert_array_equal(seen[-1], model.tail.kernel[...])
  assert all((a != b).any() for a, b in zip(seen, seen[1:]))


def test_a_checkpoint_keeps_every_kind_of_array(tmp_path):
  state = {
    'half': jnp.arange(3, dtype='bfloat16'), 'key': jax.random.key(3), 'count': jnp.int32(7),
    'keys': jax.random.split(jax.random.key(1), 2), 'phase': jnp.array([1j]),
    'none': jnp.zeros((0, 3)),
  }  # fmt: skip
  checkpoint = Checkpoint(tmp_path / 'run_0.2', every=0.0)
  checkpoint.save_if_due(jax.tree.map(jnp.zeros_like, state), 3)
  checkpoint.save_if_due(state, 5)
  assert {p.name for p in (tmp_path / 'run_0.2').iterdir()} == {'5'}
  found, step = checkpoint.restore(jax.tree.map(jnp.zeros_like, state))
  assert step == 5
  for name, leaf in state.items():
    assert found[name].dtype == leaf.dtype
    assert (found[name] == leaf).all()


@pytest.mark.parametrize('damage', ['empty', 'cut', 'bit', 'file', 'other'])
def test_a_damaged_checkpoint_starts_over(tmp_path, damage):
  path = tmp_path / 'run_0.2'
  checkpoint = Checkpoint(path, every=0.0)
  state = {'a': jnp.asarray(np.random.default_rng(0).normal(size=9999), 'float32')}
  checkpoint.save_if_due(state, 40)
  assert checkpoint.restore(state)[1] == 40
  largest = max((p for p in path.rglob('*') if p.is_file()), key=lambda p: p.stat().st_size)
  content = bytearray(largest.read_bytes())
  if damage == 'empty':
    shutil.rmtree(path / '40')
  elif damage == 'cut':
    largest.write_bytes(content[: len(content) // 2])
  elif damage == 'bit':
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
  elif damage == 'file':
    shutil.rmtree(path)
    path.touch()
  wanted = {'a': jnp.ones(299)} if damage == 'other' else state
  assert checkpoint.restore(wanted) == (wanted, 0)
  assert not path.exists()


def test_a_full_disk_is_told_before_orbax_meets_it(tmp_path, monkeypatch, capfd):
  """By what is free; what a checkpoint takes is measured, so that the estimate is no hope."""
  path = tmp_path / 'run_0.2'
  checkpoint = Checkpoint(path, every=0.0)
  state = [jnp.asarray(np.random.default_rng(i).normal(size=999 * i), 'float32') for i in range(30)]
  checkpoint.save_if_due(state, 20)
  blocks = sum(p.stat().st_blocks * 512 for p in path.rglob('*'))
  capfd.readouterr()
  usage = types.SimpleNamespace(free=blocks)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  with pytest.raises(OSError, match='No space left on device.*run_0.2'):
    checkpoint.save_if_due(state, 40)
  assert capfd.readouterr() == ('', '')
  assert checkpoint.restore(state)[1] == 20


def test_whatever_file_of_a_checkpoint_is_damaged_one_line_says_so(tmp_path, capfd, caplog):
  """Nothing is left to orbax, which would tell of it in a traceback for every array."""
  path = tmp_path / 'run_0.2'
  checkpoint = Checkpoint(path, every=0.0)
  state = [jnp.full(3, i, 'float32') for i in range(20)]
  checkpoint.save_if_due(state, 40)
  whole = {p.relative_to(path): p.read_bytes() for p in path.rglob('*') if p.is_file()}
  capfd.readouterr()
  for name, content in whole.items():
    for damage in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1]), None):
      for other, kept in whole.items():
        (path / other).parent.mkdir(parents=True, exist_ok=True)
        (path / other).write_bytes(kept)
      (path / name).unlink() if damage is None else (path / name).write_bytes(damage)
      caplog.clear()
      found, step = checkpoint.restore(state)
      assert (found, step) == (state, 0), name
      (record,) = caplog.records
      assert f'{path} cannot be read, starting over: ' in record.getMessage()
      out, errors = capfd.readouterr()
      assert not out
      assert len(errors.splitlines()) <= 1, errors
