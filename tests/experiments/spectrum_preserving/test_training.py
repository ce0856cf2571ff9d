import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from experiments.spectrum_preserving import training
from experiments.spectrum_preserving.config import Config


def test_every_method_spends_the_same_number_of_updates():
  for whole in (6, 7, 351):
    for method in ('e2e', 'seq', 'seq_e2e'):
      found = training.plan(Config(updates=whole), method, 3, 100)
      assert found.updates == whole
      assert all(found.stages)
      assert max(found.stages, default=0) - min(found.stages, default=0) <= 1
      assert (found.e2e == 0) == (method == 'seq')
  assert training.plan(Config(updates=351), 'seq_e2e', 3, 100) == ((59, 58, 58), 176)


def test_epochs_take_the_place_of_updates():
  config = Config(updates=12, stage_epochs=2, e2e_epochs=5)
  assert training.plan(config, 'seq', 3, 10) == ((20, 20, 20), 0)
  assert training.plan(config, 'e2e', 3, 10) == ((), 50)


def test_too_few_updates_are_refused():
  with pytest.raises(ValueError, match='--updates=2 leaves a part of --methods=seq without any'):
    training.plan(Config(updates=2), 'seq', 3, 100)
  with pytest.raises(ValueError, match='it needs at least 6'):
    training.plan(Config(updates=5), 'seq_e2e', 3, 100)


def test_a_curve_measures_at_equal_distances_and_at_the_end():
  for updates, points in ((12, 4), (7, 3), (3, 8)):
    curve = training.Curve(updates, points, lambda model: model / 100)
    for i in range(updates):
      curve.step(10, lambda i=i: i)
    at = [point['updates'] for point in curve.points]
    assert len(at) == min(updates, points)
    assert at[-1] == updates
    assert [p['cost'] for p in curve.points] == [10 * n for n in at]
    assert [p['accuracy'] for p in curve.points] == [(n - 1) / 100 for n in at]


def test_every_network_has_its_stages():
  rngs = nnx.Rngs(0)
  resnet = tn.models.cifar_resnet(8, widths=(4, 4, 4), rngs=rngs)
  for model, count in ((resnet, 3), (tn.models.mlp((8, 8), rngs=rngs), 2),
                       (tn.models.lenet(rngs=rngs), 1)):  # fmt: skip
    assert len(training.stages(model)) == count
    assert training.stages(model) is training.stages(nnx.clone(model))


def test_the_papers_rate_falls_three_times():
  rate = training._sgd(250, 64).rate
  found = [float(rate(step)) for step in (0, 99, 101, 149, 151, 199, 201, 249)]
  np.testing.assert_allclose(found, np.repeat([0.05, 0.005, 0.0005, 0.00005], 2), rtol=1e-5)
