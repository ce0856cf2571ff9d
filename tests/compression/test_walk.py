"""Which layers of a model `compress` finds, however they are held."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

KEY = jax.random.key(0)
SVD = tn.schemes.svd(rate=0.5)


class ViT(nnx.Module):
  """A small vision transformer: patches, attention, a multilayer perceptron, twice."""

  def __init__(self, rngs):
    self.patches = nnx.Conv(3, 16, (4, 4), strides=4, rngs=rngs)
    self.blocks = nnx.List(
      nnx.Dict(
        norm=nnx.LayerNorm(16, rngs=rngs),
        attention=nnx.MultiHeadAttention(4, 16, decode=False, rngs=rngs),
        mlp=nnx.Sequential(
          nnx.Linear(16, 32, rngs=rngs), jax.nn.gelu, nnx.Linear(32, 16, rngs=rngs)
        ),
      )
      for _ in range(2)
    )
    self.head = nnx.Linear(16, 10, rngs=rngs)

  def __call__(self, x):
    x = self.patches(x).reshape(len(x), -1, 16)
    for block in self.blocks:
      x = x + block['attention'](block['norm'](x))
      x = x + block['mlp'](x)
    return self.head(x.mean(axis=1))


@pytest.mark.parametrize('graph', [True, False], ids=['graph', 'tree'])
def test_a_vision_transformer(graph):
  with nnx.set_graph_mode(graph):
    model = ViT(nnx.Rngs(0))
    small, report = tn.compress(model, (('head', None), ('.*', SVD)), KEY, input_shape=(16, 16, 3))
    rows = {row.path: row for row in report.layers}
    assert rows['blocks/0/attention/query'].scheme == 'svd'
    assert rows['blocks/1/attention/out'].shape == (4, 4, 16)
    assert rows['blocks/1/mlp/layers/2'].scheme == 'svd'
    assert rows['blocks/0/attention/out'].dense_macs == 16 * 16 * 16
    assert isinstance(small.blocks[0]['attention'].query, tn.nn.LinearGeneral)
    x = jax.random.normal(KEY, (2, 16, 16, 3))
    run = nnx.jit(lambda model, x: model(x))
    assert nnx.eval_shape(run, small, x).shape == (2, 10)
    full, _ = tn.compress(model, (('.*(query|out)', tn.schemes.svd(ranks=7)),))  # almost full rank
    found, expected = np.asarray(run(full, x)), np.asarray(run(model, x))
    gap = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert gap < 0.3
    assert report.params == sum(v.size for v in jax.tree.leaves(nnx.state(small, nnx.Param)))


def test_embeddings():
  class Tied(nnx.Module):
    def __init__(self):
      self.embed = nnx.Embed(64, 16, rngs=nnx.Rngs(0))

    def __call__(self, ids):
      return self.embed.attend(self.embed(ids))

  small, report = tn.compress(Tied(), (('embed', SVD),), input_shape=(7,))
  assert report.macs == 0  # look-ups count none
  assert isinstance(small.embed, tn.nn.Embed)
  assert report.layers[0].shape == (64, 16)
  assert report.params == 7 * 80
  run = nnx.jit(lambda model, ids: model(ids))
  assert run(small, jnp.array([1, 2])).shape == (2, 64)


class Stack(nnx.Module):
  """Three layers held as one, applied by a scan."""

  def __init__(self):
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0)
    def make(rngs):
      return nnx.Linear(8, 8, rngs=rngs)

    self.layers = make(nnx.Rngs(0))

  def __call__(self, x):
    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
    def run(x, layer):
      return jnp.tanh(layer(x))

    return run(x, self.layers)


@pytest.mark.parametrize('name', ['svd', 'r_tt', 'r_cp', 'shuffled'])
def test_a_scanned_stack(name):
  model = Stack()
  scheme = tn.schemes.by_name(name, 0.4)
  rules = (('layers', scheme),)
  small, report = tn.compress(model, rules, KEY)
  row = report.layers[0]
  assert row.shape == (3, 8, 8)
  assert row.dense_params == 192
  assert row.params % 3 == 0
  assert report.params == sum(v.size for v in jax.tree.leaves(nnx.state(small, nnx.Param)))
  kernels = np.asarray(nnx.jit(lambda model: model.layers.kernel)(small))
  assert kernels.shape == (3, 8, 8)
  gap = np.linalg.norm(kernels - np.asarray(model.layers.kernel[...]))
  np.testing.assert_allclose(gap, row.squared_error**0.5, rtol=1e-3)
  assert tn.compression.plan(model, rules, input_shape=(8,)).dense_macs == 3 * 64
  again = tn.compression.plan(small, (('layers', None),), input_shape=(8,)).layers[0]
  assert (again.shape, again.params) == ((3, 8, 8), row.params)
  with pytest.raises(ValueError, match=r'stack \(3,\)'):
    small.layers(jnp.ones((2, 8)))
  expected = x = np.random.default_rng(0).normal(size=(2, 8)).astype('float32')
  for kernel in kernels:
    expected = np.tanh(expected @ kernel)
  np.testing.assert_allclose(nnx.jit(lambda model, x: model(x))(small, x), expected, atol=1e-5)
  shapes = jax.tree.map(jnp.shape, nnx.state(small))
  assert shapes == jax.tree.map(lambda a: a.shape, nnx.state(tn.compression.skeleton(model, rules)))
  back = nnx.jit(lambda model: model.layers.to_dense())(small)
  np.testing.assert_allclose(back.kernel[...], kernels, atol=1e-6)


def test_a_stack_along_another_axis_is_refused():
  @nnx.split_rngs(splits=3)
  @nnx.vmap(in_axes=0, out_axes=1)
  def make(rngs):
    return nnx.Linear(4, 4, rngs=rngs)

  with pytest.raises(ValueError, match='out_axes=0'):
    tn.nn.Linear.from_dense(make(nnx.Rngs(0)), SVD)


def test_a_shared_layer_stays_shared():
  class Twice(nnx.Module):
    def __init__(self):
      self.a = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
      self.b = nnx.Dict(again=self.a)

    def __call__(self, x):
      return self.b['again'](self.a(x))

  with nnx.set_graph_mode(True):
    small, report = tn.compress(Twice(), (('.*', tn.schemes.svd(ranks=2)),))
    assert small.a is small.b['again']
    assert isinstance(small.a, tn.nn.Linear)
    assert report.params == 40
    assert len(report.layers) == 1
    assert small(jnp.ones((1, 8))).shape == (1, 8)


def test_layers_where_nothing_is_saved_stay_dense():
  model = nnx.Sequential(nnx.Linear(64, 64, rngs=nnx.Rngs(0)), nnx.Linear(8, 2, rngs=nnx.Rngs(1)))
  small, report = tn.compress(model, (('.*', tn.schemes.svd(ranks=2)),))
  assert [row.scheme for row in report.layers] == ['svd', None]
  assert 'store 20 entries' in report.layers[1].reason
  assert isinstance(small.layers[1], nnx.Linear)
  _, none = tn.compress(model, (('.*', tn.schemes.svd(ranks=64)),))
  assert not none.compressed


def test_a_budget_serves_a_stack_with_one_rank_for_all():
  model = Stack()
  rules, plan = tn.compression.budget(model, SVD, params=3 * 50)
  small, report = tn.compress(model, rules)
  assert report.params == plan.cost <= 150
  kernels = np.asarray(model.layers.kernel[...])
  (rank,) = report.layers[0].ranks
  lost = sum((np.linalg.svd(k, compute_uv=False)[rank:] ** 2).sum() for k in kernels)
  np.testing.assert_allclose([plan.squared_error, report.layers[0].squared_error], lost, rtol=1e-4)
