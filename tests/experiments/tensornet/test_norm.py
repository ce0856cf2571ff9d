import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.tensornet.norm import BatchNorm


def test_outputs_averages_and_gradients_are_those_of_flax():
  rng = np.random.default_rng(0)
  x, weight = (jnp.asarray(rng.normal(2.0, 3.0, (6, 5)), 'float32') for _ in range(2))
  scale, bias = (jnp.asarray(rng.normal(size=5), 'float32') for _ in range(2))
  found = []
  for kind in (BatchNorm, nnx.BatchNorm):
    norm = kind(5, momentum=0.8, epsilon=1e-3, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = scale, bias
    graph, params, rest = nnx.split(norm, nnx.Param, ...)

    def value(params, x, graph=graph, rest=rest):
      norm = nnx.merge(graph, params, rest, copy=True)
      y = norm(x, use_running_average=False)
      return (y * weight).sum(), (y, norm(x, use_running_average=True), nnx.state(norm))

    found.append(jax.jit(jax.grad(value, (0, 1), has_aux=True))(params, x))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5), *found)
