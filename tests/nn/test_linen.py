import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx

import tnjax as tn

KEY = jax.random.key(0)


class Net(linen.Module):
  """A user's network: their own layers and ours."""

  @linen.compact
  def __call__(self, x):
    x = tn.nn.to_linen(tn.nn.Conv, 3, 8, (3, 3), scheme=tn.schemes.tk(rate=0.5), name='conv')(x)
    x = linen.relu(x).mean(axis=(1, 2))
    return tn.nn.to_linen(tn.nn.Linear, 8, 4, scheme=tn.schemes.svd(ranks=2))(x)


def test_params_land_in_params_and_train():
  x = jax.random.normal(KEY, (2, 6, 6, 3))
  variables = Net().init(KEY, x)
  assert set(variables) == {'params'}
  assert set(variables['params']['conv']) == {'core', 'factor_2', 'factor_3', 'bias'}

  def loss(variables):
    return jnp.mean(Net().apply(variables, x) ** 2)

  slopes = jax.jit(jax.grad(loss))(variables)
  moved = jax.tree.map(lambda p, g: p - 0.05 * g, variables, slopes)
  assert loss(moved) < loss(variables)


def test_equals_the_nnx_layer():
  module = tn.nn.to_linen(tn.nn.Linear, 8, 4, scheme=tn.schemes.r_tt(ranks=2, order=2))
  x = jax.random.normal(KEY, (5, 8))
  variables = module.init(KEY, x)
  layer = tn.nn.Linear(8, 4, scheme=tn.schemes.r_tt(ranks=2, order=2), rngs=nnx.Rngs(1))
  for name, value in variables['params'].items():
    setattr(layer, name, nnx.Param(value))
  np.testing.assert_allclose(module.apply(variables, x), layer(x), atol=1e-6)


@pytest.mark.parametrize('name', ['tk', 'cp', 'shuffled'])
def test_message_pack_and_orbax_round_trips(name, tmp_path):
  module = tn.nn.to_linen(tn.nn.Conv, 4, 6, (3, 3), scheme=tn.schemes.by_name(name, 0.5))
  x = jax.random.normal(KEY, (1, 5, 5, 4))
  variables = module.init(KEY, x)
  blank = jax.tree.map(jnp.zeros_like, variables)
  restored = flax.serialization.from_bytes(blank, flax.serialization.to_bytes(variables))
  np.testing.assert_array_equal(module.apply(restored, x), module.apply(variables, x))
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'checkpoint', variables)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / 'checkpoint', blank)
  np.testing.assert_array_equal(module.apply(restored, x), module.apply(variables, x))


def test_scan_over_layers():
  class Block(linen.Module):
    @linen.compact
    def __call__(self, x, _):
      scheme = tn.schemes.svd(ranks=2)
      return linen.tanh(tn.nn.to_linen(tn.nn.Linear, 8, 8, scheme=scheme, name='linear')(x)), None

  stack = linen.scan(Block, variable_axes={'params': 0}, split_rngs={'params': True}, length=3)()
  x = jax.random.normal(KEY, (2, 8))
  variables = stack.init(KEY, x, None)
  cores = variables['params']['linear']
  assert cores['core_0'].shape == (3, 8, 2)
  assert not np.allclose(cores['core_0'][0], cores['core_0'][1])
  found, _ = stack.apply(variables, x, None)
  expected = x
  for i in range(3):
    core_0, core_1, bias = (cores[n][i] for n in ('core_0', 'core_1', 'bias'))
    expected = jnp.tanh(expected @ core_0 @ core_1 + bias[None])
  np.testing.assert_allclose(found, expected, atol=1e-5)
