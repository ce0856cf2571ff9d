"""How hourglasses are trained and measured."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.pose import rendered, seeded


class Constant:
  """A model of two stacks that finds the same everywhere."""

  def __init__(self, *values):
    self.values = jnp.array(values)

  def __call__(self, images, train):
    assert train
    return jnp.broadcast_to(self.values[:, None, None, None, None], (2, len(images), 4, 4, 3))


def test_the_loss_is_of_joints_that_count_and_of_every_stack():
  counted = jnp.array([[True, False, True], [False, False, True]])
  wanted = jnp.where(counted[:, None, None], 0.0, 1e3) * jnp.ones((2, 4, 4, 3))
  batch = jnp.zeros((2, 16, 16, 3)), wanted, counted
  loss, found = seeded.mse(Constant(1.0, 3.0), batch, jax.random.key(0))
  assert float(loss) == pytest.approx(1 + 9)
  assert float(found['last_stack']) == pytest.approx(9)
  nobody = *batch[:2], jnp.zeros((2, 3), bool)
  assert float(seeded.mse(Constant(1.0, 3.0), nobody, jax.random.key(0))[0]) == 0


def test_the_rate_falls_from_the_paper_s_first_to_its_last():
  rate = seeded.Seeded.optimizer(None, 1000, 2.5e-4).rate
  found = [float(rate(step)) for step in range(1000)]
  assert found[0] == pytest.approx(2.5e-4)
  assert found[-1] == pytest.approx(1e-6)
  assert len(set(np.round(np.log10(found), 3))) == 3
  assert found == sorted(found, reverse=True)


def test_the_update_is_that_of_torch():
  """From zero moments the first one is ten times the rate: 1 / sqrt(1 - 0.99)."""
  transform = seeded.Seeded.optimizer(None, 10, 1e-3).transform
  params = {'a': jnp.array([1.0, 1.0])}
  state = transform.init(params)
  updates, _ = transform.update({'a': jnp.array([5.0, -0.1])}, state, params)
  np.testing.assert_allclose(updates['a'], [-0.01, 0.01], rtol=1e-4)


def test_scores_are_pckh_where_there_are_boxes_of_heads_and_pck_elsewhere():
  people = rendered.figures(4, 4, 32, 0).validation.people
  found = seeded.scores(people.joints, people)
  assert (found['metric'], found['accuracy'], found['pck']) == ('pck', 1.0, 1.0)
  assert found['pckh'] is None  # as JSON has it
  assert found['joints'] == dict.fromkeys(people.layout.names, 1.0)
  assert (found['counted'], found['left_out']) == (4, 0)
  wide = people.joints + np.array([1e3, 0], 'float32')
  assert seeded.scores(wide, people)['accuracy'] == 0
  headless = people.annotated.copy()
  headless[:, people.layout.index('head top')] = False
  heads = np.full(4, 9.0)
  found = seeded.scores(wide, dataclasses.replace(people, annotated=headless, heads=heads))
  assert (found['metric'], found['accuracy'], found['pckh']) == ('pckh', 0, 0)
  assert found['joints']['head top'] is None
