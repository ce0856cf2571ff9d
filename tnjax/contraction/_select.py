"""Part of the tensor that a network stands for: labels fixed to indices."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from tnjax.contraction._network import Network


def select(
  network: Network,
  arrays: Mapping[str, Array],
  at: Mapping[str, int | Array],
  batch: str = 'batch',
) -> tuple[Network, dict[str, Array]]:
  """The network of the tensor at some indices of some modes: operands cut, nothing contracted.

  One kernel out of a tensor of stacked kernels, or some rows of an embedding.

  Args:
    network: the labelled operands.
    arrays: their values by name.
    at: by label, an index, or several (n,), which go together: the i-th of every label makes the
      i-th part. Negative ones count from the back; a traced one out of range is clamped.
    batch: label of the axis that several indices make, carried by every operand they cut.

  Returns:
    The network without the labels of `at`, and its arrays; for `contract`, or for a layer.

  Raises:
    ValueError: a label the network does not have, an index out of range, or index vectors of
      different lengths.

  >>> from tnjax.contraction import contract
  >>> net = Network(('a', 'b'), (('k', 'r'), ('r', 'i')), (('k', 3), ('r', 2), ('i', 4)))
  >>> arrays = {'a': jnp.arange(6.).reshape(3, 2), 'b': jnp.ones((2, 4))}
  >>> part, cut = select(net, arrays, {'k': 2})
  >>> part.labels, contract(part, cut, ('i',)).tolist()
  ((('r',), ('r', 'i')), [9.0, 9.0, 9.0, 9.0])
  >>> part, cut = select(net, arrays, {'k': jnp.array([2, 0])})
  >>> contract(part, cut, ('batch', 'i'))[:, 0].tolist()
  [9.0, 1.0]
  """
  sizes = dict(network.sizes)
  indices = {label: _checked(label, index, sizes) for label, index in at.items()}
  if batch in sizes:
    raise ValueError(f'batch={batch!r} is a label of the network; give the new axis another name')
  lengths = {index.shape for index in indices.values() if index.ndim}
  if len(lengths) > 1:
    raise ValueError(
      f'at has index vectors of shapes {sorted(lengths)}; they must be of one length'
    )
  cut, labels = {}, []
  for name, own in zip(network.names, network.labels):
    picked = [x for x in own if x in indices]
    rest = [x for x in own if x not in indices]
    array = arrays[name].reshape([sizes[x] for x in own])
    if picked:
      array = array.transpose([own.index(x) for x in (*picked, *rest)])
      array = array[tuple(indices[x] for x in picked)]
    several = any(indices[x].ndim for x in picked)
    cut[name] = array
    labels.append((*((batch,) if several else ()), *rest))
  left = [(label, size) for label, size in network.sizes if label not in indices]
  left += [(batch, n) for (n,) in lengths]
  return Network(network.names, tuple(labels), tuple(left)), cut


def _checked(label: str, index: int | Array, sizes: Mapping[str, int]) -> Array:
  if label not in sizes:
    raise ValueError(f'at has the label {label!r}; the network has {", ".join(sizes)}')
  found = jnp.asarray(index)
  if found.ndim > 1 or not jnp.issubdtype(found.dtype, jnp.integer):
    raise ValueError(
      f'at[{label!r}] has shape {found.shape} and dtype {found.dtype}; it needs () or (n,) integers'
    )
  size = sizes[label]
  if not isinstance(found, jax.core.Tracer) and bool(((found < -size) | (found >= size)).any()):
    raise ValueError(f'at[{label!r}]={index} is out of range; its size is {size}')
  return found
