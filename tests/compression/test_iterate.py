import jax
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from tnjax.compression import Schedule, Step, describe, iterate


class Net(nnx.Module):
  def __init__(self, rngs):
    self.conv = nnx.Conv(8, 12, (3, 3), rngs=rngs)
    self.point = nnx.Conv(12, 12, (1, 1), rngs=rngs)
    self.linear = nnx.Linear(12, 8, rngs=rngs)

  def __call__(self, x):
    return self.linear(self.point(self.conv(x)).mean((1, 2)))


HALVES = {'conv': tn.schemes.tk(rate=0.5), 'matrix': tn.schemes.svd(rate=0.6)}
ALL = Schedule(('conv', 'point|linear'), passes=2, **HALVES)


def net():
  return Net(nnx.Rngs(0))


def same(model, step):
  return model


def nudged(model, step):
  """What stands for training: a small change that depends on the step."""
  state = jax.tree.map(lambda a: a + 1e-3 * (step.index + 1), nnx.state(model, nnx.Param))
  nnx.update(model, state)
  return model


def equal(a, b):
  jax.tree.map(np.testing.assert_array_equal, nnx.state(a), nnx.state(b))


def test_passes_shrink_layers_that_stay_what_they_are(monkeypatch):
  model = net()
  before = jax.tree.map(np.asarray, nnx.state(model))
  for room in (tn.schemes._held, tn.nn._factorised):  # no dense weight is rebuilt
    monkeypatch.setattr(room, 'rebuild', None)
  done = iterate(model, ALL, same, lambda model: 1.0, input_shape=(6, 6, 8))
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))
  assert [row.step.paths for row in done.steps] == [('conv',), ('linear', 'point')] * 2
  sizes = [row.report.params for row in done.steps]
  assert sizes == sorted(sizes, reverse=True)
  assert done.steps[0].report.dense_params == sum(v.size for v in jax.tree.leaves(before))
  assert isinstance(done.model.conv, tn.nn.Conv)
  assert len(done.model.conv.parametrization.names) == 3  # of one Tucker-2, no chain of five
  kernel = done.steps[2].report.compressed[0]
  assert kernel.was == 'tk'
  assert kernel.params <= 0.55 * kernel.dense_params
  assert kernel.params <= 0.3 * 3 * 3 * 8 * 12
  assert all(row.report.macs is not None for row in done.steps)
  assert len(str(done).splitlines()) == 6


def test_two_passes_are_as_good_as_the_same_ranks_at_once():
  two = iterate(net(), ALL, same, lambda model: 1.0)
  ranks = two.model.conv.parametrization.ranks
  once, _ = tn.compress(net(), (('conv', tn.schemes.tk(ranks=ranks)),))
  kernel = np.asarray(net().conv.kernel[...])
  errors = [np.linalg.norm(m.conv.kernel - kernel) for m in (two.model, once)]
  np.testing.assert_allclose(errors[0], errors[1], rtol=0.02)


def test_evbmf_goes_on_from_the_present_ranks():
  rng = np.random.RandomState(0)
  model = nnx.Sequential(nnx.Linear(40, 60, rngs=nnx.Rngs(0)))
  weight = rng.randn(40, 12) @ rng.randn(12, 60) + 0.1 * rng.randn(40, 60)
  model.layers[0].kernel = nnx.Param(weight.astype('float32'))
  schedule = Schedule('layers/0', passes=2, matrix=tn.schemes.svd(ranks=tn.ranks.Evbmf(0.7)))
  found = [row.report.compressed for row in iterate(model, schedule, same, lambda m: 1.0).steps]
  first, second = (rows[0].ranks[0] for rows in found)
  assert first == int(40 - 0.7 * (40 - 12))
  assert second == int(first - 0.7 * (first - 12))


def test_rules_by_hand_or_budget_touch_their_group_alone():
  asked = []

  def rules(model, step):
    asked.append(step)
    return tn.compression.budget(model, tn.schemes.tk(rate=1.0), params_ratio=0.5)[0]

  done = iterate(net(), Schedule(('conv',), rules=rules), same, lambda model: 1.0)
  assert asked == [Step(0, 0, 'conv')]
  assert isinstance(done.model.conv, tn.nn.Conv)
  assert isinstance(done.model.linear, nnx.Linear)


