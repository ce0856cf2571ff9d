import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

KEY = jax.random.key(0)
names = pytest.mark.parametrize('name', ['svd', 'tr', 'r_cp', 'r_tk', 'r_tt', 'shuffled'])


def embed(name, **options):
  return tn.nn.Embed(30, 12, scheme=tn.schemes.by_name(name, 0.5), rngs=nnx.Rngs(0), **options)


@names
def test_look_up_and_attend_equal_the_dense_table(name):
  with jax.enable_x64(True):
    ids = np.array([[0, 7, 29], [-1, 3, 3]])
    query = np.random.default_rng(0).normal(size=(2, 5, 12))

    @nnx.jit
    def run(layer, ids, query, none):
      dense = layer.to_dense()
      return (layer(ids), layer.attend(query)), (dense(ids), dense.attend(query)), layer(none)

    found, expected, empty = run(
      embed(name, param_dtype='float64'), ids, query, np.zeros(0, 'int32')
    )
    for a, b in zip(found, expected):
      np.testing.assert_allclose(a, b, atol=1e-10)
    assert empty.shape == (0, 12)


@names
def test_gradients_equal_those_of_the_dense_table(name):
  with jax.enable_x64(True):
    graph, params, rest = nnx.split(embed(name, param_dtype='float64'), nnx.Param, ...)
    ids = np.array([1, 1, 28])

    def loss(params, dense):
      layer = nnx.merge(graph, params, rest)
      return jnp.sum(jnp.sin((layer.to_dense() if dense else layer)(ids)))

    run = jax.jit(lambda params: [jax.grad(loss)(params, dense) for dense in (False, True)])
    for a, b in zip(*map(jax.tree.leaves, run(params)), strict=True):
      np.testing.assert_allclose(a, b, atol=1e-10)


def test_ids_out_of_range_are_nan_as_in_flax():
  layer = embed('r_tt')
  ids = jnp.array([30, -31, 2])
  np.testing.assert_array_equal(jnp.isnan(layer(ids)), jnp.isnan(layer.to_dense()(ids)))
  one = tn.nn.Embed(1, 4, scheme=tn.schemes.svd(ranks=1), rngs=nnx.Rngs(0))
  np.testing.assert_allclose(one(jnp.array([5])), one.to_dense()(jnp.array([5])), atol=1e-6)


def test_a_look_up_never_forms_the_table():
  scheme = tn.schemes.r_tt(ranks=4, in_modes=(100, 100, 100), out_modes=(8, 8, 8))
  layer = tn.nn.Embed(10**6, 512, scheme=scheme, rngs=nnx.Rngs(0))
  graph, state = nnx.split(layer)
  ids = jnp.arange(16)
  compiled = jax.jit(lambda s, i: nnx.merge(graph, s)(i)).lower(state, ids).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 10**6  # the table has 2 GB


def test_very_many_ids_rebuild_the_table():
  layer = embed('r_tt')
  ids = jnp.arange(3000) % 30
  graph, state = nnx.split(layer)
  compiled = jax.jit(lambda s, i: nnx.merge(graph, s)(i)).lower(state, ids).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * 3000 * 12
  np.testing.assert_allclose(compiled(state, ids), layer.to_dense()(ids), atol=1e-5)


def test_from_dense_dtype_and_errors():
  dense = nnx.Embed(16, 8, dtype='bfloat16', rngs=nnx.Rngs(0))
  layer = tn.nn.Embed.from_dense(dense, tn.schemes.svd(ranks=8))
  assert layer(jnp.array([1])).dtype == dense(jnp.array([1])).dtype == 'bfloat16'
  np.testing.assert_allclose(layer.embedding, dense.embedding[...], atol=1e-5)
  with pytest.raises(ValueError, match='float32'):
    layer(jnp.ones(3))
  with pytest.raises(ValueError, match='8 channels'):
    layer.attend(jnp.ones((2, 7)))


@names
def test_initial_table_has_the_default_variance_of_flax(name):
  ours = np.asarray(nnx.jit(lambda layer: layer.embedding)(embed(name)))
  np.testing.assert_allclose(np.sqrt(np.mean(ours**2)), 12**-0.5, rtol=1e-4)


def test_exports_with_a_symbolic_batch():
  layer = embed('r_tt')
  (batch,) = jax.export.symbolic_shape('b')
  specs = [
    jax.ShapeDtypeStruct(*given) for given in (((batch, 3), 'int32'), ((batch, 12), 'float32'))
  ]

  def run(ids, query):
    return layer(ids), layer.attend(query)

  exported = jax.export.export(jax.jit(run))(*specs)
  args = jnp.array([[0, 7, 29], [1, 3, 3]]), jnp.ones((2, 12))
  for a, b in zip(exported.call(*args), run(*args), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
