"""The wide, shallow network's rows: a step's time and memory at many ranks, training at some."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import jax
import numpy as np
from flax import nnx

from experiments.common import results, train
from experiments.common.classification import Batches
from experiments.common.data import Dataset, Split
from experiments.common.metrics import Metrics
from experiments.common.progress import Progress
from experiments.tensornet import inputs, wide
from experiments.tensornet.config import Config
from experiments.tensornet.lab import BATCH, Lab, named, step_ms

_STEPS = 6  # of a measurement, the first one apart


def cells(config: Config) -> list[tuple[str, int]]:
  """Steps are measured first: they take a minute, and training many."""
  return [('step', r) for r in config.step_ranks] + [('train', r) for r in config.wide_ranks]


def row(lab: Lab, cell: str, rank: int, seed: int) -> dict:
  """Measures a step in a process of its own, or trains; sizes, time, memory and errors."""
  mode = lab.config.wide_mode
  net = wide.Wide(rank, mode, nnx.Rngs(seed or 0))
  sizes = [layer.parametrization.num_params for layer in (net.tt1, net.tt2)]
  params = sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))
  found = {'hidden': mode**6, 'layer_weights': sizes, 'params': params}
  if cell == 'step':
    return found | _in_new_process(rank, mode)
  dataset, steps = lab.data('cifar10', seed), lab.config.wide_steps
  preparation = inputs.standardised(dataset.train, dataset.scale)
  model = inputs.Prepared(net, preparation)
  optimizer = wide.optimizer(lab.config.wide_learning_rate)
  name = named('wide', cell, rank)
  took = lab.train(model, dataset, optimizer, steps, name, seed, wide.loss)
  errors = lab.errors(model, dataset, BATCH)
  return found | errors | took | {'memory': results.peak_memory()}


def measure(rank: int, mode: int, steps: int) -> dict:
  """Time of a training step on random images, and the most memory that this process has held."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (10 * BATCH, 32, 32, 3), 'uint8')
  split = Split(images, rng.integers(0, 10, len(images)).astype('int32'))
  dataset = Dataset(split, split, split, scale=255.0, crop=0, flip=False)
  preparation = inputs.standardised(split, dataset.scale)
  model = inputs.Prepared(wide.Wide(rank, mode, nnx.Rngs(0)), preparation)
  settings = train.Settings(steps, wide.optimizer(0.06), 0)
  with tempfile.TemporaryDirectory() as folder, Progress(quiet=True) as progress:
    metrics = Metrics(pathlib.Path(folder) / 'metrics.jsonl')
    batches = Batches(dataset, BATCH, 0)
    train.fit(model, wide.loss, batches, settings, progress, 'step', metrics=metrics)
    lines = metrics.read()
  return {
    'step_ms': step_ms(lines),
    'first_step_seconds': lines[0]['seconds'],
    'memory': results.peak_memory(),
  }


def _in_new_process(rank: int, mode: int) -> dict:
  """What `measure` finds where nothing else has taken memory."""
  root = pathlib.Path(__file__).parents[2]
  path = os.pathsep.join(filter(None, (str(root), os.environ.get('PYTHONPATH'))))
  env = os.environ | {'PYTHONPATH': path, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  command = [sys.executable, '-m', 'experiments.tensornet.wide_rows', str(rank), str(mode)]
  done = subprocess.run(command, env=env, capture_output=True, text=True)
  if done.returncode:
    lines = done.stderr.strip().splitlines()
    raise OSError(f'a step at rank {rank} failed: {lines[-1] if lines else done.returncode}')
  return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
  print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), _STEPS)))
