"""Latency of whole networks on this machine, compressed beside dense.

    python -m experiments.benchmarks.latency
    python -m experiments.benchmarks.latency --networks=resnet32 --batches=1 --repeats=21

Two runtimes: `jax` runs the compiled model, and `onnxruntime`, where `pip install 'tnjax[onnx]'`
put it, the file that `tn.export` wrote. Each uses all cores, as it comes. All variants of one
network and batch take turns; compilation, and loading a file, are timed apart (`load_seconds`).
`difference` is that of the outputs, onnxruntime's from jax's. Weights are random, as they decide
nothing here.

Results go to --workdir: report.json, summary.csv. VGG-16 at batch 32 wants some 10 GB of memory.
"""

import dataclasses
import functools
import importlib.metadata
import importlib.util
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np
from flax import nnx

import tnjax as tn
from experiments.benchmarks import gridded, measure
from experiments.benchmarks.problems import Side
from experiments.common import config, grid, job

RUNTIMES = ('jax', 'onnxruntime')
_LIMIT = 120.0  # seconds of all runs of one side


@dataclasses.dataclass(frozen=True)
class Network:
  """A network and what is measured of it.

  Attributes:
    make: builds it, with random weights.
    input_shape: of one image.
    variants: by name, the rules that compress it; none for the dense network.
  """

  make: Callable[[], nnx.Module]
  input_shape: tuple[int, ...]
  variants: Mapping[str, tuple]


