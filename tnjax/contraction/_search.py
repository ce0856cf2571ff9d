"""Orders of contraction: the pairs they consist of, all of them, and the cheapest.

A set of operands is the integer whose bits are its members, as in `Problem`; a tree is the list of
the (left, right) sets that are contracted, in turn.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator

import opt_einsum

from tnjax.contraction._cost import Pair
from tnjax.contraction._pair import Labels
from tnjax.contraction._problem import Problem


@dataclasses.dataclass(frozen=True)
class Step:
  """One contraction of two sets of operands, as integers whose bits are the members."""

  left: int
  right: int
  pair: Pair


def orders(problem: Problem) -> Iterator[tuple[Step, ...]]:
  """Every order of contraction, up to the order of independent steps; for tests and benchmarks."""
  early = problem.subsampled

  def trees(members: int) -> Iterator[tuple[tuple[int, int], ...]]:
    if members & (members - 1) == 0:
      yield ()
    for left, right in _splits(members):
      for a in trees(left):
        for b in trees(right):
          yield (*a, *b, (left, right))

  for tree in trees((1 << len(problem.operands)) - 1):
    yield _steps(early, tree)


def chain(problem: Problem) -> tuple[Step, ...]:
  """The order in which the input meets one factor after the other, as the network lists them."""
  return _steps(problem.subsampled, _chain_tree(len(problem.operands)))


def pair(
  problem: Problem, left: int, right: int, left_order: Labels, right_order: Labels
) -> tuple[Pair, Labels]:
  """Sizes of the contraction of two sets of operands, and the order of the result's labels.

  Args:
    layer: subsampled already.
    left, right: the sets; the input, if in one, is in the left.
    left_order, right_order: labels of both as they lie in memory.
  """
  result = left | right
  out = problem.labels(result)
  spatial = problem.geometry.spatial
  taps = rows = 1
  if left & 1:
    rows = problem.batch
    for label, m, n in zip(spatial, problem.positions(result), problem.positions(left)):
      rows *= m if label in right_order else n
      taps *= problem.sizes[label] if label in right_order else 1
    right_order = tuple(a for a in right_order if a not in spatial)
  only_left = [a for a in left_order if a in out and a not in right_order]
  kept = [a for a in left_order if a in out and a in right_order]
  new = [a for a in right_order if a in out and a not in left_order]
  summed = {*left_order, *right_order}.difference(only_left, kept, new)
  sizes = [problem.floats(members) for members in (left, right, result)]
  order = (*only_left, *kept, *new)
  moved = 0
  if taps > 1 and not summed and not new:  # depthwise, in place
    order = left_order
  elif left & 1:
    inside = [a for a in left_order if a in summed]
    last = inside == list(left_order[len(left_order) - len(inside) :])
    if kept or not last or (taps > 1 and only_left):
      moved = sizes[0] + (sizes[2] if kept or only_left else 0)
  counts = (problem.size(labels) for labels in (new, summed, kept))
  return Pair(rows * problem.size(only_left), *counts, taps, *sizes, moved), order


def dense_pair(problem: Problem) -> Pair:
  """Sizes of the dense layer's one product."""
  positions = problem.positions((1 << len(problem.operands)) - 1)
  rows, taps = problem.batch, 1
  for label, n in zip(problem.geometry.spatial, positions):
    rows, taps = rows * n, taps * problem.sizes.get(label, 1)
  depth, columns = problem.size(problem.inputs), problem.size(problem.outputs)
  return Pair(
    rows, columns, depth, 1, taps, problem.floats(1), depth * columns * taps, rows * columns
  )


def best(
  problem: Problem, cost: Callable[[Pair], float], memory: int | None
) -> tuple[Step, ...] | None:
  """Dynamic program over the subsets of operands: the cheapest way to contract each.

  Exact for the work. Traffic and time depend a little on how the labels of an intermediate result
  lie in memory; of every subset only the cheapest way goes on, with its layout.
  """
  count = len(problem.operands)
  whole = (1 << count) - 1
  table = {1 << i: (0.0, 0, order) for i, order in enumerate(_orders(problem))}
  for members in sorted(range(1, 1 << count), key=int.bit_count):
    if members in table:
      continue
    found = (math.inf, 0, ())
    for left, right in _splits(members):
      (a, _, left_order), (b, _, right_order) = table[left], table[right]
      if a + b < found[0]:
        step, order = pair(problem, left, right, left_order, right_order)
        total = a + b + cost(step)
        if total < found[0]:
          found = (total, left, order)
    if memory is not None and members != whole and problem.floats(members) > memory:
      found = (math.inf, *found[1:])
    table[members] = found
  if table[whole][0] == math.inf:
    return None

  def tree(members: int) -> list[tuple[int, int]]:
    left = table[members][1]
    return [*tree(left), *tree(members ^ left), (left, members ^ left)] if left else []

  return _steps(problem, tree(whole))


def usual(problem: Problem) -> Iterator[tuple[Step, ...]]:
  """For many operands: the chain, and the factors merged into one or into two groups."""
  count = len(problem.operands)
  yield _steps(problem, _chain_tree(count))
  yield _steps(problem, [*_merged(problem, range(1, count)), (1, (1 << count) - 2)])
  for k in range(2, count):
    first, second = range(1, k), range(k, count)
    a, b = (sum(1 << i for i in part) for part in (first, second))
    tree = [*_merged(problem, first), *_merged(problem, second), (1, a), (1 | a, b)]
    yield _steps(problem, tree)


def _splits(members: int) -> Iterator[tuple[int, int]]:
  """All ways to part a set in two; the left part has its least member."""
  least = members & -members
  rest = members ^ least
  right = rest
  while right:
    yield members ^ right, right
    right = (right - 1) & rest


def _steps(problem: Problem, tree: Iterable[tuple[int, int]]) -> tuple[Step, ...]:
  orders = {1 << i: order for i, order in enumerate(_orders(problem))}
  steps = []
  for left, right in tree:
    step, order = pair(problem, left, right, orders[left], orders[right])
    orders[left | right] = order
    steps.append(Step(left, right, step))
  return tuple(steps)


def _orders(problem: Problem) -> tuple[Labels, ...]:
  """Labels of every operand as it comes."""
  return (problem.inputs, *problem.network.labels)


def _chain_tree(count: int) -> list[tuple[int, int]]:
  return [((1 << i) - 1, 1 << i) for i in range(1, count)]


def _merged(problem: Problem, members: range) -> list[tuple[int, int]]:
  """Some factors contracted with one another, in opt_einsum's greedy order."""
  letters = {label: opt_einsum.get_symbol(i) for i, label in enumerate(problem.sizes)}
  terms = [''.join(letters[x] for x in problem.network.labels[i - 1]) for i in members]
  left = ''.join(letters[x] for x in problem.labels(sum(1 << i for i in members)))
  shapes = [tuple(problem.sizes[x] for x in problem.network.labels[i - 1]) for i in members]
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
