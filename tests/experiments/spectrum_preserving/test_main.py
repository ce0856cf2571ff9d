"""The binary as a user runs it, small."""

import contextlib
import csv
import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

import tnjax as tn
from experiments.classifier import network
from experiments.common import data, job
from experiments.common.config import parse
from experiments.common.progress import Progress
from experiments.spectrum_preserving.config import PLAIN, RESHAPED, Config
from experiments.spectrum_preserving.study import Study
from tests.experiments import forked

IMPORTS = ('experiments.common.job', 'experiments.spectrum_preserving.study')
BINARY = 'experiments.spectrum_preserving.main'
SMALL = ('--preset=smoke', '--schemes=svd')


def run(*flags):
  env = {k: v for k, v in os.environ.items() if k != 'JAX_NUM_CPU_DEVICES'}  # one device
  (done,) = forked.run(BINARY, [flags], IMPORTS, env)
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Folder and terminal output of a small run."""
  workdir = tmp_path_factory.mktemp('main') / 'run'
  return workdir, run(*SMALL, '--methods=e2e,seq_e2e', f'--workdir={workdir}')


def test_the_report_keeps_its_contract(finished):
  workdir, out = finished
  report = json.loads((workdir / 'report.json').read_text())
  assert set(report) == {
    'command', 'preset', 'versions', 'device', 'mesh', 'processes', 'git', 'study', 'dataset',
    'model', 'settings', 'earlier', 'baseline', 'baselines', 'rows', 'question', 'memory',
  }  # fmt: skip
  assert [(r['scheme'], r['rate'], r['seed'], r['method']) for r in report['rows']] == [
    ('svd', 0.1, 0, 'e2e'), ('svd', 0.1, 0, 'seq_e2e')
  ]  # fmt: skip
  for row in report['rows']:
    assert set(row) == {
      'scheme', 'rate', 'seed', 'method', 'params', 'kernel_params', 'kernel_params_ratio',
      'macs_ratio', 'relative_error', 'ranks', 'decompose_seconds', 'accuracy_decomposed',
      'accuracy', 'updates', 'cost', 'phases', 'curve', 'train_seconds',
    }  # fmt: skip
    assert row['kernel_params_ratio'] == row['kernel_params'] / (6 * 9 * 32 * 32)
    assert row['updates'] == sum(phase['updates'] for phase in row['phases']) == 6
    assert row['cost'] == sum(p['updates'] * p['trained_params'] for p in row['phases'])
    assert [point['updates'] for point in row['curve']] == [3, 6]
    assert row['curve'][-1]['cost'] == row['cost']
    assert f'-> {row["accuracy"]:.2%}' in out
  e2e, both = report['rows']
  assert [phase['trained_params'] for phase in e2e['phases']] == [e2e['params']]
  assert [phase['method'] for phase in both['phases']] == ['seq', 'seq', 'seq', 'e2e']
  # Norms and factors of the stages, and the first convolution: all but the last layer.
  seq = both['phases'][:3]
  assert sum(phase['trained_params'] for phase in seq) == e2e['params'] - 32 * 10 - 10
  assert e2e['accuracy_decomposed'] == both['accuracy_decomposed']
  assert {e['method'] for e in report['question']['at_equal_size']} == {'e2e', 'seq_e2e'}


def test_the_files_are_there(finished):
  workdir, out = finished
  with (workdir / 'summary.csv').open() as file:
    assert [r['method'] for r in csv.DictReader(file)] == ['e2e', 'seq_e2e']
  for name in ('accuracy_vs_size', 'convergence', 'equal_size'):
    assert (workdir / f'{name}.png').read_bytes().startswith(b'\x89PNG')
    assert f'{name}.png' in out


def opened(workdir, load=data.digits, **changes):
  """The study that a run with the flags of `finished` would go on with."""
  flags = ['main', *SMALL, '--methods=e2e,seq_e2e', f'--workdir={workdir}']
  found = dataclasses.replace(parse(Config, flags, ''), **changes)
  with Progress() as progress, contextlib.ExitStack() as stack:
    return Study(job.Job(found, progress, None, ['main'], str(workdir), stack), load)


def test_a_folder_goes_on_and_grows_but_only_with_its_own(finished, tmp_path):
  folder = shutil.copytree(finished[0], tmp_path / 'run')
  assert opened(folder).state() == '2 of 2 rows'
  assert opened(folder, methods=('e2e', 'seq'), rates=(0.1, 0.2)).state() == '1 of 4 rows'
  with pytest.raises(ValueError, match='updates=6; this run has 7'):
    opened(folder, updates=7)
  with pytest.raises(ValueError, match='the data are not those'):
    opened(folder, lambda seed: data.digits(seed + 1))
  path = folder / 'report.json'
  report = json.loads(path.read_text())
  report['rows'][0]['accuracy'] = None
  path.write_text(json.dumps(report))
  with pytest.raises(ValueError, match=r'report.json is damaged: row svd 0.1 0 has accuracy None'):
    opened(folder)
  (folder / 'weights' / 'baseline.safetensors').unlink()
  report['rows'] = []
  path.write_text(json.dumps(report))
  with pytest.raises(ValueError, match='baseline.safetensors.* is missing'):
    opened(folder)


def test_an_interrupt_before_the_first_row_leaves_files_all_the_same(tmp_path):
  found = opened(tmp_path / 'run')
  found.finish()
  assert found.state() == '0 of 2 rows'
  assert all((tmp_path / 'run' / name).is_file() for name in found.FILES)
  assert found.summary()


def test_studies_and_presets_have_their_own_settings(tmp_path):
  def settings(*flags):
    return parse(Config, ['main', *flags], '')

  digits = settings('--preset=reduced')
  assert (digits.schemes, digits.seeds) == (PLAIN + RESHAPED, (0, 1, 2))
  assert (digits.dataset, digits.model, digits.layers) == ('digits', 'resnet8', 'stages/.*')
  assert settings('--preset=reduced', '--seed=5').seeds == (5,)
  cifar = settings('--study=cifar', '--preset=reduced', f'--data_dir={tmp_path}')
  assert (cifar.schemes, cifar.rates) == (('cp', 'tk', 'tt', 'r_cp', 'r_tt'), (0.1,))
  assert (cifar.updates, cifar.seeds, cifar.model) == (351, (0,), 'resnet32')
  paper = settings('--study=cifar', '--preset=paper', f'--data_dir={tmp_path}', '--rates=0.1')
  assert (paper.stage_epochs, paper.e2e_epochs, paper.optimizer) == (100, 250, 'sgd')
  assert (paper.model, paper.rates) == ('resnet32_v2', (0.1,))
  mnist = settings('--study=mnist', '--model=mlp', f'--data_dir={tmp_path}')
  assert (mnist.schemes, mnist.layers) == (RESHAPED, r'layers/\d+')
  smoke = settings('--study=mnist', '--preset=smoke', f'--data_dir={tmp_path}')
  assert (smoke.updates, smoke.layers) == (6, 'hidden')


def test_bad_input_is_one_clear_line(tmp_path, one_device):
  bad = network.build('resnet8', 'digits', 0)
  bad.linear.bias[...] = bad.linear.bias[...].at[0].set(np.nan)
  tn.save(tmp_path / 'bad.safetensors', bad)
  (tmp_path / 'empty').mkdir()
  cases = [
    (['--rates=0.0001'], '--rates=0.0001 is out of reach of svd, whose least size is'),
    (['--study=accounting', '--rates=0.0001'], '--rates=0.0001 is out of reach of svd'),
    (['--study=cifar'], '--study=cifar needs --data_dir'),
    (['--study=mnist', f'--data_dir={tmp_path}/empty'], 'holds neither'),
    (['--data_dir=x'], 'have no meaning beside --study=digits'),
    (['--updates=2'], '--updates=2 leaves a part of --methods=seq without any'),
    (['--layers=nothing'], "'nothing' matches no layer"),
    ([f'--weights={tmp_path}/bad.safetensors'], "'linear/bias'"),
    (['--schemes=tr'], '--schemes=tr must be one of svd, cp'),
  ]
  runs = forked.run(
    BINARY, [[*flags, f'--workdir={tmp_path}/run'] for flags, _ in cases],
    IMPORTS, one_device,
  )  # fmt: skip
  for done, (flags, words) in zip(runs, cases, strict=True):
    assert done.returncode == 1, (flags, done)
    assert words in done.stderr, flags
    assert len(done.stderr.splitlines()) == 1
  assert not (tmp_path / 'run').exists()
