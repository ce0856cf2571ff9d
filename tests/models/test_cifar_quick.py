import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn


def pooled(x, reduce):
  """3x3 pool with stride 2 that looks one row and column past the end, on the host."""
  out = [
    [reduce(x[:, i : i + 3, j : j + 3], axis=(1, 2)) for j in range(0, x.shape[2], 2)]
    for i in range(0, x.shape[1], 2)
  ]
  return np.moveaxis(np.array(out), 2, 0)


def convolved(x, conv):
  kernel, bias = np.asarray(conv.kernel[...]), np.asarray(conv.bias[...])
  x = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
  size = x.shape[1] - 4
  return bias + sum(
    x[:, i : i + size, j : j + size] @ kernel[i, j] for i in range(5) for j in range(5)
  )


def test_layers_are_those_of_the_paper():
  net = nnx.eval_shape(lambda: tn.models.cifar_quick(rngs=nnx.Rngs(0)))
  sizes = {
    name: sum(v.size for v in jax.tree.leaves(nnx.state(getattr(net, name))))
    for name in ('conv1', 'conv2', 'conv3', 'linear1', 'linear2')
  }
  assert sizes['conv1'] + sizes['conv2'] + sizes['conv3'] == 79_328
  assert (sizes['linear1'], sizes['linear2']) == (65_600, 650)


def test_forward_is_what_numpy_says():
  net = tn.models.cifar_quick(8, num_classes=4, rngs=nnx.Rngs(0))
  x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype('float32')
  y = np.maximum(pooled(convolved(x, net.conv1), np.max), 0)
  for conv in (net.conv2, net.conv3):
    y = pooled(np.maximum(convolved(y, conv), 0), np.mean)
  assert y.shape == (2, 4, 4, 64)
  y = np.maximum(y.reshape(2, -1) @ np.asarray(net.linear1.kernel[...]), 0)  # biases are zero
  y = y @ np.asarray(net.linear2.kernel[...])
  np.testing.assert_allclose(net(jnp.asarray(x)), y, rtol=1e-4, atol=1e-5)


def test_a_compressed_one_is_saved_and_rebuilt_from_its_file(tmp_path):
  net = tn.models.cifar_quick(3125, rngs=nnx.Rngs(0))
  scheme = tn.schemes.r_tt(ranks=8, in_modes=(4,) * 5, out_modes=(5,) * 5)
  net.linear1 = tn.nn.Linear(1024, 3125, scheme=scheme, rngs=nnx.Rngs(1))
  tn.save(tmp_path / 'net.safetensors', net)
  found = tn.load(tmp_path / 'net.safetensors')
  jax.tree.map(np.testing.assert_array_equal, nnx.state(found), nnx.state(net))
  assert found.linear1.parametrization.num_params == 4_160


def test_other_images_are_refused():
  net = nnx.eval_shape(lambda: tn.models.cifar_quick(rngs=nnx.Rngs(0)))
  for shape, dtype in (((2, 28, 28, 3), 'float32'), ((2, 32, 32, 3), 'uint8')):
    with pytest.raises(ValueError, match='it needs floats'):
      net(jnp.zeros(shape, dtype))
