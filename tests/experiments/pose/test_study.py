"""The study on a few stick figures: its rows, its files, and going on with them."""

import contextlib
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

import tnjax as tn
from experiments.common import job
from experiments.common.config import parse
from experiments.common.progress import Progress
from experiments.pose import inputs, leeds, main, study
from experiments.pose.config import Config
from tests.experiments.image_files import needs_grain
from tests.experiments.pose import pose_files

ROOT = pathlib.Path(__file__).parents[3]
FLAGS = ('--preset=smoke', '--figures=8', '--batch_size=8', '--train_epochs=1', '--modes=kernel')


def run(workdir, *flags):
  """A whole run; returns its report, and what it says at the end."""
  config = parse(Config, ['main', *FLAGS, f'--workdir={workdir}', *flags], '')
  with Progress(quiet=True) as progress, contextlib.ExitStack() as stack:
    this = job.Job(config, progress, None, ['main'], config.workdir, stack)
    limits = study.check(config)
    found = study.Study(this, inputs.loader(this), limits)
    found.run()
    found.finish()
    return json.loads((pathlib.Path(workdir) / 'report.json').read_text()), found.summary()


@pytest.fixture(scope='module')
def stopped(tmp_path_factory, one_device):
  """A run as a user starts it, stopped after its first row: its folder, its row, its last words."""
  workdir = tmp_path_factory.mktemp('pose') / 'run'
  flags = (*FLAGS, '--studies=methods', '--methods=tucker', f'--workdir={workdir}')
  process = subprocess.Popen(
    [sys.executable, '-m', 'experiments.pose.main', *flags], cwd=ROOT, env=one_device, text=True,
    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
  )  # fmt: skip
  path, rows = workdir / 'report.json', []
  while process.poll() is None and not rows:
    time.sleep(0.1)
    rows = json.loads(path.read_text())['rows'] if path.is_file() else []
  process.terminate()
  told = process.communicate()[1]
  assert process.returncode == 128 + 15, told
  return workdir, json.loads(path.read_text())['rows'][0], told.splitlines()[-1]


@pytest.fixture(scope='module')
def done(stopped):
  """The same, gone on with in this process, with more rows."""
  return stopped[0], *run(stopped[0], '--methods=tucker,trimmed,scratch')


def test_rows_are_of_equal_size(done):
  workdir, report, text = done
  dense, tucker, trimmed, scratch, as_long, kernel = report['rows']
  names = ['dense', 'tucker', 'trimmed', 'scratch', 'dense', 'kernel']
  assert [row['method'] for row in report['rows']] == names
  assert 0.95 * trimmed['params'] < tucker['params'] <= trimmed['params']
  (before,) = report['baselines']
  outside = before['params'] - before['kernel_params']
  assert tucker['params'] - tucker['kernel_params'] == outside  # nothing else was made smaller
  assert kernel['ranks'] == [1, 1, 3, 2, 8, 8, 2, 2]
  assert trimmed['macs_ratio'] < 1
  assert 0 < tucker['relative_error'] < 1
  assert trimmed['relative_error'] is trimmed['accuracy_start'] is None
  assert [row['steps'] for row in report['rows']] == [1, 1, 2, 2, 1, 1]
  assert scratch['ranks'] == tucker['ranks']
  for control in (dense, as_long):
    assert control['params_ratio'] == control['kernel_params_ratio'] == control['macs_ratio'] == 1
    assert control['accuracy_start'] == before['accuracy']
  assert 'rendered stick figures, no photographs' in text
  ratio = tucker['params'] / before['params']
  assert text.count(f'tucker against trimmed at {1 / ratio:.2f}x') == 1


def test_files_are_those_that_are_told(done):
  workdir, report, text = done
  for name in study.Study.FILES:
    assert (workdir / name).stat().st_size
    assert name in text
  for found in (*report['baselines'], *report['rows']):
    assert np.load(workdir / found['predictions']).shape == (2, 14, 2)
  path = workdir / report['rows'][1]['weights']['trained']
  assert type(tn.load(path).stacks[0].levels[0].up.conv0) is tn.nn.JointConv
  assert not list((workdir / 'checkpoints').glob('*'))
  assert 0 < report['mean_pose']['pck'] < 0.6


