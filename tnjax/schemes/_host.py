"""Weights and factors on the host: whether they may be looked at, and the way back."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax import Array

# Entries of a weight up to which a program's compilation takes longer than NumPy: measured, on 2
# cores, for direct methods and HOOI; the many sweeps of ALS repay it sooner.
HOST, HOST_ALS = 2**22, 2**20


def at_hand(x: Array | None) -> bool:
  """Whether the host may look at the values."""
  return x is None or (not isinstance(x, jax.core.Tracer) and x.is_fully_addressable)


def beside(x: Array, tree: Any) -> Any:
  """NumPy arrays on the device of x; on all its devices where it has several."""
  sharding = x.sharding
  if len(sharding.device_set) > 1 and isinstance(sharding, jax.sharding.NamedSharding):
    return jax.device_put(
      tree, jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
    )
  with jax.default_device(min(sharding.device_set, key=lambda d: d.id)):
    return jax.device_put(tree)


def cast(factors: Mapping[str, Array], dtype: np.dtype) -> dict[str, Array]:
  """Factors in another dtype; the integers of a shuffle stay."""
  return {n: a if n.startswith('index') else a.astype(dtype) for n, a in factors.items()}
