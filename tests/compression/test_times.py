"""What a compressed layer takes, expected and measured, and the objective that asks for time."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import tnjax as tn

RULES = (('stages/.*', tn.schemes.tk(rate=0.2)), ('linear', tn.schemes.svd(ranks=1)))


def net():
  return tn.models.cifar_resnet(8, rngs=nnx.Rngs(0))


def test_time_is_the_planners_and_slower_layers_are_named():
  table = tn.compression.plan(net(), RULES, input_shape=(32, 32, 3))
  rows = {row.path: row for row in table.compressed}
  row = rows['stages/2/0/conv2']
  p = tn.schemes.tk(rate=0.2).bind((3, 3, 64, 64))
  geometry = tn.nn.conv_geometry(net().stages[2][0].conv2, (8, 8))
  problem = tn.contraction.Problem(p.network, p.fold.inputs, p.fold.outputs, geometry, 32, (8, 8))
  found = tn.contraction.schedule(problem)
  assert (row.seconds, row.dense_seconds) == (found.seconds, found.dense_seconds)
  assert row.time_ratio == found.seconds / found.dense_seconds
  slow = [row.path for row in table.compressed if row.time_ratio > 1]
  fast = [row.path for row in table.compressed if row.time_ratio < 1]
  assert slow  # both kinds, or the next line says nothing
  assert fast
  (note,) = [line for line in str(table).splitlines() if line.startswith('! slower')]
  assert note.split(': ')[1].split(', ') == slow
  assert 'expected' in note


def test_objective_time_keeps_slower_layers_dense():
  model = net()
  every = tn.compression.plan(model, RULES, input_shape=(32, 32, 3))
  small, some = tn.compress(model, RULES, input_shape=(32, 32, 3), objective='time')
  wanted = [row.path for row in every.compressed if not row.slower]
  assert [row.path for row in some.compressed] == wanted
  for row in every.compressed:
    left = next(r for r in some.layers if r.path == row.path)
    assert ('times as long' in left.reason) == row.slower
  made = [p for p, place in tn.compression.walk(small).items() if place.factorised]
  assert made == wanted


def test_a_rebuilt_weight_is_slower_than_the_dense_one():
  conv = nnx.Conv(16, 16, (3, 3), rngs=nnx.Rngs(0))
  grouped = nnx.Conv(16, 16, (3, 3), feature_group_count=2, rngs=nnx.Rngs(0))
  for layer, scheme in ((conv, tn.schemes.shuffled(rate=0.2)), (grouped, tn.schemes.tk(rate=0.2))):
    (row,) = tn.compression.plan(layer, (('', scheme),), input_shape=(8, 8, 16)).layers
    assert row.rebuilt
    assert row.slower
    table = tn.compression.plan(layer, (('', scheme),), input_shape=(8, 8, 16), objective='time')
    assert table.compressed == ()


def test_measured_times_take_the_place_of_expected_ones():
  model = nnx.Sequential(*(nnx.Linear(512, 512, rngs=nnx.Rngs(0)) for _ in range(3)))
  rules = (('layers/0', tn.schemes.shuffled(rate=0.2)), ('.*', tn.schemes.svd(ranks=1)))
  _, table = tn.compress(
    model, rules, jax.random.key(0), input_shape=(512,), measure=True, objective='time'
  )
  shuffled, first, second = table.layers
  assert 'times as long' in shuffled.reason
  for row in (first, second):
    assert row.time_ratio == row.measured_seconds / row.measured_dense_seconds < 1
  assert first.measured_seconds == second.measured_seconds  # layers alike are measured once
  assert first.seconds != first.measured_seconds


def test_a_layer_called_twice_takes_twice_as_long_and_a_factorised_one_is_compared_as_it_is():
  class Twice(nnx.Module):
    def __init__(self, layer):
      self.layer = layer

    def __call__(self, x):
      return self.layer(self.layer(x))

  layer = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
  rules = (('.*', tn.schemes.svd(ranks=4)),)
  once = tn.compression.plan(layer, (('', rules[0][1]),), input_shape=(64,)).layers[0]
  twice = tn.compression.plan(Twice(layer), rules, input_shape=(64,)).layers[0]
  assert (twice.seconds, twice.dense_seconds) == (2 * once.seconds, 2 * once.dense_seconds)
  small, _ = tn.compress(layer, (('', rules[0][1]),))
  again = tn.compression.plan(small, (('', tn.schemes.svd(ranks=2)),), input_shape=(64,)).layers[0]
  assert again.dense_seconds == once.seconds


def test_layers_that_are_called_without_a_batch_are_measured():
  class Each(nnx.Module):
    def __init__(self):
      self.linear = nnx.Linear(64, 64, rngs=nnx.Rngs(0))
      self.conv = nnx.Conv(1, 8, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, x):
      return jax.vmap(self.linear)(x), jax.vmap(self.conv)(x.reshape(-1, 8, 8, 1))

  rules = (('linear', tn.schemes.svd(ranks=2)), ('conv', tn.schemes.tk(ranks=1)))
  table = tn.compression.plan(Each(), rules, input_shape=(64,), measure=True)
  assert len(table.compressed) == 2
  assert all(row.measured_seconds > 0 for row in table.compressed)


def test_of_a_stack_the_time_is_expected_and_said_to_be():
  class Both(nnx.Module):
    def __init__(self):
      @nnx.split_rngs(splits=3)
      @nnx.vmap(in_axes=0, out_axes=0)
      def stack(rngs):
        return nnx.Linear(8, 8, rngs=rngs)

      self.stack, self.last = stack(nnx.Rngs(0)), nnx.Linear(8, 8, rngs=nnx.Rngs(0))

    def __call__(self, x):
      run = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
      return self.last(run(x, self.stack))

  rules = (('.*', tn.schemes.shuffled(ranks=1)),)
  table = tn.compression.plan(Both(), rules, input_shape=(8,), measure=True)
  measured = {row.path: row.measured_seconds is not None for row in table.layers}
  assert measured == {'last': True, 'stack': False}
  assert [r.slower for r in table.layers if r.path == 'stack'] == [True]
  assert '! slower than before, expected here with a batch of 32: stack' in str(table)


def test_nothing_is_timed_before_all_is_checked(monkeypatch):
  monkeypatch.setattr('tnjax.compression._times.measured', None)  # would be called
  layer = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='pass key=jax.random.key'):
    tn.compress(layer, (('', tn.schemes.shuffled(ranks=1)),), input_shape=(8,), measure=True)


def test_what_has_no_time_stays_without():
  class Table(nnx.Module):
    def __init__(self):
      self.embed = nnx.Embed(64, 64, rngs=nnx.Rngs(0))

    def __call__(self, ids):
      return self.embed(ids.astype(jnp.int32))

  rules = (('.*', tn.schemes.svd(ranks=2)),)
  table = tn.compression.plan(Table(), rules, input_shape=(5,), objective='time', measure=True)
  assert table.compressed[0].time_ratio is None
  assert not table.compressed[0].slower


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'objective': 'speed', 'input_shape': (8,)}, "objective='speed' must be one of params, time"),
    ({'objective': 'time'}, "input_shape=None: objective='time' needs the shape"),
    ({'measure': True}, 'input_shape=None: measure=True needs the shape'),
  ],
)
def test_options_that_cannot_be(options, words):
  layer = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=words):
    tn.compress(layer, (('', tn.schemes.svd(ranks=1)),), **options)
