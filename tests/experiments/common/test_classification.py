import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.common import data
from experiments.common.classification import Batches, augment, cross_entropy, evaluate
from experiments.common.progress import Progress


def test_augmentation_shifts_and_mirrors_whole_images():
  images = jax.random.uniform(jax.random.key(0), (64, 6, 6, 2))
  out = np.asarray(augment(images, jax.random.key(1), 1, True))
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
  np.testing.assert_array_equal(augment(images, jax.random.key(1), 0, False), images)


def test_every_image_is_seen_once_an_epoch():
  dataset = data.digits(0)
  dataset = dataclasses.replace(dataset, train=data.Split(*(a[:650] for a in arrays(dataset))))
  batches = Batches(dataset, 64, seed=0)
  assert batches.steps(2) == 20
  first, second = (np.concatenate([batches(10 * e + i) for i in range(10)]) for e in (0, 1))
  for seen in (first, second):
    assert len(set(seen.tolist())) == 640
    assert max(seen) < 650
  assert (first != second).any()


def arrays(dataset):
  return dataset.train.images, dataset.train.labels


def test_a_batch_has_the_labels_of_its_images():
  dataset = dataclasses.replace(data.digits(0), crop=0)
  batches = Batches(dataset, 64, seed=0)
  chosen = batches(3)
  images, labels = batches.prepare(batches.constants, chosen, jax.random.key(0))
  np.testing.assert_array_equal(images * 16, dataset.train.images[chosen])
  np.testing.assert_array_equal(labels, dataset.train.labels[chosen])


def test_cross_entropy_and_accuracy_by_hand():
  logits = jnp.array([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
  found, metrics = cross_entropy(lambda images, train: images, (logits, jnp.array([0, 1, 0])), None)
  each = [np.log1p(np.exp(-2.0)), np.log1p(np.exp(1.0)), np.log(2.0)]
  assert float(found) == pytest.approx(np.mean(each), rel=1e-6)
  assert float(metrics['accuracy']) == pytest.approx(2 / 3)


class Linear(nnx.Module):
  def __init__(self):
    self.out = nnx.Linear(64, 10, rngs=nnx.Rngs(0))

  def __call__(self, images):
    return self.out(images.reshape(len(images), -1))


@pytest.mark.parametrize('batch', [1000, 100, 7])
def test_evaluation_counts_every_image_once(batch):
  model, test = Linear(), data.digits(0).test
  by_hand = model(jnp.asarray(test.images / 16.0, 'float32')).argmax(-1) == test.labels
  with Progress() as progress:
    assert evaluate(model, test, 16.0, batch, progress) == pytest.approx(float(by_hand.mean()))
