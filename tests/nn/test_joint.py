"""Convolutions whose kernels are one tensor: equal to dense ones with the rebuilt kernels."""

import gc
import re
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

SIZES = (3, 2)
RANKS = {'tk': (2, 2, 4, 5, 3, 2), 'tt': (2, 4, 6, 5, 3), 'cp': 7, 'tr': (2, 2, 2, 3, 2, 2)}
formats = pytest.mark.parametrize('format', RANKS)


def joint(format, **options):
  return tn.schemes.joint(ranks=RANKS[format], format=format, **options)


class Net(nnx.Module):
  """Six layers in a row, every other with a stride of its own."""

  def __init__(self, scheme, channels=8):
    rngs = nnx.Rngs(0)
    self.kernels = tn.nn.JointKernels(SIZES, channels, channels, (3, 3), scheme=scheme, rngs=rngs)
    self.layers = nnx.List(
      tn.nn.JointConv(self.kernels, at, strides=1 + (i == 3), rngs=rngs)
      for i, at in enumerate(np.ndindex(SIZES))
    )

  def __call__(self, x):
    for layer in self.layers:
      x = jax.nn.relu(layer(x)) + 0.1
    return x


def split(model):
  graph, state = nnx.split(model)
  return lambda state, x: nnx.merge(graph, state, copy=True)(x), state


X = np.random.default_rng(0).normal(size=(2, 7, 6, 8)).astype('float32')


@formats
def test_layers_and_gradients_are_those_of_the_dense_network(format):
  net = Net(joint(format))
  run, state = split(net)
  p = net.kernels.parametrization

  def dense(factors):
    kernels, x = p.dense(factors), X
    for i, at in enumerate(np.ndindex(SIZES)):
      x = jax.lax.conv_general_dilated(
        x, kernels[at], (1 + (i == 3),) * 2, 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
      )
      x = jax.nn.relu(x) + 0.1
    return (x**2).sum()

  value, found = jax.jit(jax.value_and_grad(lambda s: (run(s, X) ** 2).sum()))(state)
  expected, gradient = jax.jit(jax.value_and_grad(dense))(net.kernels.factors())
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  for name, wanted in gradient.items():
    got = np.asarray(found['kernels'][name].get_value())
    assert np.linalg.norm(got - wanted) < 1e-5 * np.linalg.norm(wanted)


@formats
def test_every_kernel_starts_with_the_right_variance(format):
  ranks = {'tk': (2, 2, 16, 16, 3, 3), 'tt': (2, 4, 24, 9, 3), 'cp': 40, 'tr': 8}[format]
  scheme = tn.schemes.joint(ranks=ranks, format=format)
  kernels = tn.nn.JointKernels((3, 2), 32, 32, (3, 3), scheme=scheme, rngs=nnx.Rngs(0))
  full = np.asarray(kernels.parametrization.dense(kernels.factors())).reshape(6, -1)
  np.testing.assert_allclose(np.sqrt(np.mean(full**2) * 288), 1, rtol=1e-4)
  np.testing.assert_allclose(full.std(axis=1) * 288**0.5, 1, rtol=0.1)


def test_the_architecture_is_contracted_once_in_a_compiled_step():
  """Products of forward and backward pass, of 3 layers and of 6 that share the same tensor."""

  def products(layers):
    net = Net(joint('tk'))
    net.layers = nnx.List(net.layers[:layers])
    run, state = split(net)
    step = jax.jit(jax.value_and_grad(lambda s: (run(s, X) ** 2).sum()))
    return len(re.findall(r' (?:dot|convolution)\(', step.lower(state).compile().as_text()))

  each = products(6) - products(3)
  assert 0 < each <= 3 * 9  # of a layer three, and six for the gradients
  assert 0 < products(3) - each <= 4 * 3  # the core with its four factors


def checkpointed(layers, x):
  for layer in layers:
    x = jax.checkpoint(lambda x, layer=layer: layer(x))(x)
  return x


