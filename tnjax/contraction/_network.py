"""A labelled tensor network: which operand carries which modes and bonds, all static."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
import opt_einsum
from jax import Array

from tnjax.ops import namespace


@dataclasses.dataclass(frozen=True)
class Network:
  """Operands with labelled axes.

  Attributes:
    names: one name per operand, the keys of the factor dictionaries.
    labels: per operand, the label of every axis. A label shared by operands is summed over
      unless it is asked for in an output.
    sizes: (label, size) for every label.
  """

  names: tuple[str, ...]
  labels: tuple[tuple[str, ...], ...]
  sizes: tuple[tuple[str, int], ...]

  def size(self, labels: Sequence[str] | str) -> int:
    """Size of one label, or the product of several."""
    sizes = dict(self.sizes)
    return sizes[labels] if isinstance(labels, str) else math.prod(sizes[x] for x in labels)

  def shapes(self) -> dict[str, tuple[int, ...]]:
    """Shape of every operand, by name."""
    sizes = dict(self.sizes)
    return {n: tuple(sizes[x] for x in ls) for n, ls in zip(self.names, self.labels)}

  def num_params(self) -> int:
    """Number of stored entries."""
    return sum(math.prod(shape) for shape in self.shapes().values())


def contract(
  network: Network,
  arrays: Mapping[str, Array],
  output: Sequence[str],
  precision: object = None,
) -> Array:
  """Contracts the whole network to an array with axes `output`, in the order of least work.

  Of NumPy arrays, in NumPy.

  >>> net = Network(('a', 'b'), (('i', 'r'), ('r', 'o')), (('i', 2), ('r', 1), ('o', 3)))
  >>> contract(net, {'a': jnp.ones((2, 1)), 'b': jnp.ones((1, 3))}, ('o', 'i')).shape
  (3, 2)
  """
  text, optimize = equation(network, output)
  operands = [arrays[name].reshape(shape) for name, shape in network.shapes().items()]
  if namespace(*operands) is np:
    return np.einsum(text, *operands, optimize=True)
  return jnp.einsum(text, *operands, optimize=optimize, precision=precision)


def equation(network: Network, output: Sequence[str]) -> tuple[str, str]:
  """The contraction in einsum's letters, and how opt_einsum is to find its order."""
  letters = {label: opt_einsum.get_symbol(i) for i, (label, _) in enumerate(network.sizes)}
  terms = [''.join(letters[x] for x in labels) for labels in network.labels]
  text = ','.join(terms) + '->' + ''.join(letters[x] for x in output)
  return text, 'optimal' if len(terms) <= 5 else 'auto'