def test_every_row_is_compared_with_the_dense_network_trained_as_long(done):
  _, report, text = done
  found = {(r['method'], r['against']): r for r in report['comparisons']}
  assert [*found] == [
    ('tucker', 'dense'), ('tucker', 'trimmed'), ('trimmed', 'dense'), ('scratch', 'dense'),
    ('scratch', 'trimmed'), ('kernel', 'dense'),
  ]  # fmt: skip
  dense, tucker, trimmed, _, as_long, kernel = report['rows']
  for row, control in ((tucker, dense), (trimmed, dense), (kernel, as_long)):
    one = found[row['method'], 'dense']
    assert one['difference'] == pytest.approx(row['accuracy'] - control['accuracy'])
    assert one['low'] <= one['difference'] <= one['high']
    assert one['by_seed'] == [one['difference']]
    halvings = -np.log2(row['params_ratio'])
    assert one['per_halving'] == pytest.approx(one['difference'] / halvings)
  assert 'per_halving' not in found['tucker', 'trimmed']
  last = text.splitlines()[-3:-1]
  assert last[0].startswith('single modes, that one first which a halving')
  assert last[1].startswith('kernel rank 2 against dense at ')


def test_weights_of_others_are_refused(done, tmp_path):
  workdir, _, _ = done
  dense, small = (f'{workdir}/weights/{n}.safetensors' for n in ('baseline', 'methods_tucker_1.5'))
  for flags, words in {
    (dense, '--size=64'): 'was trained with --size=32; this run has --size=64',
    (dense, '--train_epochs=2'): 'with --train_epochs=1; this run has --train_epochs=2',
    (dense, '--dataset=lspet', '--data_dir=x'): 'with --dataset=figures; this run has --dataset=ls',
    (small,): 'is of the row tucker; take a baseline',
  }.items():
    with pytest.raises(ValueError, match=words):
      study.check(parse(Config, ['main', *FLAGS, f'--weights={flags[0]}', *flags[1:]], ''))
  with pytest.raises(ValueError, match='was trained on other people, or split otherwise: sha256'):
    run(tmp_path / 'run', f'--weights={dense}', '--figures=12')


def test_a_stopped_run_says_how_to_go_on_and_keeps_its_rows(stopped, done):
  workdir, row, told = stopped
  assert told.startswith(
    f'interrupted; {workdir} has 1 of 2 rows. To go on: python -m experiments.'
  )
  _, report, _ = done
  assert report['rows'][0] == row
  assert report['baselines'][0]['accuracy'] == row['accuracy_start']


def test_predictions_that_are_gone_are_told(done):
  workdir, report, _ = done
  path = workdir / report['rows'][1]['predictions']
  content = path.read_bytes()
  path.write_bytes(content[:-4] + b'abcd')
  with pytest.raises(ValueError, match='tucker_1.5.npy has changed: its sha256 is not'):
    run(workdir, '--methods=tucker')
  path.write_bytes(content)


def test_what_cannot_be_is_told_before_any_work():
  for flags, words in {
    ('--ratios=2.2',): '--ratios=2.2 is out of reach of tucker: with ranks of 1 the network has',
    ('--ratios=90',): '--ratios=90: the nearest network of fewer than --features=8 is',
  }.items():
    with pytest.raises(ValueError, match=words):
      study.check(parse(Config, ['main', *FLAGS, *flags], ''))


@needs_grain
def test_people_in_files_are_loaded_and_those_without_a_torso_refused(tmp_path, monkeypatch):
  pose_files.lspet(tmp_path)
  flags = [f'--data_dir={tmp_path}', '--size=32', '--depth=1', '--workers=0', '--studies=methods']
  config = parse(Config, ['main', *flags], '')
  told = []
  with Progress(quiet=True) as progress, contextlib.ExitStack() as stack:
    this = job.Job(config, progress, None, ['main'], 'nowhere', stack)
    monkeypatch.setattr(progress, 'print', told.append)
    load = inputs.loader(this)
    data = load(0)
    assert load(1) is data
    assert (data.train.images.shape, len(data.validation)) == ((16, 40, 40, 3), 2)
    assert data.left_out == 2
    assert told == ['left out: 2 people whose joints tell no place or size']
    sets = leeds.lspet(str(tmp_path))
    sets.validation.annotated[:, sets.validation.layout.index('right hip')] = False
    monkeypatch.setitem(inputs._READERS, 'lspet', lambda data_dir: sets)
    with pytest.raises(ValueError, match='nobody to validate with has the joints that pck needs'):
      inputs.loader(this)


def test_a_folder_without_data_is_told_before_networks_are_built(tmp_path, monkeypatch):
  config = parse(Config, ['main', '--preset=paper', f'--data_dir={tmp_path}'], '')
  monkeypatch.setattr(main, 'check', lambda config: pytest.fail('networks were built'))
  with Progress(quiet=True) as progress, contextlib.ExitStack() as stack:
    this = job.Job(config, progress, None, ['main'], str(tmp_path / 'run'), stack)
    with pytest.raises(FileNotFoundError, match='has no joints.mat'):
      main.prepare(this)
  assert not (tmp_path / 'run').exists()
