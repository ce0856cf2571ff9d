"""Devices: the mesh over which a batch is sharded, and processes that compute together."""

import json
import re

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.common.arrays import host, like
from experiments.common.config import Config


def start(config: Config) -> None:
  """Joins the other processes where the settings ask for it; before any other use of jax.

  Raises:
    ValueError: they cannot be found.
  """
  if not config.distributed:
    for name in ('coordinator', 'processes', 'process'):
      if getattr(config, name) is not None:
        raise ValueError(f'--{name} goes with --distributed')
    return
  jax.config.update('jax_enable_preemption_service', False)  # it would take SIGTERM for itself
  try:
    jax.distributed.initialize(config.coordinator, config.processes, config.process)
  except (RuntimeError, ValueError, TypeError) as error:
    raise ValueError(f'--distributed: {str(error).splitlines()[0]}') from None


def primary() -> bool:
  """Whether this process is the one that writes and prints."""
  return jax.process_index() == 0


def make(text: str | None) -> Mesh | None:
  """The mesh of `data:N`; without a text all devices of several processes, or None for one.

  Raises:
    ValueError: not of that form, more devices than there are, or not all those of several
      processes, each of which must take part.
  """
  devices, several = jax.devices(), jax.process_count() > 1
  if text is None and not several:
    return None
  found = re.fullmatch(r'data:([1-9]\d{0,5})', text or f'data:{len(devices)}')
  if not found:
    raise ValueError(f'--mesh={text} must be data:N, with N devices')
  count = int(found[1])
  if count > len(devices) or (several and count != len(devices)):
    raise ValueError(f'--mesh={text}: jax sees {len(devices)} device{"s" * (len(devices) > 1)}')
  return Mesh(np.array(devices[:count]), ('data',))


def check_batch(mesh: Mesh | None, size: int) -> None:
  """Raises ValueError where a batch of `size` cannot be shared out evenly."""
  if mesh is not None and size % mesh.size:
    raise ValueError(f'--mesh=data:{mesh.size} must divide the batch of {size}; see --batch_size')


def replicated(mesh: Mesh) -> NamedSharding:
  """The whole array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def replicate(mesh: Mesh | None, tree: object) -> object:
  """The tree whole on every device; of several processes, the first one's."""
  if mesh is None:
    return jax.device_put(tree)
  if jax.process_count() == 1:
    return jax.device_put(tree, replicated(mesh))

  def place(leaf: jax.Array) -> jax.Array:
    numbers = host(leaf)
    shape = numbers.shape
    placed = jax.make_array_from_callback(shape, replicated(mesh), lambda index: numbers[index])
    return like(placed, leaf)

  return jax.tree.map(place, broadcast(tree))


def shard(mesh: Mesh | None, batch: object) -> object:
  """A batch, whole on every host, shared out over the devices along its first axis."""
  if mesh is None:
    return batch
  sharding = NamedSharding(mesh, PartitionSpec('data'))
  return jax.tree.map(
    lambda a: jax.make_array_from_callback(a.shape, sharding, lambda index: a[index]), batch
  )


def local(mesh: Mesh | None, tree: object) -> object:
  """A replicated tree on this process's first device alone."""
  return tree if mesh is None else jax.tree.map(lambda a: a.addressable_data(0), tree)


def broadcast(tree: object) -> object:
  """The first process's arrays, on every process."""
  if jax.process_count() == 1:
    return tree
  numbers = multihost_utils.broadcast_one_to_all(jax.tree.map(host, tree))
  return jax.tree.map(lambda a, leaf: like(np.asarray(a), leaf), numbers, tree)


def agree(value: object) -> object:
  """The first process's value, of JSON types, on every process: so that none takes another turn."""
  if jax.process_count() == 1:
    return value
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  padded = np.zeros(size, np.uint8)
  padded[: min(size, len(text))] = text[:size]
  return json.loads(bytes(np.asarray(multihost_utils.broadcast_one_to_all(padded))))
