"""Speed of factorised layers beside the rebuilt kernel and the dense layer.

    make bench-layers               # the sample, a quarter of an hour on 2 cores
    python -m experiments.benchmarks.layers --cells='conv64.*' --repeats=5
    python -m experiments.benchmarks.layers --full --regret=10

Sides take turns: `planned` (what `tn.nn` runs), `rebuild` (the kernel rebuilt, then one dense
product) and `dense` (a kernel that is there). In training all three return gradients by their
parameters and the input. Where tltorch is installed (`pip install tensorly-torch`), its layers are
sides too. With --regret=N, every order of contraction is run as well on the first N cells that
infer, but for those that the planner expects to take ten times the best.

Results go to --output after every cell; cells that it has are not measured again.
"""

import dataclasses
import pathlib
import shlex
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from absl import app, flags, logging

from experiments.benchmarks import layer_peers, measure, networks
from experiments.benchmarks.layer_cells import LayerCell, select
from experiments.benchmarks.problems import Side
from experiments.common import results
from experiments.common.progress import Progress
from tnjax import contraction
from tnjax.contraction import Schedule

# The names are those of the other benchmark's flags; in the process of the tests both are defined.
_SHARED = {'allow_override': True}
_CELLS = flags.DEFINE_string(
  'cells', '.*', 'Regular expression over the whole names of cells.', **_SHARED
)
_REPEATS = flags.DEFINE_integer('repeats', 9, 'Rounds.', lower_bound=1, **_SHARED)
_OUTPUT = flags.DEFINE_string('output', 'results/benchmarks/layers.json', 'The report.', **_SHARED)
_FRESH = flags.DEFINE_bool('fresh', False, 'Start over where --output exists.', **_SHARED)
_FULL = flags.DEFINE_bool('full', False, 'All cells, not the sample alone.')
_REGRET = flags.DEFINE_integer('regret', 0, 'Cells on which all orders are tried.', lower_bound=0)
_NETWORK = flags.DEFINE_string(
  'network', '32', 'Depth of the ResNet whose step is measured; or none.'
)

_RATES = {
  'tk': 0.1,
  'cp': 0.1,
  'tt': 0.1,
  'svd': 0.1,
  'r_tt': 0.1,
  'r_tk': 0.1,
  'r_cp': 0.1,
  'tr': 0.1,
}
_BATCH = 32
_RUN = 0.01  # seconds that a timed run takes at least: fast layers are called many times
_HOPELESS = 10.0  # orders expected to take this many times the best are not tried


def main(argv: list[str]) -> None:
  """Measures the cells."""
  logging.set_verbosity(logging.ERROR)
  path = pathlib.Path(_OUTPUT.value)
  try:
    if len(argv) > 1:
      raise ValueError(f'unexpected argument {argv[1]!r}; flags start with --')
    cells = select(_CELLS.value, _FULL.value)
    content = _started(path)
  except ValueError as error:
    sys.exit(f'error: {error}')
  have = {c['name'] for c in content['cells']}
  left = _REGRET.value - sum('regret' in c for c in content['cells'])
  with Progress() as progress, progress.task('cells', len(cells), len(have)) as advance:
    for cell in cells:
      if cell.name in have:
        continue
      advance(0, cell.name)
      regret = left > 0 and not cell.training and cell.scheme.name != 'shuffled'
      left -= regret
      content['cells'].append(_measured(cell, regret))
      results.write_json(path, content | {'summary': summary(content['cells'])})
      advance(1, cell.name)
    if _NETWORK.value != 'none' and 'networks' not in content:
      advance(0, f'ResNet-{_NETWORK.value}')
      content['networks'] = networks.train_steps(_NETWORK.value, _RATES, _BATCH)
      results.write_json(path, content | {'summary': summary(content['cells'])})
  print(table(content['cells']))
  for entry in content.get('networks', ()):
    print(', '.join(f'{k} {v:.3g}' if isinstance(v, float) else str(v) for k, v in entry.items()))
  for name, value in summary(content['cells']).items():
    print(f'{name}: {value}')
  print(f'wrote {path}')


def _started(path: pathlib.Path) -> dict:
  new = {
    'command': shlex.join(['python', '-m', 'experiments.benchmarks.layers', *sys.argv[1:]]),
    'versions': results.versions(),
    'device': results.device(),
    'settings': {'repeats': _REPEATS.value},
    'cells': [],
  }
  return results.resumed(path, new, _FRESH.value)


def _measured(cell: LayerCell, regret: bool) -> dict:
  """Times of all sides and what the planner expected."""
  p, key = cell.parametrization, jax.random.key(0)
  spatial = (cell.size,) * (len(cell.shape) - 2)
  x = jax.random.normal(key, (cell.batch, *spatial, cell.shape[-2]))
  factors = p.init(key)
  kernel = jax.block_until_ready(p.dense(factors))
  index = {k: factors.pop(k) for k in ('index',) if k in factors}

  def dense(kernel: jax.Array, x: jax.Array) -> jax.Array:
    return contraction.convolve(x, kernel, 1, cell.geometry) if spatial else x @ kernel

  functions = {
    'planned': (lambda f, x: p.apply(f | index, x, cell.geometry), factors),
    'rebuild': (lambda f, x: dense(p.dense(f | index), x), factors),
    'dense': (dense, kernel),
  }
  sides = [_side(name, f, args, x, cell.training) for name, (f, args) in functions.items()]
  peers = list(layer_peers.layers(cell, p.num_params))
  sides += [_repeated(peer.name, peer.run) for peer in peers]
  out = {
    'name': cell.name,
    'batch': cell.batch,
    'training': cell.training,
    'params': p.num_params,
    'dense_params': kernel.size,
  }
  timed = measure.rounds(sides, _REPEATS.value, 60.0, lambda _: None, lambda *_: None)
  for side in sides:
    calls = timed[side.name]['seconds']
    out[side.name] = min(calls) / side.calls
    if side.compile_seconds is not None:
      out[f'{side.name}_compile'] = side.compile_seconds
  if peers:
    out['peer_params'] = peers[0].params
    out['faster_than_peer'] = min(out[peer.name] for peer in peers) / out['planned']
  out['over_rebuild'] = out['planned'] / out['rebuild']
  out['over_dense'] = out['planned'] / out['dense']
  if p.fold.shuffled:
    return out | {'order': 'the kernel is rebuilt', 'macs': None, 'expected_over_dense': None}
  layer = cell.layer
  start = time.perf_counter()
  plan = contraction.schedule.__wrapped__(layer, training=cell.training)
  out['plan_seconds'] = time.perf_counter() - start
  out['order'] = _text(plan)
  out['macs'], out['dense_macs'] = plan.macs, layer.dense_macs
  out['expected'], out['expected_dense'] = plan.seconds, plan.dense_seconds
  out['expected_over_dense'] = out['expected'] / out['expected_dense']
  return out | ({'regret': _regret(plan, factors, x)} if regret else {})


