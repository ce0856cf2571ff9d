"""The study as a user runs it, small; its settings; bad input."""

import csv
import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from experiments.common import results
from experiments.shuffled import plots
from experiments.shuffled.config import Config
from tests.experiments import forked

PROGRAM = 'experiments.shuffled.main'
IMPORTS = ('experiments.shuffled.study', 'experiments.common.job')
SMALL = ('--studies=grid,shared', '--formats=tt', '--ratios=10', '--train_epochs=1')
SMALL += ('--finetune_steps=2',)


def run(one_device, *cases):
  return forked.run(PROGRAM, cases, IMPORTS, one_device)


@pytest.fixture(scope='module')
def finished(tmp_path_factory, one_device):
  """Workdir and terminal output of a small run."""
  workdir = tmp_path_factory.mktemp('shuffled') / 'run'
  (done,) = run(one_device, (*SMALL, f'--workdir={workdir}'))
  assert done.returncode == 0, done.stderr
  return workdir, done.stdout


def test_the_report_keeps_its_contract(finished):
  workdir, out = finished
  report = json.loads((workdir / 'report.json').read_text())
  assert {'definition', 'networks', 'out_of_reach', 'stability', 'claims', 'gaps'} <= set(report)
  assert 'working definition' in report['definition']
  rows = report['rows']
  assert [(r['format'], r['entries'], r['mode']) for r in rows] == [
    ('dense', 'td', 'scratch'), ('dense', 'td', 'decompose'), ('tt', 'td', 'scratch'),
    ('tt', 'td', 'decompose'), ('tt', 'rstd', 'scratch'), ('tt', 'rstd', 'decompose'),
    ('tt', 'rstd_shared', 'scratch'), ('tt', 'rstd_shared', 'decompose'),
  ]  # fmt: skip
  (found,) = report['networks']
  assert rows[0]['accuracy'] == found['accuracy']  # the dense control is that network
  assert len(found['spectra']) == 6
  for row in rows[2:]:
    assert row['kernel_params'] == 6 * 685
    assert row['mode'] == 'scratch' or 0 < row['relative_error'] < 1
    assert row['mode'] == 'decompose' or row['relative_error'] is None
    assert row['steps'] == (16 if row['mode'] == 'scratch' else 2)
    assert f'{row["accuracy"]:.2%}' in out
  with (workdir / 'summary.csv').open() as file:
    assert [r['entries'] for r in csv.DictReader(file)] == [r['entries'] for r in rows]
  assert (workdir / 'accuracy_digits.png').read_bytes().startswith(b'\x89PNG')
  assert 'Claim 1' in out
  assert 'Claim 2' in out


def test_a_lost_row_is_run_again_and_comes_out_the_same(finished, tmp_path, one_device):
  workdir = shutil.copytree(finished[0], tmp_path / 'run')
  before = json.loads((workdir / 'report.json').read_text())
  results.write_json(workdir / 'report.json', before | {'rows': before['rows'][:-3]})
  (done,) = run(one_device, (*SMALL, f'--workdir={workdir}'))
  assert done.returncode == 0, done.stderr
  after = json.loads((workdir / 'report.json').read_text())

  def lasting(row):
    return {k: v for k, v in row.items() if not k.endswith('seconds')}

  assert list(map(lasting, after['rows'])) == list(map(lasting, before['rows']))


