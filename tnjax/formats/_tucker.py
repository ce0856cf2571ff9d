"""Tucker format, partial Tucker included."""

import operator
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from tnjax.contraction import Network
from tnjax.formats._record import Join, ModeRecord
from tnjax.ops import multi_mode_product, value


@value
class Tucker(ModeRecord):
  """Core times a matrix along every mode, X = core x_1 U_1 ... x_N U_N (Tucker 1966).

  Attributes:
    core: (R_1, ..., R_N).
    factors: N matrices of shape (I_n, R_n), or None for a mode that is left alone (partial
      Tucker, such as Tucker-2 of a convolution kernel); such a mode has R_n = I_n.

  >>> x = Tucker(jnp.ones((2, 3)), (jnp.ones((4, 2)), None))
  >>> x.shape, x.ranks, x.num_params, x.full().shape
  ((4, 3), (2, 3), 14, (4, 3))
  """

  core: Array
  factors: tuple[Array | None, ...]

  @property
  def arrays(self) -> tuple[Array, ...]:
    """The core, then the factors that are there."""
    return (self.core, *(f for f in self.factors if f is not None))

  @property
  def mode_arrays(self) -> tuple[Array | None, ...]:
    """The factors, None for modes left alone."""
    return self.factors

  def with_mode_arrays(self, arrays: Sequence[Array | None]) -> 'Tucker':
    """The same core with other factors."""
    return Tucker(self.core, tuple(arrays))

  def joined(self, other: 'Tucker', join: Join) -> 'Tucker':
    """Cores joined along all modes that have factors in both, elementwise along the others."""
    pairs = list(zip(self.factors, other.factors))
    bonds = [k for k, pair in enumerate(pairs) if all(f is not None for f in pair)]
    core = join(self._multiplied(bonds), other._multiplied(bonds), bonds)
    factors = (join(*pair, (1,)) if k in bonds else None for k, pair in enumerate(pairs))
    return Tucker(core, tuple(factors))

  def scaled(self, c: Array, by: Callable = operator.mul) -> 'Tucker':
    """The core takes the scalar."""
    cast = self.cast(jnp.result_type(self.dtype, c))
    return Tucker(by(cast.core, jnp.asarray(c, cast.dtype)), cast.factors)

  def is_single(self) -> bool:
    """As `ModeRecord.is_single`; the core has every mode."""
    orders = [getattr(a, 'ndim', None) for a in self.arrays]
    return orders == [len(self.factors)] + [2] * (len(orders) - 1)

  def _multiplied(self, bonds: Sequence[int]) -> Array:
    """The core, times the factors of all modes but `bonds`."""
    factors = [None if k in bonds else f for k, f in enumerate(self.factors)]
    return multi_mode_product(self.core, factors)

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape (I_1, ..., I_N) of the tensor."""
    return tuple(r if f is None else f.shape[0] for r, f in zip(self.core.shape, self.factors))

  @property
  def ranks(self) -> tuple[int, ...]:
    """The N multilinear ranks, the shape of the core."""
    return tuple(self.core.shape)

  def full(self) -> Array:
    """The dense tensor."""
    return multi_mode_product(self.core, self.factors)

  @staticmethod
  def network(
    modes: Sequence[Sequence[str]], sizes: dict[str, int], ranks: Sequence[int | None]
  ) -> Network:
    """Labelled operands; rank None keeps a mode whole in the core, the others get bonds 'r0'.."""
    free = [k for k, r in enumerate(ranks) if r is not None]
    core = tuple(
      x for k, mode in enumerate(modes) for x in ((f'r{k}',) if k in free else tuple(mode))
    )
    labels = (core, *((*modes[k], f'r{k}') for k in free))
    all_sizes = sizes | {f'r{k}': ranks[k] for k in free}
    names = ('core', *(f'factor_{k}' for k in free))
    return Network(names, labels, tuple(all_sizes.items()))
