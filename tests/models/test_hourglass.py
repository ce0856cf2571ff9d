import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

LAYERS = r'stacks/(\d+)/levels/(\d+)/(skip|down|up)/conv(\d+)'
TINY = {'stacks': 2, 'depth': 2, 'features': 4, 'num_joints': 3}


def tiny(seed=0, **options):
  return tn.models.hourglass(**TINY | options, rngs=nnx.Rngs(seed))


def params(net):
  return sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))


def images(*shape, seed=0):
  return np.random.default_rng(seed).random(shape, 'f4')


@jax.jit
def evaluated(net, x):
  return net(x)


@pytest.fixture(scope='module')
def net():
  return tiny()


@pytest.fixture(scope='module')
def narrow():
  """The paper's network with 4 channels; `experiments.pose` counts it with 128."""
  return tn.models.hourglass(features=4, rngs=nnx.Rngs(0))


def test_the_tensor_has_every_convolution_once(narrow):
  found = {}
  for path, place in tn.compression.walk(narrow).items():
    if match := re.fullmatch(LAYERS, path):
      assert match.groups() not in found
      found[match.groups()] = place.shape
      assert place.layer.bias is None
  numbers = [str(i) for i in range(4)]
  assert set(found) == set(itertools.product(numbers, numbers, ('skip', 'down', 'up'), '01'))
  assert set(found.values()) == {(3, 3, 4, 4)}


def around(features):
  """Parameters outside the tensor: of the stem, the end of a stack, an injection, and in all."""
  block = 2 * (9 * features**2 + 2 * features)
  stem = 7 * 7 * 3 * features + 2 * features + block
  end = block + features**2 + 2 * features + 16 * features + 16
  injection = features**2 + features + 16 * features + features
  return stem, end, injection, stem + 4 * end + 3 * injection + 96 * 2 * features


def test_the_rest_is_the_layout_of_the_docstring(narrow):
  stem, end, injection, every = around(4)
  assert params(narrow.stem) == stem
  assert params(narrow.stacks[3]) - params(narrow.stacks[3].levels) == end
  assert params(narrow.injections) == 3 * injection
  assert params(narrow) == every + 96 * 9 * 4 * 4
  assert around(128)[-1] == 1_651_648


@pytest.mark.parametrize(('depth', 'stacks', 'side'), [(4, 1, 256), (3, 2, 64)])
def test_every_stack_gives_heatmaps_four_times_smaller(depth, stacks, side):
  x = jax.ShapeDtypeStruct((5, side, side, 3), jnp.float32)
  maps = nnx.eval_shape(lambda x: tiny(depth=depth, stacks=stacks)(x), x)
  assert maps.shape == (stacks, 5, side // 4, side // 4, 3)


def test_other_convolutions_and_images():
  options = {'stacks': 1, 'depth': 1, 'convs': 3, 'kernel': 5, 'mean': (0.5,), 'std': (1,)}
  net = nnx.eval_shape(lambda: tiny(**options))
  shapes = [p.shape for path, p in tn.compression.walk(net).items() if re.fullmatch(LAYERS, path)]
  assert shapes == [(5, 5, 4, 4)] * 9
  maps = nnx.eval_shape(lambda net, x: net(x), net, jnp.zeros((2, 8, 16, 1)))
  assert maps.shape == (1, 2, 2, 4, 3)


def reference(net, x):
  """Of one stack of one level with one convolution a block, by NumPy."""

  def conv(layer, x, strides=1):
    kernel = np.asarray(layer.kernel[...])
    rows, columns = kernel.shape[:2]
    x = np.pad(x, ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0)))
    view = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), (1, 2))
    y = np.einsum('bhwcij,ijco->bhwo', view[:, ::strides, ::strides], kernel)
    return y if layer.bias is None else y + np.asarray(layer.bias[...])

  def norm(x):  # as it starts
    return x / np.sqrt(1 + 1e-5)

  def relu(x):
    return np.maximum(x, 0)

  def block(b, x):
    return relu(x + norm(conv(b.conv0, x)))

  def halved(x):
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))

  x = (x - np.array(net.mean, 'f4')) / np.array(net.std, 'f4')
  x = block(net.stem.block, halved(relu(norm(conv(net.stem.conv, x, 2)))))
  found = []
  for i, stack in enumerate(net.stacks):
    (level,) = stack.levels
    inner = block(level.up, block(level.down, halved(x)))
    y = block(stack.block, block(level.skip, x) + np.kron(inner, np.ones((1, 2, 2, 1))))
    y = relu(norm(conv(stack.conv, y)))
    found.append(conv(stack.head, y))
    if i + 1 < len(net.stacks):
      x = x + conv(net.injections[i].features, y) + conv(net.injections[i].heatmaps, found[-1])
  return np.stack(found)


