"""What all formats share: a tuple of arrays, and a dtype."""

import jax.numpy as jnp
from jax import Array


class Record:
  """Base of the format records; subclasses are frozen dataclasses registered as pytrees."""

  @property
  def arrays(self) -> tuple[Array, ...]:
    """The stored arrays, in the order of the names in `network`."""
    raise NotImplementedError

  @property
  def dtype(self) -> jnp.dtype:
    """Dtype of the stored arrays (and of `full()`)."""
    return self.arrays[0].dtype

  @property
  def num_params(self) -> int:
    """Number of stored entries."""
    return sum(a.size for a in self.arrays)
