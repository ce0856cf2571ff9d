import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import tnjax as tn
from tnjax.compression import reconstruct

STAGES = tuple(functools.partial(tn.models.CifarResNet.stage, index=b) for b in range(3))
STEPS = 6


def batches(update):
  return np.random.default_rng(update).uniform(size=(8, 8, 8, 1)).astype('float32')


@pytest.fixture(scope='module')
def models():
  """A teacher whose batch norm has statistics of its own, and a student compressed from it."""
  options = {'widths': (4, 4, 8), 'mean': (0.5,), 'std': (0.3,)}
  teacher = tn.models.cifar_resnet(8, 2, 'projection', **options, rngs=nnx.Rngs(0))
  for _, stat in nnx.to_flat_state(nnx.state(teacher, nnx.BatchStat)):
    stat[...] = stat[...] * 1.5 + 0.1
  student, _ = tn.compress(teacher, (('stages/.*', tn.schemes.svd(ranks=2)),))
  return student, teacher


@pytest.fixture(scope='module')
def trained(models):
  updates = []
  student, record = reconstruct(
    *models, STAGES, batches, STEPS, on_step=lambda update: updates.append(told(update))
  )
  return student, record, updates


def told(update):
  """Where it is, and the student then, on the host."""
  return update.stage, update.step, float(update.loss), flat(update.student())


def flat(model):
  state = nnx.to_flat_state(nnx.state(model))
  return {'/'.join(map(str, path)): np.array(v[...]) for path, v in state}


def test_each_stage_trains_its_own_parameters_and_no_others(models, trained):
  student, record, updates = trained
  before = flat(models[0])
  for index, stage in enumerate(record.stages):
    after = updates[(index + 1) * STEPS - 1][-1]
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed <= set(stage.trained)
    places = [f'stages/{index}/'] + ['conv/'] * (index == 0)
    assert all(name.startswith(tuple(places)) for name in stage.trained)
    assert {n for n in before if n.startswith(tuple(places))} - set(stage.trained) == {
      n for n in before if n.startswith(tuple(places)) and n.endswith(('mean', 'var'))
    }
    assert stage.trained_params == sum(before[name].size for name in stage.trained)
    assert 'stages/0/0/norm1/scale' in changed or index
    before = after
  assert {n: a.tolist() for n, a in flat(student).items()} == {
    n: a.tolist() for n, a in before.items()
  }


def test_losses_fall_and_the_record_counts(trained):
  _, record, updates = trained
  assert [(stage, step) for stage, step, *_ in updates] == [
    (b, i + 1) for b in range(3) for i in range(STEPS)
  ]
  assert [loss for *_, loss, _ in updates] == [x for s in record.stages for x in s.losses]
  for stage in record.stages:
    assert stage.losses[-1] < stage.losses[0]
  assert record.updates == 3 * STEPS
  assert record.cost == STEPS * sum(stage.trained_params for stage in record.stages)


def test_statistics_and_the_models_given_stay(models):
  before = [flat(model) for model in models]
  student, _ = reconstruct(*models, STAGES, batches, 1)
  for model, old in zip(models, before):
    for name, array in flat(model).items():
      np.testing.assert_array_equal(array, old[name])
  for name, array in flat(student).items():
    if name.endswith(('mean', 'var')) or name.startswith(('norm', 'linear')):
      np.testing.assert_array_equal(array, before[0][name])


def layers(sizes, seed):
  rngs = nnx.Rngs(seed)
  return nnx.Sequential(*(nnx.Linear(a, b, rngs=rngs) for a, b in zip(sizes, sizes[1:])))


def at(model, x, index):
  return jnp.tanh(model.layers[index](x))


PAIR = tuple(functools.partial(at, index=i) for i in range(2))


def test_it_is_the_loop_one_would_write():
  teacher, student = layers((5, 4, 3), 0), layers((5, 4, 3), 1)
  inputs = [np.random.default_rng(i).normal(size=(16, 5)).astype('float32') for i in range(7)]
  found, record = reconstruct(student, teacher, PAIR, iter(inputs), (4, 3))
  made = [{k: jnp.asarray(getattr(m, k)[...]) for k in ('kernel', 'bias')} for m in student.layers]
  fixed = [{k: jnp.asarray(getattr(m, k)[...]) for k in ('kernel', 'bias')} for m in teacher.layers]

  def through(layers, x):
    for layer in layers:
      x = jnp.tanh(x @ layer['kernel'] + layer['bias'][None])
    return x

  def loss(own, before, x, wanted):
    return jnp.mean((through([*before, own], x) - wanted) ** 2)

  adam, feed = optax.adam(1e-3), iter(inputs)
  for b, steps in enumerate((4, 3)):
    moments = adam.init(made[b])
    for i in range(steps):
      x = next(feed)
      value, gradient = jax.value_and_grad(loss)(made[b], made[:b], x, through(fixed[: b + 1], x))
      assert record.stages[b].losses[i] == pytest.approx(float(value), rel=1e-5)
      change, moments = adam.update(gradient, moments, made[b])
      made[b] = optax.apply_updates(made[b], change)
  for layer, wanted in zip(found.layers, made):
    for name, array in wanted.items():
      np.testing.assert_allclose(getattr(layer, name)[...], array, rtol=1e-4, atol=1e-6)