def test_forward_is_what_numpy_says():
  net = tiny(depth=1, convs=1)
  x = images(2, 16, 24, 3)
  np.testing.assert_allclose(evaluated(net, x), reference(net, x), rtol=1e-4, atol=1e-4)


def test_training_updates_every_statistic_and_gradients_reach_every_parameter(net):
  graph, given, stats = nnx.split(net, nnx.Param, nnx.BatchStat)
  x = images(4, 32, 32, 3)

  @jax.jit
  def step(given, stats):
    def loss(given):
      net = nnx.merge(graph, given, stats, copy=True)
      maps = net(x, train=True)
      return (maps**2).mean(), nnx.state(net, nnx.BatchStat)

    return jax.grad(loss, has_aux=True)(given)

  gradients, new = step(given, stats)
  for path, gradient in nnx.to_flat_state(gradients):
    assert np.abs(gradient[...]).max() > 0, path
  for (path, old), (_, now) in zip(nnx.to_flat_state(stats), nnx.to_flat_state(new)):
    assert (np.asarray(old[...]) != np.asarray(now[...])).any(), path


def test_evaluation_changes_nothing_and_treats_images_one_by_one(net):
  before = jax.tree.map(np.asarray, nnx.state(net))
  x = images(2, 32, 32, 3)
  both, one = evaluated(net, x), evaluated(net, np.stack([x[1], x[1]]))
  assert np.linalg.norm(both[:, 1] - one[:, 0]) < 1e-4 * np.linalg.norm(one[:, 0])
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(net))


def test_a_compressed_one_is_rebuilt_from_its_file(tmp_path, net):
  model, report = tn.compress(net, ((LAYERS, tn.schemes.tk(ranks=2)),))
  assert len(report.compressed) == 2 * 2 * 3 * 2
  tn.save(tmp_path / 'net.safetensors', model)
  found = tn.load(tmp_path / 'net.safetensors')
  assert found.arguments == net.arguments
  jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(found))


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'stacks': 0}, 'stacks=0 must be an int of at least 1'),
    ({'depth': 1.5}, 'depth=1.5 must be an int'),
    ({'features': -4}, 'features=-4'),
    ({'convs': 0}, 'convs=0'),
    ({'kernel': 2}, 'kernel=2 must be odd'),
    ({'num_joints': '16'}, "num_joints='16'"),
    ({'std': (1, 1)}, r'std=\(1, 1\) must have an entry each for every channel'),
    ({'std': (1, 0, 1)}, r'std=\(1, 0, 1\) must be positive'),
  ],
)
def test_bad_sizes_are_named(options, words):
  with pytest.raises(ValueError, match=words):
    tiny(**options)


@pytest.mark.parametrize(
  ('x', 'words'),
  [
    (jnp.ones((1, 32, 40, 3)), r'\(1, 32, 40, 3\); with depth=2, .* multiples of 16'),
    (jnp.ones((1, 32, 32, 3), 'uint8'), 'it needs floats'),
    (jnp.ones((32, 32, 3)), 'it needs floats'),
    (jnp.ones((1, 32, 32, 1)), 'it needs 3 channels'),
  ],
)
def test_other_images_are_refused(net, x, words):
  with pytest.raises(ValueError, match=words):
    net(x)
