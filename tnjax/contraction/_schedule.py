"""The order of contraction, decided at trace time from shapes alone.

The input and the factors of a layer are contracted two at a time. Where the input stands and which
factors meet one another first is open: the chain through the layer, rebuilding the kernel for one
dense convolution, and merging the input-side and the output-side factors of a matrix for two
products are all among the orders. Up to `_EXACT` operands a dynamic program over their subsets
finds the best order of all.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax.numpy as jnp
from jax import Array

from tnjax.contraction._conv import pad_zeros
from tnjax.contraction._cost import OBJECTIVES, Pair, cost_of
from tnjax.contraction._devices import DEVICES, Device, current_device, device_name
from tnjax.contraction._pair import meet, merge
from tnjax.contraction._problem import Problem
from tnjax.contraction._search import Step, best, dense_pair, usual
from tnjax.ops import HIGHEST, working_dtype

_EXACT = 10  # operands, the input among them; beyond it, the best of a few orders is taken


@dataclasses.dataclass(frozen=True)
class Schedule:
  """An order of contraction.

  Attributes:
    problem: what it was made for; `execute` takes other batch sizes too.
    steps: in order; of every step the left side holds the input, where one does.
    objective, training, device, dtype: what it was chosen by.
  """

  problem: Problem
  steps: tuple[Step, ...]
  objective: str
  training: bool
  device: str
  dtype: str = 'float32'

  @property
  def macs(self) -> int:
    """Multiply-adds of the forward pass."""
    return sum(step.pair.macs for step in self.steps)

  @property
  def floats(self) -> int:
    """Entries read and written in the forward pass."""
    return sum(step.pair.floats for step in self.steps)

  @property
  def seconds(self) -> float:
    """Estimated time on `device`; with `training`, of the forward and both backward products."""
    return sum(map(self.time_of, (step.pair for step in self.steps)))

  @property
  def dense_seconds(self) -> float:
    """The same estimate for the dense layer."""
    return self.time_of(dense_pair(self.problem.subsampled))

  def time_of(self, pair: Pair) -> float:
    """Estimated seconds of one contraction."""
    return cost_of('time', self.training, self.rates)(pair)

  def rewriting(self, entries: int) -> float:
    """Estimated seconds of writing so many entries in another order."""
    return self.time_of(Pair(1, 1, 1, 1, 1, 0, entries, entries, moved=entries))

  @property
  def rates(self) -> Device:
    """Those of `device` for entries of `dtype`."""
    return DEVICES[self.device].at(self.dtype)

  @property
  def order(self) -> tuple[tuple[str, str], ...]:
    """What meets what, in names; the input is 'x'."""
    return tuple((self._names(step.left), self._names(step.right)) for step in self.steps)

  def _names(self, members: int) -> str:
    return ' '.join(name for i, name in enumerate(self.problem.names) if members >> i & 1)

  @property
  def peak_floats(self) -> int:
    """Most entries alive at once in the forward pass, the operands among them."""
    problem = self.problem.subsampled
    alive = {1 << i: problem.floats(1 << i) for i in range(len(problem.operands))}
    peak = sum(alive.values())
    for step in self.steps:
      alive[step.left | step.right] = step.pair.out
      peak = max(peak, sum(alive.values()))
      del alive[step.left], alive[step.right]
    return peak

  @property
  def stored_floats(self) -> int:
    """Entries that a training step keeps for the backward pass: what enters every product."""
    sides = {side for step in self.steps for side in (step.left, step.right)}
    return sum(self.problem.subsampled.floats(side) for side in sides)

  @property
  def rebuilds(self) -> bool:
    """Whether the whole kernel is rebuilt and the input meets it last."""
    return self.steps[-1].left == 1


@functools.lru_cache(maxsize=4096)
def schedule(
  problem: Problem,
  objective: str = 'time',
  training: bool = False,
  device: str | None = None,
  memory: int | None = None,
  dtype: str = 'float32',
) -> Schedule:
  """The best order of contraction.

  Args:
    problem: the labelled network and the sizes of its input.
    objective: 'flops', 'bytes' or 'time' (of a roofline with the device's rates).
    training: count both backward products of every step too.
    device: a name in `DEVICES`, in any case; default that of jax's default back end.
    memory: most entries that an intermediate result may have; results that nothing avoids may.
    dtype: of input and factors: their bytes, and the rates of 16 bits.

  Raises:
    ValueError: an unknown objective or device, a layer whose geometry does not fit its network, or
      a `memory` that no order keeps.

  >>> from tnjax.contraction import Network
  >>> net = Network(('a', 'b'), (('s1', 'r'), ('r', 't1')), (('s1', 64), ('t1', 64), ('r', 4)))
  >>> p = schedule(Problem(net, ('s1',), ('t1',), batch=8), 'flops')
  >>> p.macs == 8 * 64 * 4 * 2, p.rebuilds, p.problem.dense_macs
  (True, False, 32768)
  """
  if objective not in OBJECTIVES:
    raise ValueError(f'objective={objective!r} must be one of {", ".join(OBJECTIVES)}')
  device = device_name(device or current_device())
  dtype = jnp.dtype(dtype).name
  cost = cost_of(objective, training, DEVICES[device].at(dtype))
  _check(problem)
  early = problem.subsampled
  if len(problem.operands) <= _EXACT:
    steps = best(early, cost, memory)
  else:
    found = list(usual(early))
    if memory is not None:
      found = [s for s in found if all(step.pair.out <= memory for step in s[:-1])]
    steps = min(found, key=lambda s: sum(cost(step.pair) for step in s), default=None)
  if steps is None:
    raise ValueError(f'memory={memory}: every order has a larger intermediate result')
  return Schedule(problem, steps, objective, training, device, dtype)


def execute(
  found: Schedule, arrays: Mapping[str, Array], x: Array, precision: object = None
) -> Array:
  """Runs a schedule on x of shape (batch, *spatial, prod of inputs); channels come out flat.

  Args:
    found: from `schedule`.
    arrays: the factors by name.
    x: any batch and any spatial size that has the same padding. Factors of 16 bits meet one another
      in float32.
    precision: of the products, as in `jax.lax.dot_general`.
  """
  problem, geometry = found.problem, found.problem.subsampled.geometry
  network = problem.network
  dtype = jnp.result_type(x, *(arrays[name] for name in network.names))
  wide = working_dtype(dtype)  # a kernel of 16 bits is rebuilt in 32, and rounded but once
  exact = precision if wide == dtype else HIGHEST
  x = _subsample(x.astype(dtype), problem)
  x = x.reshape(*x.shape[:-1], *(problem.sizes[a] for a in problem.inputs))
  shapes = network.shapes()
  nodes = {1: (x, problem.inputs)}
  for i, name in enumerate(network.names):
    nodes[2 << i] = (arrays[name].reshape(shapes[name]), network.labels[i])
  for step in found.steps:
    a, b, members = nodes.pop(step.left), nodes.pop(step.right), step.left | step.right
    keep = problem.labels(members)
    if members & 1:
      factor, labels = b
      nodes[members] = meet(*a, factor.astype(dtype), labels, keep, geometry, precision)
    else:
      (left, labels), (right, others) = a, b
      left, right = left.astype(wide), right.astype(wide)
      nodes[members] = merge(left, labels, right, others, keep, exact)
  ((y, labels),) = nodes.values()
  n = 1 + len(geometry.spatial)
  y = y.transpose(*range(n), *(n + labels.index(a) for a in problem.outputs))
  return y.reshape(*y.shape[:n], problem.size(problem.outputs))


def _check(problem: Problem) -> None:
  """Refuses a problem whose parts do not fit one another."""
  geometry, sizes = problem.geometry, problem.sizes
  if len(problem.spatial) != len(geometry.spatial):
    raise ValueError(
      f"spatial={problem.spatial} must have a size for each of the geometry's {geometry.spatial}"
    )
  for label, size in zip(geometry.spatial, geometry.kernel):
    if size != sizes.get(label, 1):
      raise ValueError(
        f'geometry.kernel={geometry.kernel}: label {label!r} has size {sizes.get(label, 1)} in the '
        'network'
      )
  for label in {'d', 'h', 'w'}.intersection(sizes).difference(geometry.spatial):
    raise ValueError(f"geometry.spatial={geometry.spatial} lacks the network's label {label!r}")


def _subsample(x: Array, problem: Problem) -> Array:
  """Pads and strides the spatial modes that no factor carries (1x1 kernels), before any work."""
  geometry, unused = problem.geometry, problem.unused
  if not unused:
    return x
  pads = [p if a in unused else (0, 0) for a, p in zip(geometry.spatial, geometry.padding)]
  steps = [s if a in unused else 1 for a, s in zip(geometry.spatial, geometry.strides)]
  x = pad_zeros(x, pads)
  return x[(slice(None), *(slice(None, None, s) for s in steps), slice(None))]