def test_fine_tuning_that_does_harm_is_not_kept():
  def evaluate(model):
    return -float(np.abs(np.asarray(model.linear.bias[...])).sum())

  done = iterate(net(), Schedule('conv', **HALVES), nudged, evaluate)
  row = done.steps[0]
  assert not row.tuned
  assert row.accuracy == row.accuracy_compressed == 0
  assert (np.asarray(done.model.linear.bias[...]) == 0).all()


def test_the_path_is_drawn():
  matplotlib = pytest.importorskip('matplotlib.figure')
  told = iter((0.9, 0.4, 0.8, 0.3, 0.7))
  schedule = Schedule('conv', **HALVES, passes=2)
  done = iterate(net(), schedule, nudged, lambda model: next(told))
  axes = matplotlib.Figure().subplots()
  assert done.plot(axes) is axes
  sizes = [row.report.params for row in done.steps]
  xs, ys = axes.lines[0].get_data()
  assert list(xs) == [done.steps[0].report.dense_params, *np.repeat(sizes, 2)]
  assert list(ys) == [0.9, 0.4, 0.8, 0.3, 0.7]
  assert sizes == sorted(sizes, reverse=True)
  assert axes.xaxis_inverted()


def test_an_interrupted_run_goes_on_and_ends_the_same(tmp_path):
  file, calls = tmp_path / 'state.safetensors', []

  def dies(model, step):
    if step.index == 2:
      raise KeyboardInterrupt
    return nudged(model, step)

  def counted(model, step):
    calls.append(step.index)
    return nudged(model, step)

  def evaluate(model):
    return float(model.linear.bias[...].sum())

  whole = iterate(net(), ALL, nudged, evaluate)
  with pytest.raises(KeyboardInterrupt):
    iterate(net(), ALL, dies, evaluate, checkpoint=file)
  assert len(describe(file)['notes']['steps']) == 2
  done = iterate(net(), ALL, counted, evaluate, checkpoint=file)
  assert calls == [2, 3]
  equal(done.model, whole.model)
  assert done.steps == whole.steps
  assert done.accuracy == whole.accuracy
  again = iterate(net(), ALL, counted, evaluate, checkpoint=file)
  assert calls == [2, 3]
  equal(again.model, whole.model)
  with pytest.raises(ValueError, match='has schedule .* this call has'):
    iterate(net(), Schedule('conv', **HALVES), nudged, evaluate, checkpoint=file)
  keyed = iterate(net(), ALL, nudged, evaluate, jax.random.key(0), checkpoint=file)
  equal(keyed.model, whole.model)  # nothing was drawn without one
  with pytest.raises(ValueError, match='has model .* this call has'):
    iterate(Net(nnx.Rngs(1)), ALL, nudged, evaluate, checkpoint=file)
  tn.save(file, net())
  with pytest.raises(ValueError, match='iterate did not write'):
    iterate(net(), ALL, nudged, evaluate, checkpoint=file)


def to_nan(model, step):
  model.conv.core[...] *= np.nan
  return model


def to_other(model, step):
  model.linear = nnx.Linear(12, 5, rngs=nnx.Rngs(0))
  return model


@pytest.mark.parametrize(
  ('kind', 'fine_tune', 'words'),
  [
    (FloatingPointError, to_nan, r"step 0 \(pass 0, group 'conv'\): after fine_tune conv/core has"),
    (ValueError, to_other, r'fine_tune returned another model: linear/\w+ has shape'),
    (ValueError, lambda model, step: None, 'fine_tune returned a NoneType'),
    (ValueError, lambda model, step: tn.to_dense(model), 'returned another model: conv/core'),
  ],
)
def test_what_fine_tune_may_not_return(kind, fine_tune, words):
  with pytest.raises(kind, match=words):
    iterate(net(), Schedule('conv', **HALVES), fine_tune, lambda model: 1.0)