# Novikov et al. 2015: fc6 and fc7 of VGG-16 as trains of 6 cores of rank 4.
_TRAINS = tuple(
  (f'classifier/{i}', tn.schemes.r_tt(ranks=4, in_modes=modes, out_modes=(4,) * 6))
  for i, modes in ((0, (2, 7, 8, 8, 7, 4)), (3, (4,) * 6))
)
NETWORKS = {
  'vgg16': Network(
    lambda: tn.models.vgg(16, rngs=nnx.Rngs(0)),
    (224, 224, 3),
    {
      'dense': (),
      'tt4 dense layers': _TRAINS,
      'tk 10%, tt4': (*_TRAINS, ('features/.*', tn.schemes.tk(rate=0.1))),
      'tk 30%, tt4': (*_TRAINS, ('features/.*', tn.schemes.tk(rate=0.3))),
    },
  ),
  'resnet32': Network(
    lambda: tn.models.cifar_resnet(32, rngs=nnx.Rngs(0)),
    (32, 32, 3),
    {
      'dense': (),
      'tk 10%': (('stages/.*', tn.schemes.tk(rate=0.1)),),
      'tk 30%': (('stages/.*', tn.schemes.tk(rate=0.3)),),
      'cp 10%': (('stages/.*', tn.schemes.cp(rate=0.1)),),
    },
  ),
  # Seconds, for the tests and for a first try; --networks has to name it.
  'tiny': Network(
    lambda: tn.models.cifar_resnet(8, widths=(8, 8, 8), rngs=nnx.Rngs(0)),
    (8, 8, 3),
    {'dense': (), 'tk 30%': (('stages/.*', tn.schemes.tk(rate=0.3)),)},
  ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(gridded.Config):
  """The settings of this benchmark."""

  networks: tuple[str, ...] = config.field(
    ('vgg16', 'resnet32'), f'Of {", ".join(NETWORKS)}.', config.one_of(*NETWORKS), resume='grow'
  )
  batches: tuple[int, ...] = config.field((1, 32), 'Images.', config.at_least(1), resume='grow')
  runtimes: tuple[str, ...] | None = config.field(
    None, f'Of {", ".join(RUNTIMES)}; default those installed.', config.one_of(*RUNTIMES)
  )
  repeats: int = config.field(11, 'Rounds.', config.at_least(1))

  def resolved(self) -> 'Config':
    """With the runtimes that are installed."""
    found = super().resolved()
    return dataclasses.replace(found, runtimes=found.runtimes or tuple(filter(_there, RUNTIMES)))


class Benchmark(gridded.Gridded):
  """Times the networks."""

  def __init__(self, this: job.Job):
    super().__init__(this, grid.product(network=this.config.networks, batch=this.config.batches))

  def provenance(self, this: job.Job) -> dict:
    """With the versions of the runtimes."""
    about = super().provenance(this)
    if 'onnxruntime' in this.config.runtimes:
      found = {name: importlib.metadata.version(name) for name in ('onnxruntime', 'jax2onnx')}
      about['versions'] = about['versions'] | found
    return about

  def summarised(self) -> list[dict]:
    """See `summary`."""
    return summary(self.grid.rows)

  def lines(self) -> list[str]:
    """A line a network, batch, variant and runtime."""
    lines = [
      f'{"network":9}{"batch":>6} {"variant":17}{"runtime":12}{"params":>12}{"median ms":>10}'
      f'{"quartiles":>23}{"dense / it":>12}'
    ]
    for row in self.summarised():
      spread = f'{1e3 * row["lower_seconds"]:.2f} to {1e3 * row["upper_seconds"]:.2f}'
      lines.append(
        f'{row["network"]:9}{row["batch"]:6} {row["variant"]:17}{row["runtime"]:12}'
        f'{row["params"]:12,}{1e3 * row["median_seconds"]:10.2f}{spread:>23}{row["speedup"]:12.2f}'
      )
    return lines

  def row(self, network: str, batch: int) -> dict:
    """All variants in all runtimes, in turns."""
    models, shape = _models(network), NETWORKS[network].input_shape
    x = np.random.default_rng(0).uniform(size=(batch, *shape)).astype('float32')
    outputs = {}
    with tempfile.TemporaryDirectory() as folder:
      sides = [
        _SIDES[runtime](f'{variant} | {runtime}', model, x, pathlib.Path(folder))
        for variant, model in models.items()
        for runtime in self.config.runtimes
      ]
      timed = measure.rounds(
        sides, self.config.repeats, _LIMIT,
        lambda text: self.progress.check(),
        lambda side, y: outputs.update({side.name: np.asarray(y)}),
      )  # fmt: skip
    found = []
    for side in sides:
      variant, runtime = side.name.split(' | ')
      reference = outputs[f'{variant} | {self.config.runtimes[0]}']
      found.append(
        {
          'variant': variant,
          'runtime': runtime,
          'params': _size(models[variant]),
          'load_seconds': side.compile_seconds,
          'difference': float(abs(outputs[side.name] - reference).max() / abs(reference).max()),
          **timed[side.name],
        }
      )
    return {'sides': found}


def summary(rows: list[dict]) -> list[dict]:
  """A row for every side: median and quartiles of its runs, and how often it is as fast as dense.

  >>> sides = [{'variant': v, 'runtime': 'jax', 'params': 9, 'load_seconds': 1.0, 'difference': 0.0,
  ...           'median_seconds': t, 'seconds': [t, t]} for v, t in (('dense', 4.0), ('tk', 2.0))]
  >>> [row['speedup'] for row in summary([{'network': 'a', 'batch': 1, 'sides': sides}])]
  [1.0, 2.0]
  """
  out = []
  for row in rows:
    dense = {s['runtime']: s['median_seconds'] for s in row['sides'] if s['variant'] == 'dense'}
    for side in row['sides']:
      runs = side['seconds']
      lower, _, upper = statistics.quantiles(runs, method='inclusive') if runs[1:] else runs * 3
      out.append(
        {
          'network': row['network'],
          'batch': row['batch'],
          **{k: v for k, v in side.items() if k != 'seconds'},
          'lower_seconds': lower,
          'upper_seconds': upper,
          'speedup': dense[side['runtime']] / side['median_seconds'],
        }
      )
  return out


@functools.lru_cache(maxsize=1)  # of VGG-16 it takes a minute, and another's need not stay
def _models(network: str) -> dict[str, nnx.Module]:
  about, key = NETWORKS[network], jax.random.key(0)
  dense = about.make()
  return {
    name: tn.compress(dense, rules, key)[0] if rules else dense
    for name, rules in about.variants.items()
  }


def _size(model: nnx.Module) -> int:
  return sum(a.size for a in jax.tree.leaves(nnx.state(model, nnx.Param)))


def _jax_side(name: str, model: nnx.Module, x: np.ndarray, folder: pathlib.Path) -> Side:
  graphdef, state = nnx.split(model)
  x = jax.device_put(x)
  run, *seconds = measure.compiled(
    lambda state, x: nnx.merge(graphdef, state, copy=True)(x), state, x
  )
  return _side(name, lambda: jax.block_until_ready(run(state, x)), sum(seconds))


def _onnx_side(name: str, model: nnx.Module, x: np.ndarray, folder: pathlib.Path) -> Side:
  import onnxruntime

  path = folder / 'model.onnx'
  tn.export(model, path, x.shape[1:])
  start = time.perf_counter()
  session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
  seconds = time.perf_counter() - start
  return _side(name, lambda: session.run(None, {'x': x})[0], seconds)


def _side(name: str, run: Callable, seconds: float) -> Side:
  return Side(name, run, lambda _: [], compile_seconds=seconds)


_SIDES = {'jax': _jax_side, 'onnxruntime': _onnx_side}


def prepare(this: job.Job) -> Benchmark:
  """Checks that the runtimes are there."""
  for runtime in this.config.runtimes:
    if not _there(runtime):
      raise ValueError(f"--runtimes={runtime} is not installed; pip install 'tnjax[onnx]'")
  this.check()
  return Benchmark(this)


def _there(runtime: str) -> bool:
  needs = {'jax': ('jax',), 'onnxruntime': ('onnxruntime', 'jax2onnx')}
  return all(importlib.util.find_spec(name) is not None for name in needs[runtime])


if __name__ == '__main__':
  job.launch(Config, 'latency', prepare)
