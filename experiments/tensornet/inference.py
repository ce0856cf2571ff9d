"""Table 3: the first dense layer of VGG, 25088 x 4096, against a train of rank 4."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from experiments.common.progress import Progress
from experiments.tensornet import paper, shapes
from experiments.tensornet.config import Config
from experiments.tensornet.lab import Lab

_RANK = 4
_BATCHES = (1, 100)
_LEAST = 0.02  # seconds of one turn, in as many calls as that takes


def cells(config: Config) -> list[tuple[str, int]]:
  """A cell a batch."""
  del config
  return [(f'batch {batch}', _RANK) for batch in _BATCHES]


def row(lab: Lab, cell: str, rank: int, seed: None) -> dict:
  """Both layers in turns: median and all milliseconds a batch, memory, and the paper's."""
  del seed
  layer = shapes.vgg_first(rank)
  bound, batch = layer.scheme.bind(layer.shape), int(cell.split()[-1])
  x = jnp.ones((batch, layer.shape[0]))
  kernel = jnp.full(layer.shape, 1 / layer.shape[0])  # times do not depend on values
  calls = {
    'dense': _compiled(jnp.matmul, x, kernel),
    'tt': _compiled(lambda x, factors: bound.apply(factors, x), x, bound.init(jax.random.key(0))),
  }
  seconds = _rounds(
    {name: run for name, (run, _) in calls.items()}, lab.config.repeats, lab.progress
  )
  found = {}
  for name, (_, memory) in calls.items():
    found[f'{name}_ms'] = round(1e3 * statistics.median(seconds[name]), 4)
    found[f'{name}_ms_all'] = [round(1e3 * s, 4) for s in seconds[name]]
    found[f'{name}_weights_mib'] = memory['weights'] / 2**20
    found[f'{name}_temporary_mib'] = memory['temporary'] / 2**20
  found['speedup'] = found['dense_ms'] / found['tt_ms']
  for device in ('cpu', 'gpu'):
    printed = paper.MILLISECONDS[device, batch]
    found[f'speedup_paper_{device}'] = printed['dense'].value / printed['tt'].value
  return found


def _compiled(
  layer: Callable[[Array, object], Array], x: Array, weights: object
) -> tuple[Callable[[], object], dict]:
  """A call that waits for its result, and bytes of the weights and of all between x and y."""
  compiled = jax.jit(layer).lower(x, weights).compile()
  analysis = compiled.memory_analysis()
  memory = {
    'weights': sum(a.nbytes for a in jax.tree.leaves(weights)),
    'temporary': analysis.temp_size_in_bytes,
  }
  return lambda: jax.block_until_ready(compiled(x, weights)), memory


def _rounds(
  calls: dict[str, Callable[[], object]], repeats: int, progress: Progress
) -> dict[str, list[float]]:
  """Seconds a call, in turns of as many calls as take a while; the first turn is not kept."""
  seconds = {name: [] for name in calls}
  times = dict.fromkeys(calls, 1)
  with progress.task('inference', repeats) as advance:
    for i in range(repeats + 1):
      for name, run in calls.items():
        run()
        start = time.perf_counter()
        for _ in range(times[name]):
          run()
        took = (time.perf_counter() - start) / times[name]
        if i:
          seconds[name].append(took)
        times[name] = max(1, round(_LEAST / took))
      advance(1 if i else 0)
  return seconds
