"""What the gather of a shuffled kernel costs: a training step with it over one without.

    python -m experiments.shuffled.gather --output=gather.json

Both sides rebuild the kernel from the same factors and convolve; only one rearranges its entries.
Sides take turns, and what is reported is the median of the ratios of neighbouring runs, which other
programs on the machine disturb least.
"""

import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import app, flags
from flax import nnx

from experiments.classifier import network
from experiments.common import results, train
from experiments.common.classification import cross_entropy
from experiments.shuffled.config import FORMATS, Config
from experiments.shuffled.student import fresh

LIMIT = 1.3  # times the step: beyond, the gather would dominate it
_IMAGES = {'digits': (8, 8, 1), 'cifar10': (32, 32, 3)}
_SIDES = ('td', 'rstd')
_RATIO = 10.0


class _Random:
  """A batch of noise, as `train.Batches`."""

  def __init__(self, dataset: str, size: int):
    rng = np.random.default_rng(0)
    self.size = size
    self.constants = (
      rng.random((size, *_IMAGES[dataset]), 'float32'),
      rng.integers(0, 10, size).astype('int32'),
    )

  def prepare(self, constants: object, batch: object, key: jax.Array) -> object:
    """The images and labels, whatever the batch."""
    del batch, key
    return constants


def measure(dataset: str, format: str, ratio: float, repeats: int, batch: int) -> dict:
  """Seconds of a step of ResNet-8 without and with the gather, taking turns.

  Returns:
    The setting; the least `seconds` and `cpu_seconds` (of all threads) of a step of either side;
    `first_cpu_seconds`, most of it compilation; the ratio of the least; over neighbouring runs, the
    median and the quartiles of shuffled over unshuffled.
  """
  model = network.build('resnet8', dataset, 0)
  data = _Random(dataset, batch)
  steps = {side: _step(model, data, Config().rules(format, side, ratio)) for side in _SIDES}
  first = {side: _timed(run)[1] for side, run in steps.items()}
  times = {side: [] for side in _SIDES}
  for i in range(repeats):
    for side in _SIDES[:: 1 if i % 2 else -1]:
      times[side].append(_timed(steps[side]))
  ratios = [b[0] / a[0] for a, b in zip(times['td'], times['rstd'])]
  least = {side: [min(column) for column in zip(*found)] for side, found in times.items()}
  return {
    **{'dataset': dataset, 'format': format, 'ratio': ratio, 'batch': batch, 'repeats': repeats},
    'seconds': {side: found[0] for side, found in least.items()},
    'cpu_seconds': {side: found[1] for side, found in least.items()},
    'first_cpu_seconds': first,
    'ratio_of_least': least['rstd'][0] / least['td'][0],
    'ratio_median': statistics.median(ratios),
    'ratio_quartiles': statistics.quantiles(ratios, n=4)[::2],
  }


def _timed(run: Callable[[], None]) -> tuple[float, float]:
  """Seconds that a run took, by the clock and of all threads of this process."""
  start, cpu = time.perf_counter(), time.process_time()
  run()
  return time.perf_counter() - start, time.process_time() - cpu


def _step(model: nnx.Module, data: _Random, rules: tuple) -> Callable[[], None]:
  """One update, as `train.fit` makes it, of a state that it keeps."""
  small = fresh(model, rules, jax.random.key(0))
  settings = train.Settings(1000, train.adamw(1000, 1e-3, 1e-4), 0)
  graph, params, rest = nnx.split(small, settings.trainable, ...)
  step = train.make_step(graph, cross_entropy, data.prepare, settings)
  state = [jax.tree.map(np.asarray, (params, rest, settings.optimizer.transform.init(params)))]
  key = jax.random.key(0)

  def run() -> None:
    state[0], *_ = jax.block_until_ready(step(state[0], data.constants, (), key, 0))

  return run


def main(output: pathlib.Path, repeats: int) -> None:
  """Measures every format on both networks and writes the report."""
  report = {
    'command': ' '.join(['python', '-m', 'experiments.shuffled.gather', *sys.argv[1:]]),
    'versions': results.versions(),
    'device': results.device(),
    'git': results.git(),
    'limit': LIMIT,
    'rows': [],
  }
  for dataset, format, batch in (*(('digits', f, 64) for f in FORMATS), ('cifar10', 'tt', 128)):
    row = measure(dataset, format, _RATIO, repeats, batch)
    report['rows'].append(row)
    plain, shuffled = (1e3 * row['seconds'][side] for side in _SIDES)
    print(
      f'{dataset:8} {format} {plain:7.2f} ms, shuffled {shuffled:7.2f} ms: '
      f'{row["ratio_median"]:.3f}x (median of pairs), {row["ratio_of_least"]:.3f}x (least of each)',
      flush=True,
    )
    results.write_json(output, report)


if __name__ == '__main__':
  to = flags.DEFINE_string('output', 'gather.json', 'Report to write.')
  rounds = flags.DEFINE_integer('repeats', 60, 'Steps of each side.', lower_bound=2)
  app.run(lambda _: main(pathlib.Path(to.value), rounds.value))