def test_bad_input_is_told_in_one_line_before_any_work(finished, tmp_path, one_device):
  workdir, _ = finished
  spoilt = tmp_path / 'nan.safetensors'
  model = tn.load(workdir / 'digits/weights/baseline.safetensors')
  model.linear.bias[...] = jnp.full(10, np.nan)
  about = {'dataset': 'digits', 'model': 'resnet8', 'layers': '', 'scheme': None, 'rate': None}
  tn.save(spoilt, model, notes=about | {'seed': 0})
  torn = shutil.copytree(workdir, tmp_path / 'torn')
  report = json.loads((torn / 'report.json').read_text())
  del report['rows'][0]['accuracy']
  results.write_json(torn / 'report.json', report)
  cases = {
    ('--ratios=500', '--studies=grid'): 'even rank 1 stores more than the ratio allows',
    ('--ratios=nan',): '--ratios=nan must be a finite number, at least 1.0',
    ('--ratios=0.5',): 'at least 1.0',
    ('--preset=reduced',): 'the study cifar10 needs --data_dir; leave it out with --studies=grid,s',
    ('--preset=reduced', f'--data_dir={tmp_path}'): 'holds no cifar-10-batches-py',
    ('--blocks=3',): '--blocks=3 must divide 8',
    ('--studies=nope',): '--studies=nope must be one of',
    ('--weights=x.npz', '--studies=grid'): '--weights=x.npz does not exist',
    (f'--weights={spoilt}', '--studies=grid'): 'linear/bias',
    (*SMALL, f'--workdir={torn}'): 'a row has accuracy None, no number',
    (*SMALL, '--batch_size=32', f'--workdir={workdir}'): 'batch_size=64; this run has 32',
  }
  fresh = [f'--workdir={tmp_path / "new"}']
  flags = [[*c, *(() if any('workdir' in f for f in c) else fresh)] for c in cases]
  for done, words in zip(run(one_device, *flags), cases.values()):
    assert done.returncode == 1, done.stdout
    assert words in done.stderr
    assert done.stderr.count('\n') == 1, done.stderr
  assert not (tmp_path / 'new').exists()


def test_the_reduced_grid_is_that_of_the_issue():
  config = Config(**Config.PRESETS['reduced'], data_dir='somewhere').resolved()
  rows = config.settings()
  grid = [r for r in rows if (r['dataset'], r['block']) == ('digits', 0) and r['format'] != 'dense']
  assert sum(r['entries'] != 'rstd_shared' for r in grid) == 4 * 2 * 5 * 3 * 2
  assert sum(r['entries'] == 'rstd_shared' for r in grid) == 6
  beside = [r for r in rows if r['dataset'] == 'cifar10' and r['format'] != 'dense']
  assert {(r['format'], r['ratio'], r['mode']) for r in beside} == {
    ('tt', 5.0, 'scratch'), ('tt', 20.0, 'scratch')
  }  # fmt: skip
  assert len(beside) == 2 * 2 * 3
  assert len({tuple(r.items()) for r in rows}) == len(rows)
  assert {r['block'] for r in rows} == {0, 1, 2, 4, 8}
  assert config.beside().model == 'resnet8'


def test_the_same_ratio_gives_td_and_rstd_the_same_ranks():
  for format in ('cp', 'tk', 'tt', 'tr'):
    td, rstd = (Config().rules(format, e, 5.0)[0][1].bind((3, 3, 32, 32)) for e in ('td', 'rstd'))
    assert (td.ranks, td.num_params) == (rstd.ranks, rstd.num_params)
    expected = {'cp': 1820, 'tt': 1407, 'tr': 1750, 'tk': 1793}[format]  # the sheet, section 4
    assert td.num_params == expected
  assert isinstance(tn.schemes.shuffled(0.2).permutation, str)


def test_pictures_of_permuted_images(finished, tmp_path):
  report = json.loads((finished[0] / 'report.json').read_text())
  (one,) = report['networks']
  report['networks'] = [one | {'block': block} for block in (0, 1, 8)]
  about = {'dataset': 'digits', 'mode': 'scratch', 'td': 0.9, 'rstd': 0.8, 'gap': 0.1}
  report['gaps'] = [about | {'block': block, 'gap_std': 0.01} for block in (1, 8)]
  plots.similarity(tmp_path / 'similarity.png', report)
  measured = [
    {'dataset': 'digits', 'mode': 'scratch', 'format': 'tt', 'entries': e, 'seed_std': 0.1,
     'ratio_range': 0.2} for e in ('td', 'rstd')
  ]  # fmt: skip
  plots.steadiness(tmp_path / 'stability.png', measured)
  for name in ('similarity', 'stability'):
    assert (tmp_path / f'{name}.png').read_bytes().startswith(b'\x89PNG')
  plots.similarity(tmp_path / 'none.png', report | {'networks': [one]})  # only augmented ones
  assert not (tmp_path / 'none.png').exists()
