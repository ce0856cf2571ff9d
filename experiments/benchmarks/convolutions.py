"""Training with `tn.nn.conv_general_dilated` beside jax's own, on this machine.

    python -m experiments.benchmarks.convolutions
    python -m experiments.benchmarks.convolutions --cells=32x32x16,2x2x128 --repeats=21

A cell `HEIGHTxWIDTHxCHANNELS` is a 3x3 convolution of so many channels to as many, whose output and
both gradients are computed; `vgg16_quarter` and `resnet32` are the gradient of a whole network for
CIFAR-10 with batch norm. Both sides take turns; compilation is timed apart.

Results go to --workdir: report.json, summary.csv.
"""

import dataclasses
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

import tnjax as tn
from experiments.benchmarks import gridded, measure
from experiments.benchmarks.problems import Side
from experiments.classifier import network
from experiments.common import config, grid, job

NETWORKS = ('vgg16_quarter', 'resnet32')
CELLS = ('32x32x16', '32x32x64', '16x16x32', '8x8x64', '4x4x128', '2x2x128', '2x2x512')
_SIDES = {'tnjax': tn.nn.conv_general_dilated, 'jax': lax.conv_general_dilated}
_LIMIT = 120.0  # seconds of all runs of one side
_SHAPE = re.compile(r'(\d+)x(\d+)x(\d+)')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gridded.Config):
  """The settings of this benchmark."""

  cells: tuple[str, ...] = config.field(
    (*CELLS, *NETWORKS), f'HEIGHTxWIDTHxCHANNELS, or {" or ".join(NETWORKS)}.', resume='grow'
  )
  batch: int = config.field(128, 'Images.', config.at_least(1))
  repeats: int = config.field(9, 'Rounds.', config.at_least(1))


class Benchmark(gridded.Gridded):
  """Times the cells."""

  def __init__(self, this: job.Job):
    super().__init__(this, grid.product(cell=this.config.cells))

  def lines(self) -> list[str]:
    """A line a cell."""
    lines = [f'{"cell":15}{"tnjax ms":>10}{"jax ms":>10}{"jax / tnjax":>13}{"compile s":>16}']
    for row in self.grid.rows:
      compiled = f'{row["tnjax_compile_seconds"]:.2f}, {row["jax_compile_seconds"]:.2f}'
      lines.append(
        f'{row["cell"]:15}{1e3 * row["tnjax_seconds"]:10.2f}{1e3 * row["jax_seconds"]:10.2f}'
        f'{row["faster"]:13.2f}{compiled:>16}'
      )
    return lines

  def row(self, cell: str) -> dict:
    """Both sides of a cell."""
    make = _network if cell in NETWORKS else _layer
    sides = [_side(name, *make(cell, self.config.batch, f)) for name, f in _SIDES.items()]
    timed = measure.rounds(
      sides, self.config.repeats, _LIMIT,
      lambda text: self.progress.check(), lambda *_: None,
    )  # fmt: skip
    row = {f'{side.name}_seconds': timed[side.name]['median_seconds'] for side in sides}
    row['faster'] = row['jax_seconds'] / row['tnjax_seconds']
    return row | {f'{side.name}_compile_seconds': side.compile_seconds for side in sides}


def _layer(cell: str, batch: int, convolve: Callable) -> tuple[Callable, tuple]:
  height, width, channels = map(int, _SHAPE.fullmatch(cell).groups())
  keys = jax.random.split(jax.random.key(0))
  x = jax.random.normal(keys[0], (batch, height, width, channels))
  kernel = jax.random.normal(keys[1], (3, 3, channels, channels)) / (9 * channels) ** 0.5

  def loss(kernel: jax.Array, x: jax.Array) -> jax.Array:
    y = convolve(x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC'))
    return jnp.sum(jax.nn.relu(y) ** 2)

  return jax.value_and_grad(loss, (0, 1)), (kernel, x)


def _network(cell: str, batch: int, convolve: Callable) -> tuple[Callable, tuple]:
  model = network.build(cell, 'cifar10', 0)
  for _, module in nnx.iter_modules(model):
    if isinstance(module, nnx.Conv):
      module.conv_general_dilated = convolve
  graph, params, rest = nnx.split(model, nnx.Param, ...)

  def loss(params: nnx.State, rest: nnx.State, x: jax.Array) -> jax.Array:
    return jnp.mean(nnx.merge(graph, params, rest, copy=True)(x, train=True) ** 2)

  x = jax.random.uniform(jax.random.key(0), (batch, 32, 32, 3))
  return jax.value_and_grad(loss), (params, rest, x)


def _side(name: str, function: Callable, args: tuple) -> Side:
  run, *seconds = measure.compiled(function, *args)
  return Side(
    name, lambda: jax.block_until_ready(run(*args)), lambda _: [], compile_seconds=sum(seconds)
  )


def prepare(this: job.Job) -> Benchmark:
  """Checks the cells."""
  for cell in this.config.cells:
    if cell not in NETWORKS and not _SHAPE.fullmatch(cell):
      raise ValueError(f'--cells={cell} must be HEIGHTxWIDTHxCHANNELS or {", ".join(NETWORKS)}')
  this.check()
  return Benchmark(this)


if __name__ == '__main__':
  job.launch(Config, 'convolutions', prepare)