def test_a_checkpoint_uses_what_was_contracted_before_it():
  def products(before):
    graph, state = nnx.split(Net(joint('tk')))

    def loss(state):
      net = nnx.merge(graph, state, copy=True)
      if before:
        net.kernels.of((0, 0))
      return checkpointed(net.layers, X).sum()

    return jax.jit(jax.grad(loss)).lower(state).as_text().count('stablehlo.dot_general')

  assert products(True) < 0.6 * products(False)


@pytest.mark.parametrize('way', ['closure', 'checkpoint', 'merged'])
def test_nothing_of_a_trace_outlives_it(way):
  net = Net(joint('tk'))
  run, state = split(net)
  calls = {
    'closure': lambda: jax.jit(net)(X),
    'checkpoint': lambda: jax.jit(lambda x: checkpointed(net.layers, x))(X),
    'merged': lambda: jax.jit(jax.grad(lambda s: run(s, X).sum()))(state),
  }
  with jax.checking_leaks():
    calls[way]()


def test_what_is_replaced_is_not_kept():
  net = Net(joint('tk'))
  net(X)
  old = weakref.ref(net.kernels.core[...])
  net.kernels.core[...] = 2 * net.kernels.core[...]
  gc.collect()
  assert old() is None


@formats
def test_a_kernel_is_the_same_alone_and_among_all(format):
  net = Net(joint(format))
  run = jax.jit(lambda s: [layer.kernel for layer in nnx.merge(graph, s, copy=True).layers])
  graph, state = nnx.split(net)
  for layer, kernel in zip(net.layers, run(state)):
    np.testing.assert_allclose(layer.kernel, kernel, atol=1e-6)


def test_only_the_state_is_for_plain_jax():
  net = Net(joint('tk'))
  before = net.kernels.factors()
  for use in (lambda: jax.tree.map(jnp.copy, net), lambda: jax.jit(lambda m: m(X))(net)):
    with pytest.raises(ValueError, match=r'shared by layers.* nnx.split\(model\)'):
      use()
  graph, state = nnx.split(net)
  twice = nnx.merge(graph, jax.tree.map(lambda a: 2 * a, state))
  np.testing.assert_array_equal(twice.layers[5].kernels.core[...], 2 * before['core'])
  assert len({id(layer.kernels) for layer in twice.layers}) == 1


def test_ranks_above_their_modes_are_cut():
  p = made(scheme=tn.schemes.joint(ranks=99)).parametrization
  assert p.ranks == (3, 2, 8, 8, 3, 3)


def test_from_trained_layers_at_full_rank_nothing_is_lost():
  rng = np.random.default_rng(0)
  convs = {
    at: nnx.Conv(4, 6, (3, 3), strides=1 + at[1], use_bias=not at[0], rngs=nnx.Rngs(i))
    for i, at in enumerate(np.ndindex(SIZES))
  }
  scheme = tn.schemes.joint(ranks=(3, 2, 4, 6, 3, 3))
  layers = tn.nn.JointConv.from_dense(convs, scheme)
  x = rng.normal(size=(1, 6, 6, 4)).astype('float32')
  for at, conv in convs.items():
    np.testing.assert_allclose(layers[at](x), conv(x), atol=1e-5)
    dense = layers[at].to_dense()
    assert (dense.strides, dense.use_bias) == (conv.strides, conv.use_bias)
    np.testing.assert_allclose(dense(x), conv(x), atol=1e-5)
  held = {id(layer.kernels) for layer in layers.values()}
  assert len(held) == 1


@pytest.mark.parametrize('kernel', [(3,), (3, 3, 3)])
def test_kernels_of_one_and_three_spatial_modes(kernel):
  scheme = tn.schemes.joint(ranks=2)
  kernels = tn.nn.JointKernels((3, 2), 4, 6, kernel, scheme=scheme, rngs=nnx.Rngs(0))
  assert kernels.architecture == (3, 2)
  layer = tn.nn.JointConv(kernels, (2, 1), use_bias=False, rngs=None)
  assert layer.kernel.shape == (*kernel, 4, 6)
  x = np.ones((1, *[5] * len(kernel), 4), 'float32')
  np.testing.assert_allclose(layer(x), layer.to_dense()(x), atol=1e-5)
  convs = {(i,): nnx.Conv(4, 6, kernel, rngs=nnx.Rngs(i)) for i in range(2)}
  made = tn.nn.JointConv.from_dense(convs, tn.schemes.joint(ranks=2))
  assert made[1,].kernels.architecture == (2,)


