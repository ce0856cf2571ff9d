"""A schedule as a table for people."""

from collections.abc import Sequence

from tnjax.contraction._problem import Problem
from tnjax.contraction._schedule import Schedule
from tnjax.contraction._search import dense_pair


def explain(found: Schedule) -> str:
  """One line a step: what meets what, the result, work, traffic and share of the estimated time.

  The last lines give the whole and the dense layer beside it.

  >>> from tnjax.contraction import Network, Problem, schedule
  >>> net = Network(('a', 'b'), (('s1', 'r'), ('r', 't1')), (('s1', 64), ('t1', 64), ('r', 4)))
  >>> table = explain(schedule(Problem(net, ('s1',), ('t1',), batch=8)))
  >>> for line in table.splitlines()[1:3]:
  ...   print(line[:40].rstrip())
  1      x     a      8 | r=4     2,048
  2      x a   b      8 | t1=64   2,048
  """
  problem, item = found.problem.subsampled, found.rates.item
  cost, total = found.time_of, found.seconds
  rows = [('step', 'left', 'right', 'result', 'MACs', 'kB', 'time')]
  for i, (step, names) in enumerate(zip(found.steps, found.order)):
    p = step.pair
    rows.append((
      str(i + 1), *names, _shape(problem, step.left | step.right),
      f'{p.macs:,}', f'{item * p.floats / 1e3:,.0f}', f'{cost(p) / total:.0%}',
    ))  # fmt: skip
  dense = dense_pair(problem)
  rows.append(('all', '', '', '', f'{found.macs:,}', f'{item * found.floats / 1e3:,.0f}', '100%'))
  rows.append((
    'dense', '', '', '', f'{dense.macs:,}', f'{item * dense.floats / 1e3:,.0f}',
    f'{cost(dense) / total:.0%}',
  ))  # fmt: skip
  passes = 'forward and backward' if found.training else 'forward'
  note = (
    f'least {found.objective}, {passes}, {found.device}, {found.dtype}: '
    f'{found.seconds * 1e3:.3g} ms, dense {found.dense_seconds * 1e3:.3g} ms; '
    f'peak {item * found.peak_floats / 1e6:.3g} MB'
  )
  return '\n'.join([*_aligned(rows), note])


def _shape(problem: Problem, members: int) -> str:
  labels = [f'{x}={problem.sizes[x]}' for x in problem.sizes if x in problem.labels(members)]
  lead = [problem.batch, *problem.positions(members)] if members & 1 else []
  return ' | '.join(filter(None, ('x'.join(map(str, lead)), ' '.join(labels))))


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  widths = [max(map(len, column)) for column in zip(*rows)]
  return [
    '  '.join(
      cell.ljust(w) if i < 4 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))
    ).rstrip()
    for row in rows
  ]
