"""Sharded and distributed training, in processes of their own."""

import json
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[3]
FOUR = {'JAX_NUM_CPU_DEVICES': '4'}

SCRIPT = """
import json, pathlib, sys
import jax, numpy as np, optax
from flax import nnx
from experiments.common import data, mesh, train
from experiments.common.checkpoint import Checkpoint
from experiments.common.classification import Batches, cross_entropy
from experiments.common.metrics import Metrics
from experiments.common.progress import Progress

class Net(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.conv = nnx.Conv(1, 8, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(8, rngs=rngs)
    self.out = nnx.Linear(8, 10, rngs=rngs)

  def __call__(self, images, train=False):
    x = nnx.relu(self.norm(self.conv(images), use_running_average=not train))
    return self.out(x.mean(axis=(1, 2)))

class Killed(Exception):
  pass

folder = pathlib.Path(sys.argv[1])
batches = Batches(data.digits(0), 64, seed=0)

def fit(devices, steps, name, model, checkpoint=None):
  settings = train.Settings(steps, train.Optimizer(optax.sgd(1.0), lambda step: 1.0), seed=0)
  metrics = Metrics(folder / f'{name}.jsonl')
  with Progress() as progress:
    train.fit(
      model, cross_entropy, batches, settings, progress, name, checkpoint, metrics, devices
    )
  return nnx.state(model), metrics.read()

def gap(a, b):
  square = lambda tree: sum(float(np.vdot(x, x)) for x in jax.tree.leaves(tree))
  return (square(jax.tree.map(np.subtract, a, b)) / square(b)) ** 0.5

one, four = None, mesh.make('data:4')
start = nnx.state(Net())
gradients = [  # of rate 1, one update is the gradient
  jax.tree.map(np.subtract, fit(m, 1, n, Net())[0], start) for m, n in ((one, 'a'), (four, 'b'))
]
losses = [Metrics(folder / f'{n}.jsonl').read()[0]['loss'] for n in 'ab']

class Dies(Checkpoint):
  def save_if_due(self, state, step):
    super().save_if_due(state, step)
    raise Killed

whole, _ = fit(four, 3, 'whole', Net())
try:
  fit(four, 3, 'part', Net(), Dies(folder / 'part', every=0.0))
except Killed:
  pass
model = Net()
resumed, lines = fit(one, 3, 'part', model, Checkpoint(folder / 'part'))
print(json.dumps({
  'gradient': gap(*gradients), 'loss': abs(losses[0] / losses[1] - 1),
  'resumed': gap(resumed, whole), 'steps': [line['step'] for line in lines],
  'devices': len({d for leaf in jax.tree.leaves(nnx.state(model)) for d in leaf.devices()}),
}))
"""


def test_four_devices_do_as_one_does_and_either_goes_on_for_the_other(tmp_path, one_device):
  command = [sys.executable, '-c', SCRIPT, tmp_path]
  done = subprocess.run(command, cwd=ROOT, env=one_device | FOUR, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  assert found['loss'] < 1e-5
  assert found['gradient'] < 1e-5
  assert found['resumed'] < 1e-4
  assert found['steps'] == [0, 2]
  assert found['devices'] == 1


def main(env, *flags):
  command = [sys.executable, '-m', 'experiments.compress.main', '--preset=smoke', '--schemes=tk']
  command += ['--finetune_epochs=0']  # one program less to compile, three times
  return subprocess.Popen([*command, *flags], cwd=ROOT, env=env, stdout=-1, stderr=-1, text=True)


@pytest.fixture(scope='module')
def together(tmp_path_factory, one_device):
  """Folders and terminal output of a run by two processes, and of one with two devices."""
  folder = tmp_path_factory.mktemp('together')
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  flags = (f'--workdir={folder / "two"}', '--distributed', f'--coordinator=localhost:{port}')
  two = [main(one_device, *flags, '--processes=2', f'--process={i}') for i in (0, 1)]
  outputs = [process.communicate(timeout=300) for process in two]
  assert [p.returncode for p in two] == [0, 0], outputs
  env = one_device | {'JAX_NUM_CPU_DEVICES': '2'}
  one = main(env, f'--workdir={folder / "one"}', '--mesh=data:2')
  _, errors = one.communicate(timeout=300)
  assert one.returncode == 0, errors
  return folder, [out for out, _ in outputs]


def test_two_processes_give_what_one_gives(together):
  from safetensors.numpy import load_file

  folder, _ = together
  one, two = (json.loads((folder / n / 'report.json').read_text()) for n in ('one', 'two'))
  assert (one['processes'], two['processes']) == (1, 2)
  assert one['mesh'] == two['mesh'] == 'data:2'
  assert one['baseline'] == two['baseline']
  for name in ('baseline', 'tk_0.2_decomposed'):
    first, second = (load_file(folder / n / f'weights/{name}.safetensors') for n in ('one', 'two'))
    for key, array in first.items():
      np.testing.assert_allclose(second[key], array, rtol=1e-4, atol=1e-5)


def test_the_first_process_alone_writes_and_prints(together):
  folder, (first, second) = together
  assert 'wrote' in first
  assert 'accuracy' not in second
  lines = (folder / 'two' / 'metrics.jsonl').read_text().splitlines()
  steps = [(x['phase'], x['step']) for x in map(json.loads, lines)]
  assert steps == [('train', 0), ('train', 15)]
