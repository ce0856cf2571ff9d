"""Tensor train."""

from collections.abc import Sequence

from jax import Array

from tnjax.contraction import Network
from tnjax.formats._record import Join, ModeRecord
from tnjax.ops import tensordot, value


@value
class TT(ModeRecord):
  """Tensor train X[i_1, ..., i_d] = G_1[:, i_1, :] ... G_d[:, i_d, :] (Oseledets 2011).

  Attributes:
    cores: d arrays of shape (r_{k-1}, n_k, r_k) with r_0 = r_d = 1.

  >>> import jax.numpy as jnp
  >>> x = TT((jnp.ones((1, 2, 3)), jnp.ones((3, 4, 1))))
  >>> x.shape, x.ranks, x.num_params, x.full().shape
  ((2, 4), (3,), 18, (2, 4))
  """

  cores: tuple[Array, ...]
  mode_axis = 1

  @property
  def arrays(self) -> tuple[Array, ...]:
    """The cores."""
    return self.cores

  @property
  def mode_arrays(self) -> tuple[Array, ...]:
    """The cores."""
    return self.cores

  def with_mode_arrays(self, arrays: Sequence[Array]) -> 'TT':
    """The train of other cores."""
    return TT(tuple(arrays))

  def joined(self, other: 'TT', join: Join) -> 'TT':
    """Cores joined along their bonds; the ends are none."""
    last = len(self.cores) - 1
    axes = [(0,) * (k > 0) + (2,) * (k < last) for k in range(len(self.cores))]
    return TT(tuple(join(*triple) for triple in zip(self.cores, other.cores, axes)))

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape (n_1, ..., n_d) of the tensor."""
    return tuple(c.shape[1] for c in self.cores)

  @property
  def ranks(self) -> tuple[int, ...]:
    """The d - 1 inner TT-ranks."""
    return tuple(c.shape[2] for c in self.cores[:-1])

  def full(self) -> Array:
    """The dense tensor."""
    out = self.cores[0]
    for core in self.cores[1:]:
      out = tensordot(out, core, 1)
    return out.reshape(self.shape)

  @staticmethod
  def network(
    modes: Sequence[Sequence[str]], sizes: dict[str, int], ranks: Sequence[int]
  ) -> Network:
    """Labelled operands for modes that are groups of labels; bonds are 'r1', 'r2', ..."""
    bonds = ['', *(f'r{k + 1}' for k in range(len(ranks))), '']
    labels = tuple(
      tuple(x for x in (left, *mode, right) if x)
      for left, mode, right in zip(bonds, modes, bonds[1:])
    )
    all_sizes = sizes | dict(zip(bonds[1:], ranks))
    return Network(tuple(f'core_{k}' for k in range(len(modes))), labels, tuple(all_sizes.items()))
