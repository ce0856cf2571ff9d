"""The main job as a user runs it, small."""

import contextlib
import csv
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from experiments.classifier import network
from experiments.common import data, job, results
from experiments.common.config import declared, parse
from experiments.common.metrics import Metrics
from experiments.common.progress import Progress
from experiments.compress import study
from experiments.compress.config import Config
from experiments.compress.study import Study
from experiments.compress.table import table
from tests.experiments import forked

ROOT = pathlib.Path(__file__).parents[3]
IMPORTS = ('experiments.common.job', 'experiments.compress.study')
SMALL = ('--train_epochs=1', '--finetune_steps=3', '--rates=0.2')


def command(*flags):
  return [sys.executable, '-m', 'experiments.compress.main', *flags]


def run(*flags, check=True):
  env = {k: v for k, v in os.environ.items() if k != 'JAX_NUM_CPU_DEVICES'}  # one device
  (done,) = forked.run('experiments.compress.main', [flags], IMPORTS, env)
  if check:
    assert done.returncode == 0, done.stderr
  return done


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Workdir and terminal output of a small run."""
  workdir = tmp_path_factory.mktemp('main') / 'run'
  done = run(*SMALL, '--schemes=tk,shuffled', f'--workdir={workdir}')
  return workdir, done.stdout


def test_the_report_keeps_its_contract(finished):
  workdir, out = finished
  report = json.loads((workdir / 'report.json').read_text())
  assert set(report) == {
    'command', 'preset', 'versions', 'device', 'mesh', 'processes', 'git', 'dataset', 'model',
    'seed', 'settings', 'earlier', 'baseline', 'baselines', 'rows', 'memory',
  }  # fmt: skip
  assert set(report['baseline']) == {'accuracy', 'accuracy_validation', 'params', 'macs'}
  (baseline,) = report['baselines']
  assert {k: baseline[k] for k in report['baseline']} == report['baseline']
  digits = data.digits(0)
  splits = (digits.train, digits.validation, digits.test)
  found = results.fingerprint(*(a for s in splits for a in (s.images, s.labels)))
  assert baseline['data_sha256'] == found
  path = workdir / 'weights' / 'baseline.safetensors'
  assert baseline['weights_sha256'] == hashlib.sha256(path.read_bytes()).hexdigest()
  assert report['git']['clean'] in (True, False, 'unknown')
  assert report['memory']['process_bytes'] > 2**26
  assert [(r['scheme'], r['rate']) for r in report['rows']] == [
    ('tk', 0.2), ('shuffled', 0.2)
  ]  # fmt: skip
  for row in report['rows']:
    assert set(row) == {
      'scheme', 'rate', 'seed', 'ranks', 'layers', 'not_converged', 'params', 'params_ratio',
      'kernel_params', 'kernel_params_ratio', 'macs', 'macs_ratio', 'kernel_macs_ratio',
      'relative_error', 'accuracy_decomposed', 'accuracy_finetuned', 'accuracy_validation',
      'finetune_steps', 'decompose_seconds', 'finetune_seconds', 'weights', 'weights_sha256',
    }  # fmt: skip
    assert row['params_ratio'] == row['params'] / report['baseline']['params']
    assert row['macs_ratio'] == row['macs'] / report['baseline']['macs']
    assert row['kernel_params_ratio'] == row['kernel_params'] / (6 * 9 * 32 * 32)
    layers = row['layers']
    assert {path: layer['ranks'] for path, layer in layers.items()} == row['ranks']
    assert len(layers) == 6
    assert sum(layer['params'] for layer in layers.values()) == row['kernel_params']
    assert row['not_converged'] == sum(not layer['converged'] for layer in layers.values())
    words = f'{row["not_converged"]} of 6 layers not converged'
    assert (words in out) == (row['not_converged'] > 0)
    assert row['finetune_steps'] == 3
    assert f'{row["accuracy_finetuned"]:.2%}' in out
    assert set(row['weights']) == {'decomposed', 'finetuned'}
    for kind, path in row['weights'].items():
      assert (workdir / path).stat().st_mode == (workdir / 'report.json').stat().st_mode
      found = hashlib.sha256((workdir / path).read_bytes()).hexdigest()
      assert found == row['weights_sha256'][kind]
  with (workdir / 'summary.csv').open() as file:
    assert [r['scheme'] for r in csv.DictReader(file)] == ['tk', 'shuffled']
  for name in ('accuracy_vs_compression', 'loss'):
    assert (workdir / f'{name}.png').read_bytes().startswith(b'\x89PNG')
  lines = Metrics(workdir / 'metrics.jsonl').read()
  assert [(x['phase'], x['step']) for x in lines[:2]] == [('train', 0), ('train', 15)]
  assert len(lines) == 2 + 2 * len(report['rows'])
  assert set(lines[0]) == {'phase', 'step', 'loss', 'accuracy', 'learning_rate', 'seconds'}
  assert not (workdir / 'checkpoints').exists() or not any((workdir / 'checkpoints').iterdir())


def test_saved_weights_reproduce_the_accuracies_and_the_error(finished):
  workdir, _ = finished
  report = json.loads((workdir / 'report.json').read_text())
  test, validation = data.digits(0).test, data.digits(0).validation
  dense = tn.load(workdir / 'weights' / 'baseline.safetensors')
  for row in report['rows']:
    for kind in ('decomposed', 'finetuned'):
      model = tn.load(workdir / row['weights'][kind])
      found = model(jnp.asarray(test.images / 16.0, 'float32')).argmax(-1) == test.labels
      assert float(found.mean()) == pytest.approx(row[f'accuracy_{kind}'], abs=1e-3)
    images, labels = validation.images / 16.0, validation.labels
    found = model(jnp.asarray(images, 'float32')).argmax(-1) == labels
    assert float(found.mean()) == pytest.approx(row['accuracy_validation'], abs=1e-3)
    model = tn.load(workdir / row['weights']['decomposed'])
    params = sum(v.size for _, v in nnx.to_flat_state(nnx.state(model, nnx.Param)))
    assert params == row['params']
    gap = norm = 0.0
    for path in row['ranks']:
      stage, block, name = path.split('/')[1:]
      kernels = [
        np.asarray(getattr(m.stages[int(stage)][int(block)], name).kernel[...])
        for m in (dense, model)
      ]
      square, whole = np.sum((kernels[0] - kernels[1]) ** 2), np.sum(kernels[0] ** 2)
      error = row['layers'][path]['relative_error']
      assert (square / whole) ** 0.5 == pytest.approx(error, rel=1e-3)
      gap, norm = gap + square, norm + whole
    assert (gap / norm) ** 0.5 == pytest.approx(row['relative_error'], rel=1e-3)


def test_a_finished_run_is_resumed_at_once_in_part_and_another_refused(finished):
  workdir, _ = finished
  before = json.loads((workdir / 'report.json').read_text())
  run(*SMALL, '--schemes=tk', f'--workdir={workdir}')
  assert json.loads((workdir / 'report.json').read_text())['rows'] == before['rows']
  other = run(*SMALL, '--batch_size=32', f'--workdir={workdir}', check=False)
  assert other.returncode == 1
  assert 'batch_size=64; this run has 32' in other.stderr


def test_eval_recomputes(finished):
  workdir, _ = finished
  row = json.loads((workdir / 'report.json').read_text())['rows'][-1]
  out = run(f'--eval={workdir / row["weights"]["finetuned"]}').stdout
  assert f'test accuracy {row["accuracy_finetuned"]:.2%} on 359 images' in out.replace('\n', ' ')


def test_an_interrupted_run_keeps_its_rows_goes_on_and_grows(tmp_path, one_device):
  workdir = tmp_path / 'run'
  flags = ('--preset=smoke', f'--workdir={workdir}')
  process = subprocess.Popen(
    command(*flags), cwd=ROOT, env=one_device, stdout=-1, stderr=-1, text=True
  )
  report = workdir / 'report.json'
  deadline = time.monotonic() + 300
  while time.monotonic() < deadline and process.poll() is None:
    if report.is_file() and json.loads(report.read_text())['rows']:
      break
    time.sleep(0.1)
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 130
  assert 'interrupted' in errors
  assert 'Traceback' not in errors
  rows = json.loads(report.read_text())['rows']
  assert len(rows) == 1
  assert (workdir / 'summary.csv').is_file()
  out = run(*flags, '--schemes=svd', '--seeds=0,1').stdout
  assert '±' in out
  found = json.loads(report.read_text())
  assert found['rows'][0] == rows[0]
  assert [(r['scheme'], r['seed']) for r in found['rows']] == [('svd', 0), ('svd', 1)]
  assert found['baseline']['accuracy'] == np.mean([b['accuracy'] for b in found['baselines']])
  assert len({b['data_sha256'] for b in found['baselines']}) == 2
  with (workdir / 'summary.csv').open() as file:
    (row,) = csv.DictReader(file)
  spread = np.std([r['accuracy_decomposed'] for r in found['rows']], ddof=1)
  assert float(row['accuracy_decomposed_std']) == pytest.approx(spread)
  phases = {line['phase'] for line in Metrics(workdir / 'metrics.jsonl').read()}
  assert {'train', 'svd_0.2', 'train_seed1', 'svd_0.2_seed1'} <= phases


def opened(workdir, load=data.digits, **changes):
  """The study that a run with the flags of `finished` would go on with."""
  settings = {'train_epochs': 1, 'finetune_steps': 3, 'rates': (0.2,), 'schemes': ('tk', 'svd')}
  found = Config(**settings | changes, workdir=str(workdir)).resolved()
  with Progress() as progress, contextlib.ExitStack() as stack:
    return Study(job.Job(found, progress, None, ['main'], str(workdir), stack), load)


@pytest.fixture
def copied(finished, tmp_path):
  """A folder to spoil."""
  return shutil.copytree(finished[0], tmp_path / 'run')


def test_a_folder_goes_on_only_with_its_files_its_data_and_its_versions(copied, monkeypatch):
  assert opened(copied).state() == '1 of 2 rows'
  for name in ('baseline', 'tk_0.2_decomposed', 'shuffled_0.2_finetuned'):
    path = copied / 'weights' / f'{name}.safetensors'
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ValueError, match=f'{name}.safetensors, which report.json names, is miss'):
      opened(copied)
    path.write_bytes(content[:-1] + b'x')
    with pytest.raises(ValueError, match=f'{name}.safetensors has changed'):
      opened(copied)
    path.write_bytes(content)

  def others(seed):
    found = data.digits(seed)
    found.validation.labels[0] ^= 1
    return found

  for seeds in ((0,), (1, 0), (1,)):
    with pytest.raises(ValueError, match='the data are not those of the results'):
      opened(copied, others, seeds=seeds)
  versions = results.versions() | {'jax': '0.0.1'}
  monkeypatch.setattr(results, 'versions', lambda: versions)
  with pytest.raises(ValueError, match=r'report.json was made with jax .*; this is 0.0.1'):
    opened(copied)


def test_a_report_with_missing_or_odd_entries_is_named_before_any_work(copied):
  path = copied / 'report.json'
  whole = path.read_text()

  def spoil(where, key, value):
    report = json.loads(whole)
    target = report if where is None else report[where][0]
    target.pop(key) if value is None else target.update({key: value})
    path.write_text(json.dumps(report))
    with pytest.raises(ValueError, match=r'.*report\.json[^\n]*$'):
      opened(copied)

  needed = ('rate', 'params_ratio', 'macs_ratio', 'relative_error', 'accuracy_decomposed',
            'accuracy_finetuned', 'kernel_params_ratio')  # fmt: skip
  for key in needed:
    spoil('rows', key, 'x')
  for key in needed[1:]:
    spoil('rows', key, None)
  spoil('rows', 'weights', 'x')
  for key in ('seed', 'accuracy', 'params', 'macs', 'data_sha256', 'weights_sha256'):
    spoil('baselines', key, None)
  for key in ('rows', 'baselines', 'versions', 'earlier'):
    for value in (None, 3, 'x', [3]):
      spoil(None, key, value)
  report = json.loads(whole) | {'baseline': 3}  # which is made of the others
  report['rows'][0].pop('accuracy_validation')  # as a row of an older version
  path.write_text(json.dumps(report))
  found = opened(copied)
  found.finish()
  assert table(found.report)


@pytest.mark.parametrize('name', ['report.json', 'summary.csv', 'metrics.jsonl', 'loss.png'])
def test_a_folder_in_a_files_place_is_told_before_any_work(copied, name):
  (copied / name).unlink()
  (copied / name).mkdir()
  with pytest.raises(ValueError, match=f'{name} is a folder'):
    opened(copied)


def test_without_fine_tuning_there_is_no_copy_and_no_accuracy_of_it(tmp_path):
  workdir = tmp_path / 'run'
  out = run('--train_epochs=1', '--finetune_steps=0', '--rates=0.2', '--schemes=svd',
            f'--workdir={workdir}').stdout  # fmt: skip
  assert '->' not in out
  (row,) = json.loads((workdir / 'report.json').read_text())['rows']
  assert row['accuracy_finetuned'] is None
  assert set(row['weights']) == {'decomposed'}
  names = {path.name for path in (workdir / 'weights').iterdir()}
  assert names == {'baseline.safetensors', 'svd_0.2_decomposed.safetensors'}
  again = run('--train_epochs=1', '--finetune_steps=0', '--rates=0.2', '--schemes=svd',
              f'--workdir={workdir}')  # fmt: skip
  assert f'{row["accuracy_validation"]:.2%}' in again.stdout


def test_eval_asks_the_file_and_refuses_what_it_ignores(tmp_path):
  notes = {
    'dataset': 'digits', 'model': 'resnet8', 'seed': 7, 'layers': '.*', 'scheme': None, 'rate': None
  }  # fmt: skip
  tn.save(tmp_path / 'seven.safetensors', network.build('resnet8', 'digits', 0), notes=notes)
  flag = f'--eval={tmp_path}/seven.safetensors'
  found = parse(Config, ['main', flag], '')
  assert (found.dataset, found.model, found.seed) == ('digits', 'resnet8', 7)
  assert parse(Config, ['main', flag, '--dataset=digits', '--model=resnet8', '--seed=7'], '')
  for other in ('--seed=0', '--model=resnet14', '--dataset=cifar10'):
    with pytest.raises(ValueError, match=f'was trained with {other.split("=")[0]}='):
      parse(Config, ['main', flag, other], '')
  allowed = {'eval', 'dataset', 'data_dir', 'download', 'model', 'seed', 'compile_cache'}
  allowed |= {'workers', 'image_size', 'mean', 'std'}
  for name, default, about in declared(Config):
    if about.flag and name not in allowed:
      value = 'x' if default is None else str(default).strip('()').replace("'", '').replace(' ', '')
      value = '1' if name in ('processes', 'process', 'seeds') or 'epochs' in name else value
      value = '1' if name in ('finetune_steps', 'batch_size') else value
      with pytest.raises(ValueError, match=f'--{name} has no meaning beside --eval'):
        parse(Config, ['main', flag, f'--{name}={value}'], '')
  net = network.build('resnet14_v2', 'cifar10', 0)
  tn.save(tmp_path / 'user.safetensors', net)
  flags = [f'--eval={tmp_path}/user.safetensors', f'--data_dir={tmp_path}']
  found = parse(Config, ['main', *flags], '')
  assert (found.dataset, found.model) == ('cifar10', 'resnet14_v2')
  names = [f'layer{i}.{j}.conv{k}.weight' for i in (1, 2, 3) for j in (0, 1, 2) for k in (1, 2)]
  np.savez(tmp_path / 'foreign.npz', **{name: np.ones(1) for name in names})
  flags[0] = f'--eval={tmp_path}/foreign.npz'
  assert parse(Config, ['main', *flags], '').model == 'resnet20'
  assert parse(Config, ['main', *flags, '--model=resnet8'], '').model == 'resnet8'


def test_what_all_seeds_share_is_planned_once(monkeypatch):
  planned = []
  monkeypatch.setattr(study.tn.compression, 'plan', lambda model, rules: planned.append(rules))
  settings = {'schemes': ('tk', 'cp'), 'rates': (0.1, 0.2), 'seeds': (0, 1, 2)}
  study.check(config(**settings), None)
  assert len(planned) == 4


def test_bad_input_is_one_clear_line(tmp_path, one_device):
  workdir = tmp_path / 'run'
  cases = [
    (['--rates=1.5'], '--rates=1.5 must be in (0, 1]'),
    (['--weights=nowhere.npz'], 'nowhere.npz does not exist'),
    (['--eval=nowhere.npz'], '--workdir has no meaning beside --eval'),
    (['--layers=nothing'], "'nothing' matches no layer"),
    (['--dataset=cifar10', '--data_dir=/nowhere'], 'holds no cifar-10-batches-py'),
    (['--no_such_flag'], 'Unknown command line flag'),
    (['stray'], "unexpected argument 'stray'"),
  ]
  runs = forked.run(
    'experiments.compress.main',
    [[*flags, f'--workdir={workdir}'] for flags, _ in cases], IMPORTS, one_device,
  )  # fmt: skip
  for done, (flags, words) in zip(runs, cases, strict=True):
    assert done.returncode == 1, flags
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
  assert not workdir.exists()


def config(**changes):
  options = {
    'dataset': 'digits', 'model': 'resnet8', 'weights': None, 'schemes': ('tk',), 'rates': (0.1,),
    'layers': '.*', 'train_epochs': 1, 'train_learning_rate': 1e-3, 'finetune_epochs': 1,
    'finetune_steps': None, 'weights_sha256': None, 'learning_rate': 1e-3,
    'weight_decay': 0.0, 'batch_size': 8, 'seed': 0,
  }  # fmt: skip
  return Config(**options | changes)


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'schemes': ('nope',)}, '--schemes=nope must be one of svd, cp'),
    ({'schemes': ()}, 'at least one'),
    ({'rates': (0.1, 0.1)}, 'none twice'),
    ({'rates': (0.0,)}, r'--rates=0.0 must be in \(0, 1\]'),
    ({'rates': (float('nan'),)}, '--rates=nan'),
    ({'batch_size': 0}, 'batch_size=0'),
    ({'finetune_steps': -1}, 'finetune_steps=-1'),
    ({'learning_rate': float('inf')}, 'learning_rate=inf'),
    ({'seed': 2**31}, 'seed=2147483648'),
    ({'seed': -1}, 'seed=-1'),
  ],
)
def test_bad_settings(changes, words):
  with pytest.raises(ValueError, match=words):
    config(**changes)


def test_another_seed_would_test_on_trained_images(finished, one_device):
  workdir, _ = finished
  path = workdir / 'weights' / 'baseline.safetensors'
  cases = [[f'{flag}={path}', '--seed=1'] for flag in ('--eval', '--weights')]
  for done in forked.run('experiments.compress.main', cases, IMPORTS, one_device):
    assert done.returncode == 1
    assert 'trained with --seed=0' in done.stderr


def test_interrupt_while_loading(tmp_path):
  process = subprocess.Popen(
    command(f'--workdir={tmp_path / "run"}'), cwd=ROOT, stdout=-1, stderr=-1, text=True
  )
  status, ours = pathlib.Path(f'/proc/{process.pid}/status'), 1 << (signal.SIGTERM - 1)
  while not int(re.search(r'SigCgt:\s*(\w+)', status.read_text())[1], 16) & ours:
    time.sleep(0.1)  # imports take as long as the machine is busy
  process.send_signal(signal.SIGINT)
  _, errors = process.communicate(timeout=60)
  assert process.returncode == 130
  assert 'interrupted' in errors
  assert 'Traceback' not in errors
