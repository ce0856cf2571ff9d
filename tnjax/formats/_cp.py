"""Canonical polyadic format."""

import math
import operator
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

from tnjax.contraction import Network
from tnjax.formats._record import Join, ModeRecord
from tnjax.ops import khatri_rao, matmul, namespace, value


@value
class CP(ModeRecord):
  """Sum of R rank-one terms X = sum_r weights[r] a_r o b_r o ... (Kolda and Bader 2009, eq. 3.4).

  Attributes:
    weights: (R,) real scale of every term.
    factors: N matrices of shape (I_n, R).

  `num_params` counts the factors alone, R sum I_n: the weights can be absorbed into any factor
  (`absorbed()`) and add no freedom.

  >>> x = CP(jnp.array([2., 1.]), (jnp.ones((3, 2)), jnp.ones((4, 2))))
  >>> x.shape, x.ranks, x.num_params, float(x.full()[0, 0])
  ((3, 4), (2,), 14, 3.0)
  """

  weights: Array
  factors: tuple[Array, ...]

  @property
  def arrays(self) -> tuple[Array, ...]:
    """The factor matrices, without the weights."""
    return self.factors

  @property
  def mode_arrays(self) -> tuple[Array, ...]:
    """The factors."""
    return self.factors

  def with_mode_arrays(self, arrays: Sequence[Array]) -> 'CP':
    """The same weights with other factors."""
    return CP(self.weights, tuple(arrays))

  def cast(self, dtype: jnp.dtype) -> 'CP':
    """Factors in `dtype`, weights in its real counterpart; wider ones stay beside 16 bits."""
    real = jnp.finfo(dtype).dtype
    if real.itemsize < 4:  # of the weights, which hold the scale
      real = jnp.promote_types(self.weights.dtype, real)
    return CP(self.weights.astype(real), tuple(f.astype(dtype) for f in self.factors))

  def joined(self, other: 'CP', join: Join) -> 'CP':
    """Terms of both, side by side or in all products."""
    factors = tuple(join(x, y, (1,)) for x, y in zip(self.factors, other.factors))
    return CP(join(self.weights, other.weights, (0,)), factors)

  def scaled(self, c: Array, by: Callable = operator.mul) -> 'CP':
    """The weights take a real scalar; a complex one goes into the first factor."""
    if jnp.iscomplexobj(c):
      return super().scaled(c, by)
    cast = self.cast(jnp.result_type(self.dtype, c))
    return CP(by(cast.weights, jnp.asarray(c, cast.weights.dtype)), cast.factors)

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape (I_1, ..., I_N) of the tensor."""
    return tuple(f.shape[0] for f in self.factors)

  @property
  def ranks(self) -> tuple[int, ...]:
    """The CP rank, as a tuple of one."""
    return (self.weights.shape[0],)

  def full(self) -> Array:
    """The dense tensor."""
    # One product of two Khatri-Rao matrices, split where both are smallest.
    sizes = self.shape
    cut = min(range(1, len(sizes) + 1), key=lambda k: math.prod(sizes[:k]) + math.prod(sizes[k:]))
    left = khatri_rao(self.factors[:cut]) * self.weights.astype(self.dtype)[None]
    if cut == len(sizes):
      return left.sum(axis=1).reshape(sizes)
    return matmul(left, khatri_rao(self.factors[cut:]).T).reshape(sizes)

  def absorbed(self) -> 'CP':
    """The same tensor with unit weights, every factor taking an equal share of their scale."""
    xp = namespace(self.weights)
    size = xp.abs(self.weights)
    share = xp.where(size > 0, xp.where(size > 0, size, 1) ** (1 / len(self.factors)), 0)
    shares = [share] * (len(self.factors) - 1) + [share * xp.sign(self.weights)]
    factors = tuple(f * s.astype(f.dtype)[None] for f, s in zip(self.factors, shares))
    return CP(xp.ones_like(self.weights), factors)

  @staticmethod
  def network(
    modes: Sequence[Sequence[str]], sizes: dict[str, int], ranks: Sequence[int]
  ) -> Network:
    """Labelled operands for modes that are groups of labels; every factor carries 'r'."""
    labels = tuple((*mode, 'r') for mode in modes)
    all_sizes = sizes | {'r': ranks[0]}
    names = tuple(f'factor_{k}' for k in range(len(modes)))
    return Network(names, labels, tuple(all_sizes.items()))