@dataclasses.dataclass(frozen=True)
class _Timed(Side):
  """A side whose run calls the layer many times."""

  calls: int = 1


def _side(name: str, function: Callable, params: object, x: jax.Array, training: bool) -> _Timed:
  if training:
    run = jax.jit(jax.grad(lambda p, x: jnp.sum(jnp.square(function(p, x))), argnums=(0, 1)))
  else:
    run = jax.jit(function)
  start = time.perf_counter()
  compiled = run.lower(params, x).compile()
  seconds = time.perf_counter() - start
  # Calls in flight at once would share the cores.
  return _repeated(name, lambda: jax.block_until_ready(compiled(params, x)), seconds)


def _repeated(name: str, call: Callable, compile_seconds: float | None = None) -> _Timed:
  call()
  start = time.perf_counter()
  call()
  calls = max(1, min(1000, int(_RUN / (time.perf_counter() - start))))

  def repeat() -> None:
    for _ in range(calls):
      call()

  return _Timed(name, repeat, lambda _: [], compile_seconds=compile_seconds, calls=calls)


def _regret(plan: Schedule, factors: dict, x: jax.Array) -> dict:
  """Time of the planned order over that of the best of all orders."""
  plans = {}
  for steps in contraction.orders(plan.problem):
    other = Schedule(plan.problem, steps, plan.objective, plan.training, plan.device)
    if other.seconds <= _HOPELESS * plan.seconds:
      plans.setdefault(frozenset(steps), other)
  sides = [
    _side(str(i), lambda f, x, q=q: contraction.execute(q, f, x), factors, x, False)
    for i, q in enumerate(plans.values())
  ]
  timed = measure.rounds(sides, 5, 60.0, lambda _: None, lambda *_: None)
  times = [min(timed[s.name]['seconds']) / s.calls for s in sides]
  planned = times[list(plans).index(frozenset(plan.steps))]
  best = min(range(len(times)), key=times.__getitem__)
  best_plan = list(plans.values())[best]
  return {'ratio': planned / times[best], 'orders': len(times), 'best': _text(best_plan)}


def _text(plan: Schedule) -> str:
  return ', '.join(f'{a} * {b}' for a, b in plan.order)


def summary(cells: list[dict]) -> dict:
  """How many cells keep what the layers promise, and which do not."""
  planned = [c for c in cells if c['expected_over_dense'] is not None]
  regrets = sorted(c['regret']['ratio'] for c in cells if 'regret' in c)
  should = [c for c in planned if c['expected_over_dense'] <= 1]
  half = [c for c in planned if c['macs'] < c['dense_macs'] / 2 and c['batch'] > 1]
  return {
    'cells': len(cells),
    'slower_than_rebuild': {
      c['name']: round(c['over_rebuild'], 2) for c in cells if c['over_rebuild'] > 1.05
    },
    'expected_at_or_below_dense': len(should),
    'of_these_slower_than_dense': {
      c['name']: round(c['over_dense'], 2) for c in should if c['over_dense'] > 1.05
    },
    'must_lose_to_dense': sorted(c['name'] for c in cells if c not in should),
    'half_the_work_but_less_than_1.5x': {
      c['name']: round(1 / c['over_dense'], 2) for c in half if c['over_dense'] > 1 / 1.5
    },
    'half_the_work': len(half),
    'regret_median': regrets[len(regrets) // 2] if regrets else None,
    'regret_worst': regrets[-1] if regrets else None,
    'faster_than_tltorch': {
      c['name']: round(c['faster_than_peer'], 2) for c in cells if 'faster_than_peer' in c
    },
    'slowest_plan_ms': 1e3 * max((c['plan_seconds'] for c in planned), default=0.0),
  }


def table(cells: list[dict]) -> str:
  """The report as text."""
  head = ('planned', 'rebuild', 'dense', '/rebuild', '/dense', 'expected')
  widths = (10, 10, 10, 9, 8, 9)
  lines = [f'{"cell":34}' + ''.join(f'{h:>{w}}' for h, w in zip(head, widths))]
  for c in cells:
    times = ''.join(f'{1e3 * c[n]:8.3f}ms' for n in ('planned', 'rebuild', 'dense'))
    expected = '-' if c['expected_over_dense'] is None else f'{c["expected_over_dense"]:.2f}'
    lines.append(
      f'{c["name"]:34}{times}{c["over_rebuild"]:9.2f}{c["over_dense"]:8.2f}{expected:>9}'
    )
  return '\n'.join(lines)


if __name__ == '__main__':
  app.run(main)
