"""The order of contraction, decided at trace time from shapes alone.

The input and the factors of a layer are contracted two at a time. Where the input stands and which
factors meet one another first is open: the chain through the layer, rebuilding the kernel for one
dense convolution, and merging the input-side and the output-side factors of a matrix for two
products are all among the orders. Up to `_EXACT` operands a dynamic program over their subsets
finds the best order of all.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping

import opt_einsum
from jax import Array

from tnjax.contraction._conv import pad_zeros
from tnjax.contraction._cost import OBJECTIVES, Pair, cost_of, current_device, device_of
from tnjax.contraction._layer import Layer
from tnjax.contraction._pair import Labels, meet, merge

_EXACT = 10  # operands, the input among them; beyond it, the best of a few orders is taken


@dataclasses.dataclass(frozen=True)
class Step:
  """One contraction of two sets of operands, as integers whose bits are the members."""

  left: int
  right: int
  pair: Pair


@dataclasses.dataclass(frozen=True)
class Plan:
  """An order of contraction.

  Attributes:
    layer: what it was made for; `execute` takes other batch sizes too.
    steps: in order; of every step the left side holds the input, where one does.
    objective, training, device: what it was chosen by.
  """

  layer: Layer
  steps: tuple[Step, ...]
  objective: str
  training: bool
  device: str

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
    cost = cost_of('time', self.training, device_of(self.device))
    return sum(cost(step.pair) for step in self.steps)

  @property
  def dense_seconds(self) -> float:
    """The same estimate for the dense layer."""
    cost = cost_of('time', self.training, device_of(self.device))
    return cost(dense_pair(self.layer.subsampled))

  @property
  def order(self) -> tuple[tuple[str, str], ...]:
    """What meets what, in names; the input is 'x'."""
    return tuple((self._names(step.left), self._names(step.right)) for step in self.steps)

  def _names(self, members: int) -> str:
    return ' '.join(name for i, name in enumerate(self.layer.names) if members >> i & 1)

  @property
  def peak_floats(self) -> int:
    """Most entries alive at once in the forward pass, the operands among them."""
    layer = self.layer.subsampled
    alive = {1 << i: layer.floats(1 << i) for i in range(len(layer.operands))}
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
    return sum(self.layer.subsampled.floats(side) for side in sides)

  @property
  def rebuilds(self) -> bool:
    """Whether the whole kernel is rebuilt and the input meets it last."""
    return self.steps[-1].left == 1


@functools.lru_cache(maxsize=4096)
def plan(
  layer: Layer,
  objective: str = 'time',
  training: bool = False,
  device: str | None = None,
  memory: int | None = None,
) -> Plan:
  """The best order of contraction.

  Args:
    layer: the labelled network and the sizes of its input.
    objective: 'flops', 'bytes' or 'time' (of a roofline with the device's rates).
    training: count both backward products of every step too.
    device: a name in `DEVICES`; default that of jax's default back end.
    memory: most entries that an intermediate result may have; results that nothing avoids may.

  Raises:
    ValueError: an unknown objective or device, a layer whose geometry does not fit its network, or
      a `memory` that no order keeps.

  >>> from tnjax.contraction import Network
  >>> net = Network(('a', 'b'), (('s1', 'r'), ('r', 't1')), (('s1', 64), ('t1', 64), ('r', 4)))
  >>> p = plan(Layer(net, ('s1',), ('t1',), batch=8), 'flops')
  >>> p.macs == 8 * 64 * 4 * 2, p.rebuilds, p.layer.dense_macs
  (True, False, 32768)
  """
  if objective not in OBJECTIVES:
    raise ValueError(f'objective={objective!r} must be one of {", ".join(OBJECTIVES)}')
  device = device or current_device()
  cost = cost_of(objective, training, device_of(device))
  _check(layer)
  early = layer.subsampled
  if len(layer.operands) <= _EXACT:
    steps = _best(early, cost, memory)
  else:
    usual = [_steps(early, tree) for tree in _usual_trees(early)]
    if memory is not None:
      usual = [s for s in usual if all(step.pair.out <= memory for step in s[:-1])]
    steps = min(usual, key=lambda s: sum(cost(step.pair) for step in s), default=None)
  if steps is None:
    raise ValueError(f'memory={memory}: every order has a larger intermediate result')
  return Plan(layer, steps, objective, training, device)


def orders(layer: Layer) -> Iterator[tuple[Step, ...]]:
  """Every order of contraction, up to the order of independent steps; for tests and benchmarks."""
  early = layer.subsampled

  def trees(members: int) -> Iterator[tuple[tuple[int, int], ...]]:
    if members & (members - 1) == 0:
      yield ()
    for left, right in _splits(members):
      for a in trees(left):
        for b in trees(right):
          yield (*a, *b, (left, right))

  for tree in trees((1 << len(layer.operands)) - 1):
    yield _steps(early, tree)


def pair(
  layer: Layer, left: int, right: int, left_order: Labels, right_order: Labels
) -> tuple[Pair, Labels]:
  """Sizes of the contraction of two sets of operands, and the order of the result's labels.

  Args:
    layer: subsampled already.
    left, right: the sets; the input, if in one, is in the left.
    left_order, right_order: labels of both as they lie in memory.
  """
  result = left | right
  out = layer.labels(result)
  spatial = layer.geometry.spatial
  taps = rows = 1
  if left & 1:
    rows = layer.batch
    for label, m, n in zip(spatial, layer.positions(result), layer.positions(left)):
      rows *= m if label in right_order else n
      taps *= layer.sizes[label] if label in right_order else 1
    right_order = tuple(a for a in right_order if a not in spatial)
  only_left = [a for a in left_order if a in out and a not in right_order]
  kept = [a for a in left_order if a in out and a in right_order]
  new = [a for a in right_order if a in out and a not in left_order]
  summed = {*left_order, *right_order}.difference(only_left, kept, new)
  sizes = [layer.floats(members) for members in (left, right, result)]
  order = (*only_left, *kept, *new)
  moved = 0
  if taps > 1 and not summed and not new:  # depthwise, in place
    order = left_order
  elif left & 1:
    inside = [a for a in left_order if a in summed]
    last = inside == list(left_order[len(left_order) - len(inside) :])
    if kept or not last or (taps > 1 and only_left):
      moved = sizes[0] + (sizes[2] if kept or only_left else 0)
  counts = (layer.size(labels) for labels in (new, summed, kept))
  return Pair(rows * layer.size(only_left), *counts, taps, *sizes, moved), order


def dense_pair(layer: Layer) -> Pair:
  """Sizes of the dense layer's one product."""
  positions = layer.positions((1 << len(layer.operands)) - 1)
  rows, taps = layer.batch, 1
  for label, n in zip(layer.geometry.spatial, positions):
    rows, taps = rows * n, taps * layer.sizes.get(label, 1)
  depth, columns = layer.size(layer.inputs), layer.size(layer.outputs)
  return Pair(
    rows, columns, depth, 1, taps, layer.floats(1), depth * columns * taps, rows * columns
  )


def execute(plan: Plan, arrays: Mapping[str, Array], x: Array, precision: object = None) -> Array:
  """Runs a plan on x of shape (batch, *spatial, prod of inputs); channels come out flat.

  Args:
    plan: from `plan`.
    arrays: the factors by name.
    x: any batch and any spatial size that has the same padding.
    precision: of the products, as in `jax.lax.dot_general`.
  """
  layer, geometry = plan.layer, plan.layer.subsampled.geometry
  network = layer.network
  x = _subsample(x, layer)
  x = x.reshape(*x.shape[:-1], *(layer.sizes[a] for a in layer.inputs))
  shapes = network.shapes()
  nodes = {1: (x, layer.inputs)}
  for i, name in enumerate(network.names):
    nodes[2 << i] = (arrays[name].reshape(shapes[name]), network.labels[i])
  for step in plan.steps:
    a, b, members = nodes.pop(step.left), nodes.pop(step.right), step.left | step.right
    keep = layer.labels(members)
    if members & 1:
      nodes[members] = meet(*a, *b, keep, geometry, precision)
    else:
      nodes[members] = merge(*a, *b, keep, precision)
  ((y, labels),) = nodes.values()
  n = 1 + len(geometry.spatial)
  y = y.transpose(*range(n), *(n + labels.index(a) for a in layer.outputs))
  return y.reshape(*y.shape[:n], layer.size(layer.outputs))


def chain(layer: Layer) -> tuple[Step, ...]:
  """The order in which the input meets one factor after the other, as the network lists them."""
  return _steps(layer.subsampled, _chain_tree(len(layer.operands)))


def _best(
  layer: Layer, cost: Callable[[Pair], float], memory: int | None
) -> tuple[Step, ...] | None:
  """Dynamic program over the subsets of operands: the cheapest way to contract each.

  Exact for the work. Traffic and time depend a little on how the labels of an intermediate result
  lie in memory; of every subset only the cheapest way goes on, with its layout.
  """
  count = len(layer.operands)
  whole = (1 << count) - 1
  best = {1 << i: (0.0, 0, order) for i, order in enumerate(_orders(layer))}
  for members in sorted(range(1, 1 << count), key=int.bit_count):
    if members in best:
      continue
    found = (math.inf, 0, ())
    for left, right in _splits(members):
      (a, _, left_order), (b, _, right_order) = best[left], best[right]
      if a + b < found[0]:
        step, order = pair(layer, left, right, left_order, right_order)
        total = a + b + cost(step)
        if total < found[0]:
          found = (total, left, order)
    if memory is not None and members != whole and layer.floats(members) > memory:
      found = (math.inf, *found[1:])
    best[members] = found
  if best[whole][0] == math.inf:
    return None

  def tree(members: int) -> list[tuple[int, int]]:
    left = best[members][1]
    return [*tree(left), *tree(members ^ left), (left, members ^ left)] if left else []

  return _steps(layer, tree(whole))


def _orders(layer: Layer) -> tuple[Labels, ...]:
  """Labels of every operand as it comes."""
  return (layer.inputs, *layer.network.labels)


def _splits(members: int) -> Iterator[tuple[int, int]]:
  """All ways to part a set in two; the left part has its least member."""
  least = members & -members
  rest = members ^ least
  right = rest
  while right:
    yield members ^ right, right
    right = (right - 1) & rest


def _steps(layer: Layer, tree: Iterable[tuple[int, int]]) -> tuple[Step, ...]:
  orders = {1 << i: order for i, order in enumerate(_orders(layer))}
  steps = []
  for left, right in tree:
    step, order = pair(layer, left, right, orders[left], orders[right])
    orders[left | right] = order
    steps.append(Step(left, right, step))
  return tuple(steps)


def _chain_tree(count: int) -> list[tuple[int, int]]:
  return [((1 << i) - 1, 1 << i) for i in range(1, count)]


def _usual_trees(layer: Layer) -> Iterator[list[tuple[int, int]]]:
  """For many operands: the chain, and the factors merged into one or into two groups."""
  count = len(layer.operands)
  yield _chain_tree(count)
  yield [*_merged(layer, range(1, count)), (1, (1 << count) - 2)]
  for k in range(2, count):
    first, second = range(1, k), range(k, count)
    a, b = (sum(1 << i for i in part) for part in (first, second))
    yield [*_merged(layer, first), *_merged(layer, second), (1, a), (1 | a, b)]


def _merged(layer: Layer, members: range) -> list[tuple[int, int]]:
  """Some factors contracted with one another, in opt_einsum's greedy order."""
  letters = {label: opt_einsum.get_symbol(i) for i, label in enumerate(layer.sizes)}
  terms = [''.join(letters[x] for x in layer.network.labels[i - 1]) for i in members]
  left = ''.join(letters[x] for x in layer.labels(sum(1 << i for i in members)))
  shapes = [tuple(layer.sizes[x] for x in layer.network.labels[i - 1]) for i in members]
  path, _ = opt_einsum.contract_path(
    f'{",".join(terms)}->{left}', *shapes, shapes=True, optimize='greedy'
  )
  sets, tree = [1 << i for i in members], []
  for places in path:
    picked = [sets.pop(k) for k in sorted(places, reverse=True)]
    for other in picked[1:]:
      tree.append((picked[0], other))
      picked[0] |= other
    sets.append(picked[0])
  return tree


def _check(layer: Layer) -> None:
  """Refuses a layer whose parts do not fit one another."""
  geometry, sizes = layer.geometry, layer.sizes
  if len(layer.spatial) != len(geometry.spatial):
    raise ValueError(
      f"spatial={layer.spatial} must have a size for each of the geometry's {geometry.spatial}"
    )
  for label, size in zip(geometry.spatial, geometry.kernel):
    if size != sizes.get(label, 1):
      raise ValueError(
        f'geometry.kernel={geometry.kernel}: label {label!r} has size {sizes.get(label, 1)} in the '
        'network'
      )
  for label in {'d', 'h', 'w'}.intersection(sizes).difference(geometry.spatial):
    raise ValueError(f"geometry.spatial={geometry.spatial} lacks the network's label {label!r}")


def _subsample(x: Array, layer: Layer) -> Array:
  """Pads and strides the spatial modes that no factor carries (1x1 kernels), before any work."""
  geometry, unused = layer.geometry, layer.unused
  if not unused:
    return x
  pads = [p if a in unused else (0, 0) for a, p in zip(geometry.spatial, geometry.padding)]
  steps = [s if a in unused else 1 for a, s in zip(geometry.spatial, geometry.strides)]
  x = pad_zeros(x, pads)
  return x[(slice(None), *(slice(None, None, s) for s in steps), slice(None))]
