"""The study in one process, on a few stick figures: its rows, its files, and going on with them."""

import contextlib
import json
import pathlib

import numpy as np
import pytest

import tnjax as tn
from experiments.common import job
from experiments.common.config import parse
from experiments.common.progress import Progress
from experiments.pose import inputs, leeds, study
from experiments.pose.config import Config
from tests.experiments.image_files import needs_grain
from tests.experiments.pose import pose_files

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
def done(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('pose') / 'run'
  return workdir, *run(workdir, '--methods=tucker,trimmed')


def test_rows_are_of_equal_size(done):
  workdir, report, text = done
  tucker, trimmed, kernel = report['rows']
  assert [row['method'] for row in report['rows']] == ['tucker', 'trimmed', 'kernel']
  assert 0.95 * trimmed['params'] < tucker['params'] <= trimmed['params']
  (dense,) = report['baselines']
  outside = dense['params'] - dense['kernel_params']
  assert tucker['params'] - tucker['kernel_params'] == outside  # nothing else was made smaller
  assert kernel['ranks'] == [1, 1, 3, 2, 8, 8, 2, 2]
  assert trimmed['macs_ratio'] < 1
  assert 0 < tucker['relative_error'] < 1
  assert trimmed['relative_error'] is trimmed['accuracy_start'] is None
  assert (tucker['steps'], trimmed['steps'], kernel['steps']) == (1, 2, 1)
  assert 'rendered stick figures, no photographs' in text
  assert text.count('tucker against trimmed at 1.5x') == 1


def test_files_are_those_that_are_told(done):
  workdir, report, text = done
  for name in study.Study.FILES:
    assert (workdir / name).stat().st_size
    assert name in text
  for found in (*report['baselines'], *report['rows']):
    assert np.load(workdir / found['predictions']).shape == (2, 14, 2)
  path = workdir / report['rows'][0]['weights']['trained']
  assert type(tn.load(path).stacks[0].levels[0].up.conv0) is tn.nn.JointConv
  assert tn.compression.describe(path)['notes']['size'] == 32
  assert not list((workdir / 'checkpoints').glob('*'))
  (one,) = report['comparisons']
  assert one['low'] <= one['difference'] <= one['high']
  assert 0 < report['mean_pose']['pck'] < 0.6


def test_a_run_goes_on_with_more_rows(done):
  workdir, before, _ = done
  kept = (workdir / 'weights' / 'baseline.safetensors').stat().st_mtime_ns
  after, text = run(workdir, '--methods=scratch', '--studies=methods')
  assert after['rows'][:3] == before['rows']
  (scratch,) = after['rows'][3:]
  assert scratch['ranks'] == before['rows'][0]['ranks']
  assert scratch['steps'] == 2
  assert (workdir / 'weights' / 'baseline.safetensors').stat().st_mtime_ns == kept
  assert 'scratch against trimmed' in text


def test_predictions_that_are_gone_are_told(done):
  workdir, report, _ = done
  path = workdir / report['rows'][0]['predictions']
  content = path.read_bytes()
  path.write_bytes(content[:-4] + b'abcd')
  with pytest.raises(
    ValueError, match='tucker_1.5.npy, which report.json names, is missing or has'
  ):
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
  flags = [f'--data_dir={tmp_path}', '--size=32', '--depth=1', '--workers=0']
  config = parse(Config, ['main', *flags], '')
  told = []
  with Progress(quiet=True) as progress, contextlib.ExitStack() as stack:
    this = job.Job(config, progress, None, ['main'], 'nowhere', stack)
    monkeypatch.setattr(progress, 'print', told.append)
    load = inputs.loader(this)
    data = load(0)
    assert load(1) is data
    assert (data.train.images.shape, len(data.validation)) == ((16, 40, 40, 3), 2)
    assert told == ['left out: 2 people with fewer than two joints']
    sets = leeds.lspet(str(tmp_path))
    sets.validation.annotated[:, sets.validation.layout.index('right hip')] = False
    monkeypatch.setitem(inputs._READERS, 'lspet', lambda data_dir: sets)
    with pytest.raises(ValueError, match='nobody to validate with has the joints that pck needs'):
      inputs.loader(this)(0)
