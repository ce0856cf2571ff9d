"""Embedding with a factorised table."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax import Array

from tnjax.nn._factorised import Factorised, check_channels, finish
from tnjax.schemes import Forecast, Parametrization, Scheme


class Embed(Factorised):
  """`nnx.Embed` whose table (num_embeddings, features) is stored as the factors of a scheme.

  A look-up contracts only the slices of the factors that the rows asked for need: with
  `tn.schemes.r_tt(ranks=8, in_modes=(50, 40, 25), out_modes=(8, 8, 8))` a table of 50,000 x 512
  is never formed (tensorized embeddings, Hrinchuk et al. 2020), unless so many ids are asked for
  that their slices would take more memory. A shuffled table is always rebuilt.

  Args:
    num_embeddings, features: rows and columns of the table.
    scheme: a scheme such as `tn.schemes.r_tt(rate=0.1)`; its input modes split the rows.
    dtype, param_dtype: as in `nnx.Embed`.
    embedding_std: root mean square of the rebuilt table at the start, in every draw; default
      1 / sqrt(features), that of flax's default.
    rngs: source of the `params` key; None makes an abstract layer, of shapes in place of arrays.

  Raises:
    ValueError: where the scheme does not fit (num_embeddings, features).

  >>> import tnjax as tn
  >>> layer = tn.nn.Embed(20, 6, scheme=tn.schemes.r_tt(ranks=3, order=2), rngs=nnx.Rngs(0))
  >>> ids = jnp.array([[0, 7, 19]])
  >>> layer(ids).shape, bool(jnp.allclose(layer(ids), layer.to_dense()(ids), atol=1e-5))
  ((1, 3, 6), True)
  """

  DENSE = nnx.Embed
  SHARED = ('num_embeddings', 'features', 'dtype', 'param_dtype')
  WEIGHT = 'embedding'
  use_bias = False

  @classmethod
  def weight_shape(cls, layer: nnx.Module) -> tuple[int, ...]:
    """(num_embeddings, features)."""
    return layer.num_embeddings, layer.features

  @classmethod
  def macs(
    cls, layer: nnx.Module, parametrization: Parametrization | None, call: Sequence[int]
  ) -> int:
    """None: a look-up reads."""
    return 0

  @classmethod
  def forecast(
    cls, layer: nnx.Module, parametrization: Parametrization, call: Sequence[int]
  ) -> Forecast:
    """As `Factorised.forecast`, of look-ups, whose time it does not know."""
    return Forecast(parametrization.rows_rebuild(32 * math.prod(call)))

  def __init__(
    self,
    num_embeddings: int,
    features: int,
    *,
    scheme: Scheme,
    dtype: jnp.dtype | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    embedding_std: float | None = None,
    rngs: nnx.Rngs | None,
  ):
    self.num_embeddings = num_embeddings
    self.features = features
    self.dtype = dtype or param_dtype
    self.param_dtype = param_dtype
    std = features**-0.5 if embedding_std is None else embedding_std
    self._setup(scheme, std, nnx.initializers.zeros_init(), (), rngs)

  @property
  def embedding(self) -> Array:
    """The rebuilt table, of shape (num_embeddings, features)."""
    return self.kernel

  def __call__(self, inputs: Array, out_sharding: object = None) -> Array:
    """Rows (..., features) for integer ids (...); NaN where an id is out of range, as in flax."""
    inputs = jnp.asarray(inputs)
    if not jnp.issubdtype(inputs.dtype, jnp.integer):
      raise ValueError(f'inputs has dtype {inputs.dtype}; ids must be integers')
    count = self.num_embeddings
    if count == 1:  # as flax does: the one row for whatever is asked
      inputs = jnp.zeros_like(inputs)
    _, factors, _ = self._promoted(jnp.zeros((), self.param_dtype))
    ids = jnp.where(inputs < 0, inputs + count, inputs)
    valid = (ids >= 0) & (ids < count)
    rows = self.parametrization.rows(factors, jnp.where(valid, ids, 0))
    return finish(jnp.where(valid[..., None], rows, jnp.nan), None, out_sharding)

  def attend(self, query: Array, out_sharding: object = None) -> Array:
    """Inner products (..., num_embeddings) of queries (..., features) with all rows."""
    check_channels(query, self.features)
    query, factors, _ = self._promoted(query)
    return finish(self.parametrization.attend(factors, query), None, out_sharding)
