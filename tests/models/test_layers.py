"""Parts of networks beside those of flax."""

import jax
import numpy as np
import pytest
from flax import nnx

from tnjax.models._layers import halved


@pytest.mark.parametrize('shape', [(2, 6, 4, 3), (2, 7, 5, 1), (1, 2, 2, 4)])
def test_halving_is_max_pooling_with_its_gradient(shape):
  x = np.random.default_rng(0).normal(size=shape).astype('float32')  # without equal entries

  def pooled(x):
    return nnx.max_pool(x, (2, 2), strides=(2, 2))

  found, back = jax.vjp(halved, x)
  wanted, transposed = jax.vjp(pooled, x)
  np.testing.assert_array_equal(found, wanted)
  np.testing.assert_array_equal(back(wanted)[0], transposed(wanted)[0])
