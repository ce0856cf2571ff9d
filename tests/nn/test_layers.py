import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

KEY = jax.random.key(0)
names = pytest.mark.parametrize('name', tn.schemes.NAMES)


@pytest.fixture(params=[True, False], ids=['graph', 'tree'])
def graph_mode(request):
  """Both ways in which NNX sees modules; shared Variables exist in the first alone."""
  with nnx.set_graph_mode(request.param):
    yield


def close(a, b, tolerance):
  a, b = np.asarray(a, 'float64').ravel(), np.asarray(b, 'float64').ravel()
  return np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def normal(shape, dtype='float32', seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@nnx.jit
def call(layer, x):
  return layer(x)


@nnx.jit
def both(layer, x):
  """Outputs of a layer and of its dense layer."""
  return layer(x), layer.to_dense()(x)


@nnx.jit
def rebuilt(layer):
  return layer.kernel


def conv(name, rate=0.3, **options):
  scheme = tn.schemes.by_name(name, rate)
  return tn.nn.Conv(8, 12, (3, 3), scheme=scheme, rngs=nnx.Rngs(0), **options)


OPTIONS = {
  'strides': {'strides': (2, 1)},
  'valid': {'padding': 'VALID'},
  'explicit': {'padding': ((1, 0), (2, 1)), 'kernel_dilation': 2},
  'circular': {'padding': 'CIRCULAR'},
  'reflect': {'padding': 'REFLECT', 'strides': 2},
  'groups': {'feature_group_count': 4},
  'no bias': {'use_bias': False},
}


@pytest.mark.parametrize(  # every option with three schemes of at least two formats
  ('name', 'option'),
  [
    (name, option)
    for i, name in enumerate(tn.schemes.NAMES)
    for j, option in enumerate(OPTIONS)
    if i % 3 == j % 3
  ],
)
def test_conv_and_its_gradients_equal_those_of_its_dense_layer(name, option):
  with jax.enable_x64(True):
    layer = conv(name, param_dtype='float64', **OPTIONS[option])
    if layer.bias is not None:
      layer.bias[...] = jnp.asarray(normal((12,), 'float64'))
    graph, params, rest = nnx.split(layer, nnx.Param, ...)
    x = normal((2, 3, 9, 8, 8), 'float64')

    def loss(params, x, dense):
      layer = nnx.merge(graph, params, rest)
      y = (layer.to_dense() if dense else layer)(x)
      return jnp.sum(jnp.sin(y)), y

    @jax.jit
    def run(params, x):
      slopes = jax.grad(loss, argnums=(0, 1), has_aux=True)
      return [jax.tree.leaves(slopes(params, x, dense)) for dense in (False, True)]

    ours, reference = run(params, x)
    for a, b in zip(ours, reference, strict=True):
      assert close(a, b, 1e-10)


def test_conv_in_one_and_three_dimensions():
  for size, padding in (((3,), 'CAUSAL'), ((3, 1, 3), 'SAME')):
    layer = tn.nn.Conv(
      4, 6, size, scheme=tn.schemes.tt(rate=0.5), padding=padding, rngs=nnx.Rngs(0)
    )
    x = normal((2, *(6,) * len(size), 4))
    y, dense = both(layer, x)
    assert close(y, dense, 1e-5)
    assert nnx.eval_shape(call, layer, x[0]).shape == y[0].shape  # no batch axis is needed


@names
def test_linear_equals_its_dense_layer(name):
  with jax.enable_x64(True):
    scheme = tn.schemes.by_name(name, 0.3)
    layer = tn.nn.Linear(16, 24, scheme=scheme, param_dtype='float64', rngs=nnx.Rngs(0))
    assert close(*both(layer, normal((2, 3, 16), 'float64')), 1e-10)


@names
def test_from_dense_keeps_options_and_approximates(name, graph_mode):
  dense = nnx.Conv(8, 12, (3, 3), 2, padding=1, kernel_dilation=2, rngs=nnx.Rngs(0))
  dense.bias[...] = jnp.full(12, 3.0)
  before = nnx.state(dense)
  layer = tn.nn.Conv.from_dense(dense, tn.schemes.by_name(name, 0.9), key=KEY)
  x = normal((2, 9, 9, 8))
  y, expected = np.asarray(call(layer, x)), np.asarray(call(dense, x))
  assert y.shape == expected.shape
  assert close(y - 3, expected - 3, 0.7)
  np.testing.assert_array_equal(layer.bias[...], dense.bias[...])
  back = layer.to_dense()
  assert (back.strides, back.padding, back.kernel_dilation) == (2, 1, 2)
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(dense))


