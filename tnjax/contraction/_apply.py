"""A factorised layer: scheduled, then executed."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.contraction._problem import Problem
from tnjax.contraction._schedule import execute, schedule


def apply(
  problem: Problem, arrays: Mapping[str, Array], x: Array, precision: object = None
) -> Array:
  """The layer's output (batch, *spatial', prod of outputs) for x (batch, *spatial, prod of inputs).

  In the order that takes the least time; where it is differentiated, in the one that takes the
  least time for the forward and both backward products.

  >>> import jax.numpy as jnp
  >>> from tnjax.contraction import Network
  >>> net = Network(('a', 'b'), (('s1', 'r'), ('r', 't1')), (('s1', 3), ('t1', 2), ('r', 1)))
  >>> arrays = {'a': jnp.ones((3, 1)), 'b': jnp.ones((1, 2))}
  >>> apply(Problem(net, ('s1',), ('t1',), batch=1), arrays, jnp.ones((1, 3))).tolist()
  [[3.0, 3.0]]
  """
  dtype = jnp.result_type(x, *arrays.values()).name
  evaluated, trained = (schedule(problem, training=t, dtype=dtype) for t in (False, True))

  def run(arrays: Mapping[str, Array], x: Array) -> Array:
    return execute(evaluated, arrays, x, precision)

  if evaluated.steps == trained.steps:
    return run(arrays, x)
  switched = jax.custom_jvp(run)
  switched.defjvp(
    lambda primals, tangents: jax.jvp(
      lambda arrays, x: execute(trained, arrays, x, precision), primals, tangents
    )
  )
  return switched(dict(arrays), x)