def test_bad_schedules_and_accuracies_are_told_before_any_work():
  calls = []

  def evaluate(model):
    calls.append(1)
    return float('nan')

  for schedule, words in (
    (Schedule('nothing'), "'nothing' matches no layer"),
    (Schedule(('.*', 'conv')), "group 'conv' has no layer of its own"),
  ):
    with pytest.raises(ValueError, match=words):
      iterate(net(), schedule, same, evaluate)
  assert not calls
  with pytest.raises(FloatingPointError, match='before the first step: evaluate gave nan'):
    iterate(net(), Schedule('conv', **HALVES), same, evaluate)
  for fields, words in (
    ({'groups': ()}, r'groups=\(\) must be patterns'),
    ({'groups': 'conv', 'passes': 0}, 'passes'),
    ({'groups': 'conv', 'conv': 'tk'}, 'conv is'),
    ({'groups': 'conv', 'rules': (('conv', HALVES['conv']),)}, 'must be a function'),
  ):
    with pytest.raises(ValueError, match=words):
      Schedule(**fields)


def test_a_missing_key_is_told_before_any_work():
  solver = tn.schemes.Solver('cp_als', restarts=2)
  schedule = Schedule(
    ('point', 'conv'), matrix=HALVES['matrix'], conv=tn.schemes.cp(0.5, solver=solver)
  )
  calls = []
  with pytest.raises(ValueError, match='key=None: cp for conv draws'):
    iterate(net(), schedule, same, lambda model: calls.append(1) or 1.0)
  assert not calls
  done = iterate(net(), schedule, same, lambda model: 1.0, jax.random.key(0))
  assert done.steps[1].step.paths == ('conv',)


def test_a_layer_that_cannot_be_served_stays_beside_others():
  model = net()
  mask = np.ones((1, 1, 12, 12), 'float32')
  model.point = nnx.Conv(12, 12, (1, 1), mask=mask, rngs=nnx.Rngs(1))
  done = iterate(model, Schedule(('conv', 'point|linear'), 2, **HALVES), same, lambda model: 1.0)
  assert [row.step.paths for row in done.steps] == [('conv',), ('linear',)] * 2
  for row in done.steps[1::2]:
    assert 'mask' in next(r for r in row.report.layers if r.path == 'point').reason


def test_a_rate_of_a_layer_that_stores_more_than_a_dense_one_is_at_most_one():
  model = nnx.Sequential(nnx.Linear(6, 6, rngs=nnx.Rngs(0)), nnx.Linear(6, 6, rngs=nnx.Rngs(1)))
  model.layers[1] = tn.nn.Linear.from_dense(model.layers[1], tn.schemes.svd(ranks=6))
  schedule = Schedule('.*', matrix=tn.schemes.svd(rate=0.9))
  done = iterate(model, schedule, same, lambda model: 1.0)
  assert done.steps[0].step.paths == ('layers/1',)
  assert done.steps[0].report.layers[1].params <= 36


def test_a_checkpoint_of_other_batch_statistics_is_refused(tmp_path):
  model = nnx.Sequential(nnx.Linear(6, 6, rngs=nnx.Rngs(0)), nnx.BatchNorm(6, rngs=nnx.Rngs(0)))
  schedule = Schedule('layers/0', matrix=tn.schemes.svd(rate=0.5))
  iterate(model, schedule, same, lambda model: 1.0, checkpoint=tmp_path / 'a.safetensors')
  model.layers[1].mean[...] += 1
  with pytest.raises(ValueError, match='has model .*; this call has'):
    iterate(model, schedule, same, lambda model: 1.0, checkpoint=tmp_path / 'a.safetensors')


def test_layers_too_small_to_compress_stay_and_nothing_is_tuned():
  tuned = []
  model = nnx.Sequential(nnx.Linear(6, 6, rngs=nnx.Rngs(0)))
  done = iterate(model, Schedule('.*'), lambda m, s: tuned.append(s) or m, lambda model: 0.5)
  assert done.steps[0].step.paths == ()
  assert 'would store' in done.steps[0].report.layers[0].reason
  assert not tuned
