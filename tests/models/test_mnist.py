import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn


def dense(x, layer):
  return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def test_the_mlp_is_its_layers_in_turn():
  net = tn.models.mlp((8, 6), inputs=12, num_classes=3, rngs=nnx.Rngs(0))
  x = np.random.default_rng(0).normal(size=(4, 2, 6)).astype('float32')
  y = x.reshape(4, 12)
  for index, layer in enumerate(net.layers):
    y = np.maximum(dense(y, layer), 0)
    np.testing.assert_allclose(
      functools.reduce(net.stage, range(index + 1), jnp.asarray(x)), y, rtol=1e-4, atol=1e-5
    )
  np.testing.assert_allclose(net(jnp.asarray(x)), dense(y, net.linear), rtol=1e-4, atol=1e-5)


def test_lenet_pools_what_it_convolves():
  net = tn.models.lenet(rngs=nnx.Rngs(0))
  x = np.random.default_rng(0).uniform(size=(2, 28, 28, 1)).astype('float32')
  y = x
  for conv in (net.conv1, net.conv2):
    kernel, bias = np.asarray(conv.kernel[...]), np.asarray(conv.bias[...])
    windows = np.lib.stride_tricks.sliding_window_view(y, (5, 5), (1, 2))
    y = np.einsum('nxychw,hwco->nxyo', windows, kernel, optimize=True) + bias
    n, h, w, c = y.shape
    y = y.reshape(n, h // 2, 2, w // 2, 2, c).max((2, 4))
  wanted = np.maximum(dense(y.reshape(2, -1), net.hidden), 0)
  np.testing.assert_allclose(net.stage(jnp.asarray(x)), wanted, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(net(jnp.asarray(x)), dense(wanted, net.linear), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('make', [tn.models.lenet, functools.partial(tn.models.mlp, (6,))])
def test_a_file_says_how_to_build_them(make, tmp_path):
  net = make(num_classes=4, rngs=nnx.Rngs(0))
  tn.save(tmp_path / 'a.safetensors', net)
  jax.tree.map(
    np.testing.assert_array_equal,
    nnx.state(tn.load(tmp_path / 'a.safetensors')), nnx.state(net),
  )  # fmt: skip


def test_other_sizes_are_refused():
  with pytest.raises(ValueError, match='images has shape'):
    tn.models.lenet(rngs=nnx.Rngs(0))(jnp.ones((1, 32, 32, 1)))
  for hidden in ((), (0,), (2.5,)):
    with pytest.raises(ValueError, match='hidden='):
      tn.models.mlp(hidden, rngs=nnx.Rngs(0))
