"""T-Net's training step and one of its convolutions beside the dense ones, on this machine.

    python -m experiments.benchmarks.tnet
    python -m experiments.benchmarks.tnet --cases=tucker_5.2x,conv_2.77x --batch=2 --repeats=5

`tucker_...` and `mps_...` are the hourglass of Kossaifi et al. 2019 (4 stacks of depth 4, 128
features, images of 256x256) as T-Nets of Table 3 (6.94x: Table 4), named after the ratio that is
printed, from random factors: one update by RMSprop on --batch images, as `experiments.pose.main`
makes it. `bytes` are of parameters, `moments` of the state of the optimizer; `built` is tracing and
compiling; `host` what a call of the compiled step takes before it returns; `flops` what XLA counts
in it, a loop's body once; `temporary` the memory that it takes beside arguments and results.

`conv_...` is the paper's Table 1: one 3x3 convolution of 128 channels to 128 on --conv_batch images
of 64x64, a Tucker-2 of its own, forward.

Both sides of a case take turns. Results go to --workdir: report.json, summary.csv.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import tnjax as tn
from experiments.benchmarks import gridded, measure
from experiments.benchmarks.problems import Side
from experiments.common import config, grid, job, train
from experiments.pose import counts, rows
from experiments.pose.seeded import mse

NETWORKS = {
  'tucker_1.7x': ('tk', (4, 3, 3, 2, 110, 110, 3, 3)),
  'tucker_1.8x': ('tk', (4, 4, 2, 2, 110, 110, 3, 3)),
  'tucker_3.67x': ('tk', (3, 3, 3, 2, 110, 110, 2, 2)),
  'tucker_5.2x': ('tk', (2, 2, 2, 2, 96, 96, 3, 3)),
  'tucker_6.94x': ('tk', (2, 2, 2, 2, 64, 64, 3, 3)),
  'mps_7.4x': ('tt', (1, 4, 4, 12, 24, 110, 9, 3, 1)),
}
CONVS = {'conv_1.37x': 96, 'conv_2.77x': 64, 'conv_4.17x': 50}  # channel ranks
_LIMIT = 120.0  # seconds of all runs of one side


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gridded.Config):
  """The settings of this benchmark."""

  cases: tuple[str, ...] = config.field(
    (*NETWORKS, *CONVS), f'Of {", ".join((*NETWORKS, *CONVS))}.',
    config.one_of(*NETWORKS, *CONVS), resume='grow',
  )  # fmt: skip
  batch: int = config.field(1, 'Images of an update.', config.at_least(1))
  conv_batch: int = config.field(64, 'Images of a single convolution.', config.at_least(1))
  size: int = config.field(256, 'Rows and columns of an image.', config.at_least(8))
  stacks: int = config.field(4, 'Hourglasses.', config.at_least(1))
  depth: int = config.field(4, 'Levels of each.', config.at_least(1))
  features: int = config.field(128, 'Channels; ranks are cut to what fits.', config.at_least(1))
  repeats: int = config.field(5, 'Rounds.', config.at_least(1))


class Benchmark(gridded.Gridded):
  """Times the cases."""

  def __init__(self, this: job.Job):
    super().__init__(this, grid.product(case=this.config.cases))

  def lines(self) -> list[str]:
    """A line a case: dense figures, and those of T-Net over them."""
    lines = [
      f'{"case":13}{"dense s":>9}{"T-Net s":>9}{"ratio":>7}{"built":>7}{"host":>7}{"flops":>7}'
      f'{"bytes":>7}{"moments":>9}{"temporary":>11}'
    ]
    for row in self.grid.rows:
      ratios = [
        '-' if row.get(f'{name}_ratio') is None else f'{row[f"{name}_ratio"]:.3f}'
        for name in ('seconds', 'built', 'host', 'flops', 'params', 'optimizer', 'temporary')
      ]
      widths = (7, 7, 7, 7, 7, 9, 11)
      lines.append(
        f'{row["case"]:13}{row["dense_seconds"]:9.3f}{row["seconds"]:9.3f}'
        + ''.join(text.rjust(width) for text, width in zip(ratios, widths))
      )
    return [*lines, 'ratio and what follows it: T-Net / dense']

  def row(self, case: str) -> dict:
    """Both sides of a case, in turns."""
    pair = _convs if case in CONVS else _steps
    sides = [_Program(name, *made) for name, made in pair(case, self.config).items()]
    timed = measure.rounds(
      [Side(side.name, side, lambda _: []) for side in sides], self.config.repeats, _LIMIT,
      lambda text: self.progress.check(), lambda *_: None,
    )  # fmt: skip
    dense, ours = (
      {'seconds': timed[side.name]['median_seconds'], **side.facts()} for side in sides
    )
    ratios = {f'{name}_ratio': ours[name] / value for name, value in dense.items() if value}
    return ours | {f'dense_{name}': value for name, value in dense.items()} | ratios


class _Program:
  """A compiled function from a state to the next, called to run it once.

  Args:
    name: of the side.
    run: takes the state and `given`, gives the state first.
    state, given: its arguments.
    sizes: facts that are known before.
  """

  def __init__(self, name: str, run: Callable, state: object, given: tuple, sizes: dict):
    self.name, self._state, self._given, self._sizes = name, state, given, sizes
    self._run, *seconds = measure.compiled(run, state, *given)
    self._built, self._host = sum(seconds), []

  def __call__(self) -> None:
    """One run."""
    start = time.perf_counter()
    self._state, *rest = self._run(self._state, *self._given)
    self._host.append(time.perf_counter() - start)
    jax.block_until_ready((self._state, rest))

  def facts(self) -> dict:
    """Seconds, bytes and operations."""
    cost, memory = self._run.cost_analysis(), self._run.memory_analysis()
    return {
      'built': self._built,
      'host': statistics.median(self._host),
      'flops': cost['flops'],
      'temporary': memory.temp_size_in_bytes,
      **self._sizes,
    }


def _steps(case: str, c: Config) -> dict[str, tuple]:
  """A training step of the dense network and of the T-Net."""
  dense = tn.models.hourglass(stacks=c.stacks, depth=c.depth, features=c.features, rngs=nnx.Rngs(0))
  format, ranks = NETWORKS[case]
  rules = ((counts.LAYERS, tn.schemes.joint(ranks=ranks, format=format)),)
  models = {'dense': dense, 'tnjax': rows.fresh(dense, rules, 0)}
  maps = jnp.zeros((c.batch, c.size // 4, c.size // 4, 16))
  images = jnp.full((c.batch, c.size, c.size, 3), 0.5)
  batch = images, maps, jnp.ones((c.batch, 16), bool)
  return {name: _step(model, batch) for name, model in models.items()}


def _step(model: nnx.Module, batch: tuple) -> tuple:
  graph, params, rest = nnx.split(model, nnx.Param, ...)
  transform = optax.rmsprop(2.5e-4, decay=0.99, eps_in_sqrt=False)
  settings = train.Settings(1000, train.Optimizer(transform, 2.5e-4), 0)
  step = train.make_step(graph, mse, lambda constants, batch, key: batch, settings)
  state = params, rest, transform.init(params)
  sizes = {'params': _bytes(params), 'optimizer': _bytes(state[2])}
  return step, state, ((), batch, jax.random.key(0), 0), sizes


def _convs(case: str, c: Config) -> dict[str, tuple]:
  """One convolution, dense and as a Tucker-2."""
  dense = nnx.Conv(128, 128, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
  small = tn.nn.Conv.from_dense(dense, tn.schemes.tk(ranks=CONVS[case]))
  x = jax.random.normal(jax.random.key(0), (c.conv_batch, 64, 64, 128))
  return {name: _forward(model, x) for name, model in (('dense', dense), ('tnjax', small))}


def _forward(model: nnx.Module, x: jax.Array) -> tuple:
  graph, params = nnx.split(model)

  def run(params: nnx.State, x: jax.Array) -> tuple[nnx.State, jax.Array]:
    return params, nnx.merge(graph, params, copy=True)(x)

  return run, params, (x,), {'params': _bytes(params), 'optimizer': 0}


def _bytes(tree: object) -> int:
  return sum(a.nbytes for a in jax.tree.leaves(tree))


def prepare(this: job.Job) -> Benchmark:
  """Checks that images can be halved often enough."""
  unit = 4 * 2**this.config.depth
  if this.config.size % unit:
    raise ValueError(f'--size={this.config.size} must be a multiple of {unit}')
  this.check()
  return Benchmark(this)


if __name__ == '__main__':
  job.launch(Config, 'tnet', prepare)
