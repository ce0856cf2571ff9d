import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

FORMS = {
  'one axis': ((8,), (12,), (-1,)),
  'heads': ((8,), (3, 4), (-1,)),
  'out of heads': ((3, 4), (8,), (-2, -1)),
  'inner axes': ((2, 3), (4, 5), (1, -1)),
  'turned': ((3, 2), (4,), (-1, 1)),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('name', ['svd', 'r_tt', 'r_cp', 'shuffled'])
def test_equals_its_dense_layer(form, name):
  ins, outs, axis = FORMS[form]
  options = {'axis': axis, 'param_dtype': 'float64', 'rngs': nnx.Rngs(0)}
  with jax.enable_x64(True):
    layer = tn.nn.LinearGeneral(ins, outs, scheme=tn.schemes.by_name(name, 0.5), **options)
    rng = np.random.default_rng(0)
    layer.bias[...] = jnp.asarray(rng.normal(size=outs))
    x = rng.normal(size=(7, *ins))  # flax sorts the axes

    @nnx.jit
    def run(layer, x):
      dense = layer.to_dense()
      return layer(x), dense(x), dense.kernel[...]

    found, expected, kernel = run(layer, x)
    assert kernel.shape == (*ins, *outs)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_from_dense_at_full_rank_is_the_layer():
  dense = nnx.LinearGeneral((3, 4), (2, 5), axis=(-2, -1), rngs=nnx.Rngs(0))
  layer = tn.nn.LinearGeneral.from_dense(dense, tn.schemes.svd(ranks=10))
  x = np.random.default_rng(0).normal(size=(6, 3, 4)).astype('float32')
  run = nnx.jit(lambda layer, x: layer(x))
  np.testing.assert_allclose(run(layer, x), run(dense, x), atol=1e-5)
  np.testing.assert_allclose(layer.to_dense().kernel[...], dense.kernel[...], atol=1e-5)


def test_bad_arguments_are_named():
  scheme, rngs = tn.schemes.svd(ranks=2), nnx.Rngs(0)
  with pytest.raises(ValueError, match='axis=-1'):
    tn.nn.LinearGeneral((2, 3), 4, scheme=scheme, rngs=rngs)
  layer = tn.nn.LinearGeneral((2, 3), 4, axis=(-2, -1), scheme=scheme, rngs=rngs)
  with pytest.raises(ValueError, match=r'\(5, 3, 2\).*\(2, 3\)'):
    layer(jnp.ones((5, 3, 2)))
  batched = nnx.LinearGeneral(2, 3, batch_axis={0: 4}, rngs=rngs)
  with pytest.raises(ValueError, match='batch_axis'):
    tn.nn.LinearGeneral.from_dense(batched, scheme)