def test_a_weight_that_two_stages_share_is_trained_by_the_first():
  model = layers((4, 4, 4), 0)
  model.layers[1].kernel = model.layers[0].kernel
  other = layers((4, 4, 4), 1)
  _, record = reconstruct(model, other, PAIR, itertools.repeat(np.ones((2, 4), 'float32')), 1)
  assert [stage.trained for stage in record.stages] == [
    ('layers/0/bias', 'layers/0/kernel'), ('layers/1/bias',)
  ]  # fmt: skip


def test_students_of_one_structure_share_their_programs():
  x, teacher = np.ones((2, 4), 'float32'), layers((4, 4, 4), 0)
  traced = []

  def stage(model, x):
    traced.append(1)
    return at(model, x, 0)

  reconstruct(layers((4, 4, 4), 1), teacher, (stage,), itertools.repeat(x), 2)
  first = len(traced)
  reconstruct(layers((4, 4, 4), 2), teacher, (stage,), itertools.repeat(x), 2)
  assert len(traced) == first + 2  # the check of both models alone


def test_what_cannot_work_is_told_before_any_work():
  teacher, student = layers((4, 4, 3), 0), layers((4, 4, 3), 1)
  x = np.ones((2, 4), 'float32')

  def never(update):
    raise AssertionError('an update was made')

  def fails(words, student=student, teacher=teacher, stages=PAIR, batches=itertools.repeat(x),
            steps=2, **options):  # fmt: skip
    with pytest.raises(ValueError, match=words) as found:
      reconstruct(student, teacher, stages, batches, steps, on_step=never, **options)
    assert '\n' not in str(found.value)

  fails('student is a dict; it must be an NNX model', student={})
  fails('at least one', stages=())
  for stages in (('layers/0',), 'layers/0', None):
    fails('stages=.* must be functions', stages=stages)
  fails('optimizer=0.001 must be of optax', optimizer=1e-3)
  fails(r'stages\[1\] gives float32\(2, 3\) for the student and float32\(2, 2\) for the teacher',
        teacher=layers((4, 4, 2), 0))  # fmt: skip
  fails(r'stages\[1\] uses no parameter', stages=(PAIR[0], lambda model, x: 2 * x))
  fails(r'stages\[0\] of the student gives .*int32', stages=(lambda model, x: x.argmax(1),))
  for steps in (0, -1, 1.5, 'x', (1, 0)):
    fails('steps=', steps=steps)
  fails(r'steps=\(1, 2, 3\) has 3 entries; there are 2 stages', steps=(1, 2, 3))
  fails('batches is a int', batches=3)
  fails('batches gives a NoneType first', batches=[])
  fails('batches gives a tuple first', batches=lambda update: (x, 0))
  bad = layers((4, 4, 3), 1)
  bad.layers[1].kernel[...] = jnp.full((4, 3), jnp.nan)
  fails(r'teacher: layers/1/kernel, of shape \(4, 3\), has NaN', teacher=bad)


def test_batches_that_end_early_say_how_many_are_needed():
  x = np.ones((2, 4), 'float32')
  with pytest.raises(ValueError, match='batches ended early; 4 updates need as many'):
    reconstruct(layers((4, 4, 3), 0), layers((4, 4, 3), 1), PAIR, [x] * 3, 2)


def test_an_optimizer_of_ones_own_and_a_loss_that_breaks_down():
  x, models = np.ones((2, 4), 'float32'), (layers((4, 4, 3), 0), layers((4, 4, 3), 1))
  student, record = reconstruct(
    *models, PAIR[:1], itertools.repeat(x), 3, optimizer=optax.sgd(float('nan'))
  )
  assert np.isfinite(record.stages[0].losses[0])
  assert np.isnan(record.stages[0].losses[-1])