def test_linear_round_trip_at_full_rank(graph_mode):
  dense = nnx.Linear(8, 12, use_bias=False, rngs=nnx.Rngs(0))
  layer = tn.nn.Linear.from_dense(dense, tn.schemes.svd(ranks=8))
  assert layer.bias is None
  np.testing.assert_allclose(layer.to_dense().kernel[...], dense.kernel[...], atol=1e-6)


@names
def test_only_params_and_one_index(name, graph_mode):
  layer = conv(name)
  for path, variable in nnx.to_flat_state(nnx.state(layer)):
    kind = nnx.Variable if path[-1].startswith('index') else nnx.Param
    assert type(variable) is kind, path
  factors = nnx.to_flat_state(nnx.state(layer, nnx.Param))
  stored = sum(v.size for p, v in factors if p != ('bias',))
  assert stored == layer.parametrization.num_params


def test_split_merge_jit_and_donation(graph_mode):
  layer = conv('shuffled')
  graph, state = nnx.split(layer)
  x = np.ones((1, 5, 5, 8), 'float32')
  run = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
  np.testing.assert_allclose(run(state, x), layer(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('dtype', 'param_dtype'), [('bfloat16', 'float32'), (None, 'bfloat16')])
def test_dtypes_as_in_flax(dtype, param_dtype):
  options = {'dtype': dtype, 'param_dtype': param_dtype, 'rngs': nnx.Rngs(0)}
  layer = tn.nn.Conv(4, 6, (3, 3), scheme=tn.schemes.tk(rate=0.5), **options)
  dense = nnx.Conv(4, 6, (3, 3), **options)
  for x in (jnp.ones((1, 5, 5, 4)), jnp.ones((1, 5, 5, 4), 'bfloat16')):
    assert call(layer, x).dtype == nnx.eval_shape(call, dense, x).dtype
  assert all(a.dtype == param_dtype for a in jax.tree.leaves(nnx.state(layer, nnx.Param)))


@names
def test_initial_kernel_has_the_default_variance_of_flax(name):
  ours = np.asarray(rebuilt(conv(name)))
  theirs = np.asarray(nnx.Conv(8, 12, (3, 3), rngs=nnx.Rngs(0)).kernel[...])
  np.testing.assert_allclose(ours.std(), theirs.std(), rtol=0.1)
  layer = conv(name, kernel_std=0.5)
  kernel = np.asarray(rebuilt(layer))
  np.testing.assert_allclose(np.sqrt(np.mean(kernel**2)), 0.5, rtol=1e-4)


def test_bad_input_is_named():
  layer = conv('tk')
  with pytest.raises(ValueError, match=r'\(2, 5, 5, 7\).*8 channels'):
    layer(jnp.ones((2, 5, 5, 7)))
  with pytest.raises(ValueError, match='2 spatial axes'):
    layer(jnp.ones((5, 8)))
  with pytest.raises(ValueError, match='feature_group_count=5'):
    conv('tk', feature_group_count=5)
  masked = nnx.Conv(4, 4, (1, 1), mask=jnp.ones((1, 1, 4, 4)), rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='mask'):
    tn.nn.Conv.from_dense(masked, tn.schemes.svd(rate=0.5))


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'kernel_size': ()}, 'kernel_size=()'),
    ({'kernel_size': (3, 0)}, r'kernel_size=\(3, 0\)'),
    ({'padding': 1.5}, 'padding=1.5'),
    ({'feature_group_count': 0}, 'feature_group_count=0'),
  ],
)
def test_bad_options_are_named(options, words):
  scheme = tn.schemes.tk(rate=0.5)
  given = {'kernel_size': (3, 3), 'scheme': scheme, 'rngs': nnx.Rngs(0)} | options
  with pytest.raises(ValueError, match=words):
    tn.nn.Conv(4, 4, **given)
  assert tn.nn.Conv(4, 4, np.int64(3), scheme=scheme, rngs=nnx.Rngs(0)).kernel_size == (3,)


def test_exports_with_a_symbolic_batch():
  layer = tn.nn.Linear(8, 4, scheme=tn.schemes.svd(ranks=2), rngs=nnx.Rngs(0))
  (batch,) = jax.export.symbolic_shape('b')
  shape = jax.ShapeDtypeStruct((batch, 8), 'float32')
  exported = jax.export.export(jax.jit(lambda x: layer(x)))(shape)
  x = jnp.ones((5, 8))
  np.testing.assert_allclose(exported.call(x), layer(x), rtol=1e-6)


