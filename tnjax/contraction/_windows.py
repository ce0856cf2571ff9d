"""What a kernel meets as it slides over an input without padding."""

from collections.abc import Sequence

import jax
import numpy as np
from jax import Array, lax

Ints = tuple[int, ...]

# `with lax_only(True):` traces without primitives of our own, for converters that know jax's alone;
# jax traces again what it has traced otherwise.
lax_only = jax.make_user_context(False)


def ours() -> bool:
  """Whether what is traced here may hold primitives of our own, which are for CPU."""
  return jax.default_backend() == 'cpu' and not lax_only.value


def output_size(size: Sequence[int], kernel: Ints, strides: Ints, dilation: Ints) -> Ints:
  """Sizes of the output's spatial axes, 0 where the kernel does not fit."""
  return tuple(
    max(0, (m - (k - 1) * d - 1) // s + 1) for m, k, d, s in zip(size, kernel, dilation, strides)
  )


def windows(x: Array, kernel: Ints, strides: Ints, dilation: Ints) -> list[Array]:
  """The entries of x (batch, *spatial, ...) that every tap meets."""
  n = len(kernel)
  size = output_size(x.shape[1:], kernel, strides, dilation)
  rest = x.ndim - 1 - n
  found = []
  for index in np.ndindex(*kernel):
    start = [i * d for i, d in zip(index, dilation)]
    stop = [b + (m - 1) * s + 1 for b, m, s in zip(start, size, strides)]
    found.append(
      lax.slice(
        x,
        (0, *start, *(0,) * rest),
        (x.shape[0], *stop, *x.shape[1 + n :]),
        (1, *strides, *(1,) * rest),
      )
    )
  return found
