"""Multiply-adds are counted as often as a layer really runs."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import tnjax as tn

DENSE = (('.*', None),)


def linear(seed=0):
  return nnx.Linear(8, 8, rngs=nnx.Rngs(seed))


class Net(nnx.Module):
  """A layer, and how the model calls it."""

  def __init__(self, how, layer=None):
    self.layer = layer or linear()
    self.how = how

  def __call__(self, x):
    return self.how(self.layer, x)


def stack(count):
  @nnx.split_rngs(splits=count)
  @nnx.vmap(in_axes=0, out_axes=0)
  def make(rngs):
    return nnx.Linear(8, 8, rngs=rngs)

  return make(nnx.Rngs(0))


def nnx_scan(layer, x):
  run = nnx.scan(lambda x, layer: layer(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
  return run(x, layer)


def nnx_fori(layer, x):
  return nnx.fori_loop(0, 5, lambda i, c: (c[0], c[0](c[1])), (layer, x))[1]


def nested(layer, x):
  once = jax.jit(layer)

  def inner(x, _):
    return jax.lax.fori_loop(0, 3, lambda i, x: once(x), once(x)), None

  return jax.lax.scan(inner, x, length=2)[0]


def branches(layer, x):
  twice = jax.lax.cond(x.sum() > 0, lambda x: layer(layer(x)), lambda x: layer(x), x)
  return jax.lax.switch(2, [lambda x: x, layer, lambda x: 2 * x], twice)


def ensemble(layer, x):
  return nnx.vmap(lambda layer, x: layer(x), in_axes=(0, None))(layer, x)


def over_inputs(layer, x):
  return jax.vmap(jax.vmap(layer))(jnp.broadcast_to(x, (3, 2, *x.shape)))


COUNTS = {
  'scan': (lambda layer, x: jax.lax.scan(lambda x, _: (layer(x), None), x, length=7)[0], None, 7),
  'fori_loop': (lambda layer, x: jax.lax.fori_loop(0, 5, lambda i, x: layer(x), x), None, 5),
  'nnx.fori_loop': (nnx_fori, None, 5),
  'nested': (nested, None, 8),
  'remat': (lambda layer, x: nnx.remat(lambda layer, x: layer(x))(layer, x), None, 1),
  'cond': (branches, None, 3),
  'a stack scanned': (nnx_scan, lambda: stack(3), 3),
  'a stack at once': (ensemble, lambda: stack(3), 3),
  'vmap': (over_inputs, None, 6),
}


@pytest.mark.parametrize('name', COUNTS)
def test_calls_are_counted_as_often_as_they_run(name):
  how, layer, count = COUNTS[name]
  with nnx.set_graph_mode(True):
    model = Net(how, layer and layer())
    report = tn.compression.plan(model, (('.*', tn.schemes.svd(ranks=2)),), input_shape=(8,))
    assert (report.dense_macs, report.macs) == (count * 64, count * 32)


def test_a_recurrent_network():
  class Recurrent(nnx.Module):
    def __init__(self):
      self.embed = nnx.Linear(24, 8, rngs=nnx.Rngs(0))
      self.rnn = nnx.RNN(nnx.LSTMCell(8, 16, rngs=nnx.Rngs(0)))

    def __call__(self, x):
      return self.rnn(self.embed(x))

  report = tn.compression.plan(Recurrent(), DENSE, input_shape=(100, 24))
  assert report.macs == 100 * (24 * 8 + 4 * (8 * 16 + 16 * 16))


def test_the_length_of_a_while_loop_is_not_known():
  def forever(layer, x):
    return jax.lax.while_loop(lambda x: x.sum() < 9, layer, x)

  model = Net(forever)
  report = tn.compression.plan(model, DENSE, input_shape=(8,))
  assert report.macs is report.dense_macs is None
  with pytest.raises(ValueError, match=r"'layer'.*none in a while loop"):
    tn.compression.budget(model, tn.schemes.svd(rate=0.5), macs_ratio=0.5, input_shape=(8,))


def test_models_without_values_have_the_same_table():
  class Noisy(nnx.Module):
    """With keys, statistics and a shared layer."""

    def __init__(self):
      rngs = nnx.Rngs(0)
      self.first = linear()
      self.rest = nnx.Sequential(
        nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.5, rngs=rngs), self.first, linear(1)
      )

    def __call__(self, x):
      return self.rest(self.first(x))

  with nnx.set_graph_mode(True):
    rules = (('first', tn.schemes.r_cp(ranks=2)), ('.*', tn.schemes.shuffled(ranks=1)))
    abstract = nnx.eval_shape(lambda: Noisy())
    tables = [tn.compression.plan(m, rules, input_shape=(8,)) for m in (abstract, Noisy())]
    assert tables[0] == tables[1]
    shapes = nnx.state(tn.compression.skeleton(abstract, rules))
    made, _ = tn.compress(Noisy(), rules, jax.random.key(0))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, nnx.state(made))


def test_work_that_rises_is_marked_and_a_rebuilt_kernel_said_so():
  model = nnx.Conv(64, 64, (1, 1), rngs=nnx.Rngs(0))
  for scheme, raised in ((tn.schemes.r_tt(rate=0.5), True), (tn.schemes.svd(rate=0.1), False)):
    table = tn.compression.plan(model, (('', scheme),), input_shape=(8, 8, 64))
    (row,) = table.layers
    assert (row.macs > row.dense_macs) == row.raised == raised
    assert ('! more multiply-adds than before' in str(table)) == raised
    p = scheme.bind((1, 1, 64, 64))
    geometry = tn.nn.conv_geometry(model, (8, 8))
    ends = (p.fold.inputs, p.fold.outputs)
    problem = tn.contraction.Problem(p.network, *ends, geometry, 32, (8, 8))
    assert row.rebuilt == tn.contraction.schedule(problem).rebuilds
    assert ('* rebuilt at every call' in str(table)) == row.rebuilt
  assert row.rebuilt is False
  shuffled = tn.compression.plan(
    model, (('', tn.schemes.shuffled(rate=0.1)),), input_shape=(8, 8, 64)
  )
  assert shuffled.layers[0].rebuilt
  assert tn.compression.plan(model, (('', scheme),)).layers[0].rebuilt is None
