"""Tensor ring."""

from collections.abc import Sequence

from jax import Array

from tnjax.contraction import Network
from tnjax.formats._record import Join, ModeRecord
from tnjax.ops import namespace, tensordot, value


@value
class TR(ModeRecord):
  """Tensor ring X[i_1, ..., i_d] = trace(G_1[:, i_1, :] ... G_d[:, i_d, :]) (Zhao et al. 2016).

  Attributes:
    cores: d arrays of shape (r_{k-1}, n_k, r_k) with r_d = r_0.

  >>> import jax.numpy as jnp
  >>> x = TR((jnp.ones((2, 3, 5)), jnp.ones((5, 4, 2))))
  >>> x.shape, x.ranks, x.num_params, float(x.full()[0, 0])
  ((3, 4), (2, 5), 70, 10.0)
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

  def with_mode_arrays(self, arrays: Sequence[Array]) -> 'TR':
    """The ring of other cores."""
    return TR(tuple(arrays))

  def joined(self, other: 'TR', join: Join) -> 'TR':
    """Cores joined along both bonds."""
    return TR(tuple(join(x, y, (0, 2)) for x, y in zip(self.cores, other.cores)))

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape (n_1, ..., n_d) of the tensor."""
    return tuple(c.shape[1] for c in self.cores)

  @property
  def ranks(self) -> tuple[int, ...]:
    """The d ring ranks (r_0, ..., r_{d-1}); r_0 joins the last core to the first."""
    return tuple(c.shape[0] for c in self.cores)

  def full(self) -> Array:
    """The dense tensor."""
    out = self.cores[0]
    for core in self.cores[1:-1]:
      out = tensordot(out, core, 1)
    if len(self.cores) == 1:
      return namespace(out).trace(out, axis1=0, axis2=2)
    last = self.cores[-1]
    axes = ((out.ndim - 1, 0), (0, 2))
    return tensordot(out, last, axes).reshape(self.shape)

  @staticmethod
  def network(
    modes: Sequence[Sequence[str]], sizes: dict[str, int], ranks: Sequence[int]
  ) -> Network:
    """Labelled operands for modes that are groups of labels; bonds are 'r0', 'r1', ..."""
    bonds = [f'r{k}' for k in range(len(ranks))]
    labels = tuple(
      (left, *mode, right) for left, mode, right in zip(bonds, modes, [*bonds[1:], bonds[0]])
    )
    all_sizes = sizes | dict(zip(bonds, ranks))
    return Network(tuple(f'core_{k}' for k in range(len(modes))), labels, tuple(all_sizes.items()))