def test_layers_with_callables_of_their_own_are_refused():
  def product(*args, **kwargs):
    return jax.lax.dot_general(*args, **kwargs)

  dense = nnx.Linear(4, 4, dot_general=product, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='dot_general'):
    tn.nn.Linear.from_dense(dense, tn.schemes.svd(rate=0.5))


def test_geometry_is_checked_at_construction():
  with pytest.raises(ValueError, match="padding='BEST'"):
    conv('tk', padding='BEST')
  with pytest.raises(ValueError, match=r'strides=\(1, 2, 3\)'):
    conv('tk', strides=(1, 2, 3))


LAYERS = {
  'Linear': ((8, 8), np.ones((1, 8), 'float32')),
  'LinearGeneral': ((8, (2, 4)), np.ones((1, 8), 'float32')),
  'Conv': ((8, 8, (3, 3)), np.ones((1, 5, 5, 8), 'float32')),
  'Embed': ((16, 8), np.ones(3, 'int32')),
}
layers = pytest.mark.parametrize('kind', LAYERS)


@layers
def test_a_table_of_flax_leaves_the_layers_working(kind):
  made, (args, x) = getattr(tn.nn, kind), LAYERS[kind]
  layer = made(*args, scheme=tn.schemes.svd(ranks=2), rngs=nnx.Rngs(0))
  assert 'core_0' in nnx.tabulate(nnx.Sequential(layer), x)
  again = made(*args, scheme=tn.schemes.svd(ranks=2), rngs=nnx.Rngs(0))
  np.testing.assert_array_equal(call(again, x), call(layer, x))
  assert isinstance(made.from_dense(again.to_dense(), tn.schemes.svd(ranks=1)), made)


@layers
@pytest.mark.parametrize(
  ('scheme', 'words'),
  [
    (None, r'scheme is None.*svd\(rate=0.1\)'),
    ('cp', r"scheme is 'cp'.*by_name\('cp', rate\)"),
    ('best', r"scheme is 'best'.*by_name\('svd', rate\)"),
    (tn.schemes.tk, 'scheme is <function.*call it'),
  ],
)
def test_what_is_no_scheme_is_told_what_to_give(kind, scheme, words):
  made, (args, x) = getattr(tn.nn, kind), LAYERS[kind]
  dense = nnx.eval_shape(lambda: made.DENSE(*args, rngs=nnx.Rngs(0)))
  with pytest.raises(ValueError, match=words):
    made(*args, scheme=scheme, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=words):
    made.from_dense(dense, scheme)
  with pytest.raises(ValueError, match=words):
    tn.nn.to_linen(made, *args, scheme=scheme).init(KEY, x)


def test_another_layer_is_not_taken_for_ones_own():
  with pytest.raises(ValueError, match='dense is a Linear; Conv.from_dense takes an nnx.Conv'):
    tn.nn.Conv.from_dense(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), tn.schemes.svd(ranks=1))


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
@pytest.mark.parametrize('name', ['r_tt', 'r_cp', 'r_tk', 'shuffled'])
def test_kernels_of_16_bits_are_rounded_once(name, dtype):
  """Those of the property, those a call rebuilds, and rows of a table."""
  scheme = tn.schemes.by_name(name, 0.9)
  options = {'param_dtype': jnp.dtype(dtype), 'scheme': scheme, 'rngs': nnx.Rngs(0)}
  layer, table = tn.nn.Linear(64, 64, **options), tn.nn.Embed(64, 64, **options)
  p = layer.parametrization
  assert p.forecast(2**5, dtype=dtype).rebuilds  # so the input meets the whole kernel
  x = jnp.tile(jnp.eye(64, dtype=dtype), (2**4, 1))

  @nnx.jit
  def found(layer, table):
    return layer.kernel, layer(x)[:64], table(jnp.arange(64)[:9])

  def exact(layer):
    arrays = {n: np.asarray(getattr(layer, n)[...], 'float64') for n in p.network.names}
    if name == 'shuffled':
      arrays['index'] = np.asarray(layer.index[...])
    return np.asarray(p.dense(arrays), dtype)

  kernel, applied, rows = map(np.asarray, found(layer, table))
  for got, wanted in ((kernel, exact(layer)), (applied, exact(layer)), (rows, exact(table)[:9])):
    assert got.dtype == wanted.dtype
    assert (got == wanted).mean() > 0.99
