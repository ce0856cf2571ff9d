"""What `contract` does: multiply-adds, and the time they are expected to take."""

import functools
import math

import jax.numpy as jnp
import opt_einsum

from tnjax.contraction._cost import Pair, seconds
from tnjax.contraction._devices import DEVICES, current_device
from tnjax.contraction._network import Network, equation


@functools.lru_cache(maxsize=256)
def work(network: Network, output: tuple[str, ...], dtype: str = 'float32') -> tuple[int, float]:
  """Multiply-adds of contracting a network to `output`, and expected seconds on this device.

  >>> net = Network(('a', 'b'), (('i', 'r'), ('r', 'o')), (('i', 2), ('r', 5), ('o', 3)))
  >>> work(net, ('o', 'i'))[0]
  30
  """
  text, optimize = equation(network, output)
  shapes = network.shapes().values()
  _, info = opt_einsum.contract_path(text, *shapes, shapes=True, optimize=optimize)
  device = DEVICES[current_device()].at(jnp.dtype(dtype).name)
  pairs = [_pair(step[2], info.size_dict) for step in info.contraction_list if ',' in step[2]]
  return sum(p.macs for p in pairs), sum(seconds(p, device) for p in pairs)


def _pair(text: str, sizes: dict[str, int]) -> Pair:
  terms, out = text.split('->')
  left, right = map(set, terms.split(','))
  kept = left & right & set(out)

  def size(letters: set[str]) -> int:
    return math.prod(sizes[x] for x in letters)

  counts = size(left - right), size(right - left), size((left & right) - kept), size(kept)
  return Pair(*counts, 1, size(left), size(right), size(set(out)))
