"""The binary as a user runs it, small."""

import contextlib
import csv
import json
import os
import pickle

import numpy as np
import pytest

from experiments.common import data, job
from experiments.common.config import parse
from experiments.common.progress import Progress
from experiments.tensornet import paper
from experiments.tensornet.config import Config
from experiments.tensornet.study import Study
from tests.experiments import forked

IMPORTS = ('experiments.common.job', 'experiments.tensornet.study')
SMALL = ('--preset=smoke', '--study=counts,mnist', '--shapes=4^5', '--images=100')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """MNIST and CIFAR-10 in layouts that the loaders read, coarse noise for images."""
  folder = tmp_path_factory.mktemp('data')
  rng = np.random.default_rng(0)
  arrays = {}
  for part, count in (('train', 60_000), ('test', 10_000)):
    arrays[f'x_{part}'] = rng.integers(0, 256, (count, 1, 28), 'uint8').repeat(28, axis=1)
    arrays[f'y_{part}'] = np.arange(count) % 10
  np.savez(folder / 'mnist.npz', **arrays)
  (folder / data.CIFAR_FOLDER).mkdir()
  images = rng.integers(0, 256, (10000, 96), 'uint8').repeat(32, axis=1)
  batch = pickle.dumps({'data': images, 'labels': (np.arange(10000) % 10).tolist()}, protocol=4)
  for name in (*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch'):
    (folder / data.CIFAR_FOLDER / name).write_bytes(batch)
  return folder


def run(*flags):
  env = {k: v for k, v in os.environ.items() if k != 'JAX_NUM_CPU_DEVICES'}  # one device
  (done,) = forked.run('experiments.tensornet.main', [flags], IMPORTS, env)
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def finished(folder, tmp_path_factory):
  """Workdir and terminal output of a small run."""
  workdir = tmp_path_factory.mktemp('main') / 'run'
  return workdir, run(*SMALL, f'--data_dir={folder}', f'--workdir={workdir}')


def test_rows_tables_and_figures(finished):
  workdir, out = finished
  report = json.loads((workdir / 'report.json').read_text())
  rows = {(r['study'], r['cell'], r['rank']): r for r in report['rows']}
  assert [k for k in rows if k[0] == 'mnist'] == [
    ('mnist', 'dense', None), ('mnist', '4^5', 2), ('mnist', 'MR', 2), ('mnist', 'both', 8),
    ('mnist', 'both', 6),
  ]  # fmt: skip
  assert rows['mnist', '4^5', 2]['first_layer_weights'] == 256
  assert rows['mnist', 'dense', None]['first_layer_weights'] == paper.MNIST_DENSE_WEIGHTS
  assert rows['mnist', 'both', 8]['params'] == 11_306
  for row in rows.values():
    if row['study'] == 'mnist':
      assert 0 < row['error'] <= 1
      assert row['error_validation'] is not None
      assert row['steps'] == 3
  assert rows['counts', '2^10', None]['weights'][4] == 792
  assert {row['seed'] for row in report['rows']} == {None, 0}
  assert list(report['data']) == ['mnist_seed0']
  assert '816/792' in out
  assert 'paper: 1.90%, unverified' in out
  with (workdir / 'mnist.csv').open() as file:
    assert len(list(csv.DictReader(file))) == 5
  for name in ('mnist', 'loss'):
    assert (workdir / f'{name}.png').read_bytes().startswith(b'\x89PNG')
  assert not list((workdir / 'checkpoints').glob('*'))


@contextlib.contextmanager
def opened(workdir, *flags):
  """The study that a run with these flags would go on with."""
  flags = (*SMALL, *flags, f'--workdir={workdir}')
  config = parse(Config, ['main', *map(str, flags)], '')
  with Progress(quiet=True) as progress, contextlib.ExitStack() as stack:
    yield Study(job.Job(config, progress, None, ['main'], str(workdir), stack))


def test_a_finished_run_is_resumed_and_grows(finished, folder):
  workdir, _ = finished
  with opened(workdir, f'--data_dir={folder}') as study:
    assert study.state() == '16 of 16 rows'
  more = ('--ranks=2,3', '--study=counts,mnist,wide')
  with opened(workdir, f'--data_dir={folder}', *more) as study:
    assert study.state() == '16 of 20 rows'


def test_a_folder_goes_on_only_with_its_settings_its_data_and_whole_rows(
  finished, folder, tmp_path
):
  workdir, _ = finished
  with pytest.raises(ValueError, match='mnist_steps=3; this run has 4'):
    opened(workdir, f'--data_dir={folder}', '--mnist_steps=4').__enter__()
  with np.load(folder / 'mnist.npz') as arrays:
    other = dict(arrays)
  other['x_test'][0] ^= 1
  np.savez(tmp_path / 'mnist.npz', **other)
  with pytest.raises(ValueError, match='has other images for mnist_seed0'):
    opened(workdir, f'--data_dir={tmp_path}').__enter__()
  path = workdir / 'report.json'
  whole = path.read_text()
  report = json.loads(whole)
  report['rows'][-1]['error'] = None
  path.write_text(json.dumps(report))
  with pytest.raises(ValueError, match='row mnist both rank 6 has error None'):
    opened(workdir, f'--data_dir={folder}').__enter__()
  path.write_text(whole)


def test_bad_input_is_one_clear_line(tmp_path, one_device):
  workdir = tmp_path / 'run'
  cases = [
    (['--study=mnist'], '--study=mnist needs --data_dir'),
    (['--study=vgg'], '--study=vgg must be one of counts, inference'),
    (['--study=mnist', '--data_dir=/nowhere'], '--data_dir=/nowhere holds neither'),
    (['--study=wide', '--data_dir=/nowhere'], 'holds no cifar-10-batches-py'),
    (['--study=counts', '--ranks=0'], '--ranks=0 must be at least 1'),
    (['--study=counts', '--ranks=2,x'], '--ranks=2,x must be whole numbers'),
    (['--study=counts', '--wide_learning_rate=nan'], '--wide_learning_rate=nan must be a finite'),
    (['--study=counts', '--shapes=5^4'], '--shapes=5^4 must be one of 32x32'),
    (['--study=counts', '--images=3'], '--images=3 must be at least 100'),
  ]
  runs = forked.run(
    'experiments.tensornet.main',
    [[*flags, f'--workdir={workdir}'] for flags, _ in cases],
    IMPORTS,
    one_device,
  )
  for done, (flags, words) in zip(runs, cases, strict=True):
    assert done.returncode == 1, flags
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
  assert not workdir.exists()


def test_presets_are_settings():
  for name in Config.PRESETS:
    config = parse(Config, ['main', f'--preset={name}', '--data_dir=x'], '')
    assert config.preset == name
  assert config.wide_steps == paper.WIDE_STEPS
