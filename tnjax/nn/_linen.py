"""The one door for users of Flax Linen."""

from typing import Any

from flax import linen, nnx

from tnjax.nn._factorised import Factorised


def to_linen(
  layer: type[Factorised], *args: object, name: str | None = None, **kwargs: object
) -> linen.Module:
  """A factorised layer as a Linen module; its factors and bias land in `'params'`.

  To be called where any Linen layer is made: in `setup`, in an `nn.compact` method, or by itself.
  `init`, `apply`, `nn.scan` and serialisation then work as for `nn.Dense`. A shuffle's index lands
  in a collection of its own, `'Variable'`. An `Embed`'s output layer is
  `module.apply(variables, query, nnx_method='attend')`.

  Args:
    layer: the class: `Linear`, `LinearGeneral`, `Conv` or `Embed`.
    *args, **kwargs: those of the class, without `rngs`.
    name: of the Linen module.

  >>> import jax, jax.numpy as jnp, tnjax as tn
  >>> module = to_linen(tn.nn.Linear, 8, 4, scheme=tn.schemes.svd(ranks=2))
  >>> x = jnp.ones((3, 8))
  >>> variables = module.init(jax.random.key(0), x)
  >>> jax.tree.map(jnp.shape, variables)
  {'params': {'bias': (4,), 'core_0': (8, 2), 'core_1': (2, 4)}}
  >>> module.apply(variables, x).shape
  (3, 4)
  """
  options: dict[str, Any] = dict(kwargs)
  return nnx.bridge.to_linen(layer, *args, name=name, **options)
