"""The paper's networks: sizes, preprocessing, and that the widest never makes its matrix."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from experiments.common.data import Split
from experiments.common.progress import Progress
from experiments.tensornet import inference, inputs, lab, mnist, quick, shapes, wide


def params(module):
  return sum(v.size for v in jax.tree.leaves(nnx.state(module, nnx.Param)))


def entries(jaxpr):
  """Sizes of all arrays in a program, those of inner programs included."""
  for equation in jaxpr.eqns:
    yield from (v.aval.size for v in (*equation.invars, *equation.outvars) if hasattr(v, 'aval'))
    for value in equation.params.values():
      for inner in value if isinstance(value, tuple) else (value,):
        inner = getattr(inner, 'jaxpr', inner)
        yield from entries(inner) if hasattr(inner, 'eqns') else ()


@pytest.mark.parametrize('rank', [2, 20])
def test_no_array_of_a_training_step_comes_near_the_805_million_entries(rank):
  net = wide.Wide(rank, 8, nnx.Rngs(0))
  graph, state, rest = nnx.split(net, nnx.Param, ...)
  images = jax.ShapeDtypeStruct((wide.BATCH, 32, 32, 3), 'float32')
  labels = jax.ShapeDtypeStruct((wide.BATCH,), 'int32')

  def value(state, images, labels, key):
    model = nnx.merge(graph, state, rest, copy=True)
    return wide.loss(model, (images, labels), key)[0]

  jaxpr = jax.make_jaxpr(jax.value_and_grad(value))(state, images, labels, jax.random.key(0))
  largest = max(entries(jaxpr.jaxpr))
  hidden = wide.BATCH * 8**6
  assert hidden <= largest < 4 * hidden < 805_306_368


def test_the_wide_network_compiled_is_small_and_drops_out():
  net = wide.Wide(3, 3, nnx.Rngs(0))
  assert [net.tt1.parametrization.num_params, net.tt2.parametrization.num_params] == [
    sum(
      a * n * 3 * b for a, n, b in zip((1, 3, 3, 3, 3, 3), (4, 4, 4, 4, 4, 3), (3, 3, 3, 3, 3, 1))
    ),
    sum(a * 3 * 4 * b for a, b in zip((1, 3, 3, 3, 3, 3), (3, 3, 3, 3, 3, 1))),
  ]
  graph, state = nnx.split(net)
  x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 32, 32, 3)), 'float32')

  @jax.jit
  def logits(state, key):
    net = nnx.merge(graph, state, copy=True)
    return net(x, train=True, key=key), nnx.state(net, nnx.BatchStat)

  compiled = logits.lower(state, jax.random.key(0)).compile()
  dense = 3072 * 3**6
  assert compiled.memory_analysis().temp_size_in_bytes < 4 * dense / 4
  (a, stats), (b, _) = (logits(state, jax.random.key(seed)) for seed in (0, 1))
  assert (np.asarray(a) != np.asarray(b)).any()
  assert all((s != t).any() for s, t in zip(
    jax.tree.leaves(stats), jax.tree.leaves(nnx.state(net, nnx.BatchStat))))  # fmt: skip


def test_cores_are_drawn_as_the_authors_did():
  net = wide.Wide(10, 8, nnx.Rngs(0))
  for k, (bond, size) in enumerate(((1, 4), (10, 4), (10, 4), (10, 4), (10, 4), (10, 3))):
    core = np.asarray(getattr(net.tt1, f'core_{k}')[...]) * bond * size / 3
    assert abs(core).max() <= 2
    assert core.std() == pytest.approx(0.88, abs=0.08)  # that of a normal cut at two


def test_mnist_networks_start_alike_and_have_the_paper_s_sizes():
  dense = mnist.network('dense', None, 0)
  assert params(dense) == 1024 * 1025 + 10 * 1025
  for cell, rank, weights in (('2^10', 5, 792), ('4x8x8x4', 8, 8448), ('MR', 4, 8192)):
    net = mnist.network(cell, rank, 0)
    assert params(net) == weights + 1024 + 10 * 1025
    std = np.sqrt(np.mean(np.square(net.linear1.kernel)))
    assert std == pytest.approx(np.sqrt(2 / 1024), rel=1e-3)
  assert params(mnist.network('both', 8, 0)) == 11_306


def test_the_dense_layers_of_the_quick_network_become_trains():
  trained = tn.models.cifar_quick(rngs=nnx.Rngs(0))
  for cell, total in (('first', 117_873), ('both', 79_328 + 4_160 + 3_125 + 1_265 + 10)):
    net = quick.network(cell, 0, trained)
    assert params(net) == total
    np.testing.assert_array_equal(net.conv3.kernel[...], trained.conv3.kernel[...])
  assert params(trained) == 145_578  # left unchanged
  _, chosen, _ = nnx.split(inputs.Prepared(net, inputs.Preparation(np.zeros(1), np.ones(1))),
                           quick.DENSE_LAYERS, ...)  # fmt: skip
  assert {path[1] for path, _ in nnx.to_flat_state(chosen)} == {'linear1', 'linear2'}


@pytest.fixture(scope='module')
def split():
  """Correlated pixels, 3x4 in two channels."""
  rng = np.random.default_rng(0)
  mixed = rng.normal(size=(400, 24)) @ rng.normal(size=(24, 24)) * 12 + 128
  return Split(mixed.clip(0, 255).astype('uint8').reshape(400, 3, 4, 2), np.zeros(400, 'int32'))


def seen(split, preparation):
  """What a network behind a preparation is given."""
  return np.asarray(inputs.Prepared(lambda x, train: x, preparation)(split.images / 255.0))


def test_preprocessing_is_what_its_names_say(split):
  centred = seen(split, inputs.centred(split, 255.0))
  np.testing.assert_allclose(centred.mean(0), 0, atol=1e-5)
  np.testing.assert_allclose(centred.std(0), (split.images / 255).std(0), rtol=1e-4)
  standard = seen(split, inputs.standardised(split, 255.0))
  np.testing.assert_allclose(standard.mean(0), 0, atol=1e-4)
  np.testing.assert_allclose(standard.std(0), 1, rtol=1e-4)


@pytest.mark.parametrize('count', [400, 20])
def test_whitening_is_matconvnet_s(split, count):
  split = Split(split.images[:count], split.labels[:count])
  z = split.images.reshape(count, 24).astype('float64')
  z -= z.mean(0)
  z -= z.mean(1, keepdims=True)
  n = z.std(1, ddof=1, keepdims=True)
  z *= n.mean() / np.maximum(n, 40)
  values, vectors = np.linalg.eigh(z.T @ z / count)
  spread = np.sqrt(np.maximum(values, 0))
  z = z @ (vectors * (np.sqrt(values.mean()) / np.maximum(spread, 10))) @ vectors.T / n.mean()
  preparation = inputs.whitening(split, 255.0)
  found = seen(split, preparation).reshape(count, 24)
  assert np.linalg.norm(found - z) < 1e-3 * np.linalg.norm(z)
  np.testing.assert_allclose(preparation.whiten, preparation.whiten.T, atol=1e-6)
  assert np.linalg.matrix_rank(preparation.whiten) == 24


def test_both_layers_of_table_3_take_turns(monkeypatch):
  small = shapes.Train((8, 8, 8), (4, 4, 4), 4)
  monkeypatch.setattr(shapes, 'vgg_first', lambda rank: small)
  with Progress(quiet=True) as progress:
    this = types.SimpleNamespace(config=types.SimpleNamespace(repeats=2), progress=progress)
    row = inference.row(this, 'batch 100', 4, None)
  assert row['dense_weights_mib'] == 512 * 64 * 4 / 2**20
  assert row['tt_weights_mib'] == small.weights * 4 / 2**20
  assert len(row['tt_ms_all']) == len(row['dense_ms_all']) == 2
  assert row['speedup'] == row['dense_ms'] / row['tt_ms']
  assert row['speedup_paper_cpu'] == pytest.approx(97.2 / 94.7)


def test_momentum_decays_weights_and_doubles_the_rate_of_biases():
  optimizer = lab.momentum(0.1, 10)
  assert float(optimizer.rate(10)) == pytest.approx(1e-4)
  given = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
  gradient = jax.tree.map(jnp.zeros_like, given)
  updates, _ = optimizer.transform.update(gradient, optimizer.transform.init(given), given)
  np.testing.assert_allclose(updates['kernel'], -0.1 * 5e-4, rtol=1e-5)
  np.testing.assert_array_equal(updates['bias'], 0)
  gradient = jax.tree.map(jnp.ones_like, given)
  updates, _ = optimizer.transform.update(gradient, optimizer.transform.init(given), given)
  np.testing.assert_allclose(updates['bias'], -0.2, rtol=1e-5)
