"""One pairwise contraction: every step of a schedule goes through here."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import opt_einsum
from jax import Array

from tnjax.contraction._conv import Geometry, convolve, pad_zeros
from tnjax.contraction._depthwise import depthwise
from tnjax.contraction._windows import ours

Labels = tuple[str, ...]


def merge(
  a: Array, a_labels: Labels, b: Array, b_labels: Labels, keep: frozenset[str], precision: object
) -> tuple[Array, Labels]:
  """Contracts two factors: sums every label that is not in `keep`."""
  out = tuple(x for x in dict.fromkeys((*a_labels, *b_labels)) if x in keep)
  return _einsum(a, a_labels, b, b_labels, out, precision), out


def meet(
  x: Array,
  x_labels: Labels,
  factor: Array,
  factor_labels: Labels,
  keep: frozenset[str],
  geometry: Geometry,
  precision: object = None,
) -> tuple[Array, Labels]:
  """Contracts `x`, axes (batch, *spatial, *x_labels), with a factor.

  Labels that are not in `keep` are summed; spatial labels of the factor are convolved with the
  input's spatial axes. Returns the result and its labels: those only `x` has first, then the kept
  shared ones, then those the factor adds.
  """
  convolved = [a for a in geometry.spatial if a in factor_labels]
  shared = [a for a in x_labels if a in factor_labels]
  only_x = [a for a in x_labels if a not in shared and a in keep]
  kept = [a for a in shared if a in keep]
  new = [a for a in factor_labels if a in keep and a not in shared]
  lonely = tuple(a for a in factor_labels if a not in (*convolved, *shared, *new))
  if lonely:  # a bond that nothing else carries is a plain sum
    factor = factor.sum(axis=tuple(factor_labels.index(a) for a in lonely))
    factor_labels = tuple(a for a in factor_labels if a not in lonely)
  if not convolved:
    axes = tuple(f'x{i}' for i in range(1 + len(geometry.spatial)))
    out = (*axes, *only_x, *kept, *new)
    product = _einsum(x, (*axes, *x_labels), factor, factor_labels, out, precision)
    return product, (*only_x, *kept, *new)
  local = geometry.without([a for a in geometry.spatial if a not in convolved])
  if len(kept) == len(shared) and not new and ours():
    return _shifted(x, x_labels, factor, factor_labels, local), x_labels
  return _convolved(x, x_labels, factor, factor_labels, (only_x, kept, new), local, precision)


def _einsum(
  a: Array, a_labels: Labels, b: Array, b_labels: Labels, out: Labels, precision: object
) -> Array:
  letters = {x: opt_einsum.get_symbol(i) for i, x in enumerate(dict.fromkeys(a_labels + b_labels))}
  left, right, result = (''.join(letters[x] for x in ls) for ls in (a_labels, b_labels, out))
  return jnp.einsum(f'{left},{right}->{result}', a, b, precision=precision)


def _convolved(
  x: Array,
  x_labels: Labels,
  factor: Array,
  factor_labels: Labels,
  parts: tuple[Sequence[str], Sequence[str], Sequence[str]],
  geometry: Geometry,
  precision: object,
) -> tuple[Array, Labels]:
  """By one convolution: summed labels are its input channels, kept ones its groups."""
  only_x, kept, new = parts
  n = len(geometry.spatial)
  summed = [a for a in x_labels if a in factor_labels and a not in kept]
  x_size = dict(zip(x_labels, x.shape[1 + n :]))
  f_size = dict(zip(factor_labels, factor.shape))
  groups, depth = (math.prod(x_size[a] for a in part) for part in (kept, summed))

  # Input as (batch x only_x, *spatial, kept x summed), factor as (*kernel, summed, kept x new).
  def axes(labels: Sequence[str]) -> list[int]:
    return [1 + n + x_labels.index(a) for a in labels]

  order = [0, *axes(only_x), *range(1, n + 1), *axes(kept), *axes(summed)]
  rows = x.shape[0] * math.prod(x_size[a] for a in only_x)
  lhs = x.transpose(order).reshape(rows, *x.shape[1 : 1 + n], groups * depth)
  taps = [a for a in geometry.spatial if a in factor_labels]
  order = [factor_labels.index(a) for a in [*taps, *summed, *kept, *new]]
  kernel_size = [f_size.get(a, 1) for a in geometry.spatial]
  outs = groups * math.prod(f_size[a] for a in new)
  rhs = factor.transpose(order).reshape(*kernel_size, depth, outs)
  out = convolve(lhs, rhs, groups, geometry, precision)
  sizes = [x_size[a] for a in only_x]
  channels = [x_size[a] for a in kept] + [f_size[a] for a in new]
  out = out.reshape(x.shape[0], *sizes, *out.shape[1 : 1 + n], *channels)
  if only_x:  # spatial axes back behind the batch
    k = len(only_x)
    out = out.transpose(0, *range(1 + k, 1 + k + n), *range(1, 1 + k), *range(1 + k + n, out.ndim))
  return out, (*only_x, *kept, *new)


def _shifted(
  x: Array, x_labels: Labels, factor: Array, factor_labels: Labels, geometry: Geometry
) -> Array:
  """A factor that carries nothing but taps and labels of x, which it keeps."""
  own = [a for a in x_labels if a in factor_labels]
  taps = [a for a in geometry.spatial if a in factor_labels]
  sizes = dict(zip(factor_labels, factor.shape))
  factor = factor.transpose([factor_labels.index(a) for a in (*taps, *own)])
  factor = factor.reshape([sizes.get(a, 1) for a in (*geometry.spatial, *x_labels)])
  padded = pad_zeros(x, geometry.padding, len(x_labels))
  return depthwise(padded, factor, geometry.strides, geometry.dilation)