def test_factors_that_changed_in_a_step_are_seen():
  graph, state = nnx.split(Net(joint('tk')))

  @jax.jit
  def step(state):
    net = nnx.merge(graph, state, copy=True)
    before = net.layers[0].kernel
    net.kernels.core[...] = 2 * net.kernels.core[...]
    return before, net.layers[0].kernel

  before, after = step(state)
  np.testing.assert_allclose(after, 2 * before, rtol=1e-5)


def test_factors_that_changed_are_seen():
  net = Net(joint('tk'))
  before = np.asarray(net.layers[0].kernel)
  inside = jax.jit(lambda: net.layers[0].kernel)()  # leaves nothing of its trace behind
  np.testing.assert_allclose(before, inside, atol=1e-6)
  np.testing.assert_array_equal(before, net.layers[0].kernel)
  net.kernels.core[...] = 2 * net.kernels.core[...]
  np.testing.assert_allclose(net.layers[0].kernel, 2 * before, rtol=1e-5)


def test_a_step_in_16_bits_keeps_its_dtype():
  kernels = tn.nn.JointKernels(
    SIZES, 8, 8, (3, 3), scheme=joint('tt'), param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)
  )
  layer = tn.nn.JointConv(kernels, (1, 1), rngs=nnx.Rngs(0))
  y = layer(jnp.asarray(X, 'bfloat16'))
  assert y.dtype == jnp.bfloat16
  exact = layer.to_dense()(X)
  assert np.linalg.norm(np.asarray(y, 'float32') - exact) < 0.02 * np.linalg.norm(exact)


def made(**changes):
  options = {'architecture': SIZES, 'scheme': joint('tk')} | changes
  return tn.nn.JointKernels(
    options['architecture'], 8, 8, (3, 3), scheme=options['scheme'], rngs=nnx.Rngs(0)
  )


@pytest.mark.parametrize(
  ('make', 'words'),
  [
    (lambda: made(scheme=tn.schemes.tk(rate=0.1)), r'is for one layer; give tn.schemes.joint'),
    (lambda: made(architecture=(3,)), 'ranks'),
    (lambda: tn.nn.JointConv(made(), (3, 0), rngs=None), r'position=\(3, 0\) must be one of each'),
    (lambda: tn.nn.JointConv(made(), (1,), rngs=None), r'position=\(1,\) must be one of each'),
    (lambda: made(scheme=joint('tk', order=1)), 'has order=1; the architecture has 2 modes'),
    (
      lambda: tn.nn.JointConv.from_dense({(0,): nnx.Linear(4, 4, rngs=nnx.Rngs(0))}, joint('tk')),
      r'layer \(0,\) is a Linear; a joint tensor is of nnx.Conv',
    ),
    (
      lambda: tn.nn.JointConv.from_dense({(0,): conv(4), (0, 1): conv(4)}, joint('tk')),
      'it needs tuples of one length',
    ),
    (
      lambda: tn.nn.JointConv.from_dense({(0,): conv(4), (2,): conv(4)}, joint('tk')),
      r'convs has no layer \(1,\)',
    ),
    (
      lambda: tn.nn.JointConv.from_dense({(0,): conv(4), (1,): conv(5)}, joint('tk')),
      r'layer \(1,\) has a kernel float32\(3, 3, 5, 4\); .* the first is float32\(3, 3, 4, 4\)',
    ),
    (
      lambda: tn.nn.JointConv.from_dense({(0,): conv(4, feature_group_count=2)}, joint('tk')),
      'it has feature groups',
    ),
  ],
)
def test_what_does_not_fit_is_named(make, words):
  with pytest.raises(ValueError, match=words):
    make()


def conv(channels, **options):
  return nnx.Conv(channels, 4, (3, 3), rngs=nnx.Rngs(0), **options)
