"""The binary as a user runs it, small."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import pytest
from flax import nnx

import tnjax as tn
from experiments.classifier import config as classifier
from experiments.classifier import network
from experiments.common import job
from experiments.common.config import parse
from experiments.common.progress import Progress
from experiments.musco import config, study
from experiments.musco.config import Config
from tests.experiments import forked

ROOT = pathlib.Path(__file__).parents[3]
GROUPS = ('stages/2/.*', 'stages/[01]/.*')
SMALL = (
  '--preset=smoke', '--studies=rate', '--passes=2', '--updates=6', f'--groups={",".join(GROUPS)}'
)  # fmt: skip


@pytest.fixture(scope='module')
def killed_and_resumed(tmp_path_factory):
  """A run that is killed within its second row, and the one that goes on."""
  workdir = tmp_path_factory.mktemp('musco') / 'run'
  env = {k: v for k, v in os.environ.items() if k != 'JAX_NUM_CPU_DEVICES'}  # one device
  command = [sys.executable, '-m', 'experiments.musco.main', *SMALL, f'--workdir={workdir}']
  with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as first:
    for line in first.stdout:
      if 'rate_2_2_seed0: pass 1, stages/[01]' in line:
        first.send_signal(signal.SIGKILL)
  kept = list((workdir / 'state').iterdir())
  done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  return workdir, kept, done.stdout


def test_rows_end_at_the_same_ranks_after_the_same_updates(killed_and_resumed):
  workdir, _, out = killed_and_resumed
  report = json.loads((workdir / 'report.json').read_text())
  shot, passes = report['rows']
  assert (shot['passes'], passes['passes']) == (0, 2)
  assert shot['ranks'] == passes['ranks']
  assert len(shot['ranks']) == 6
  assert shot['macs_ratio'] == passes['macs_ratio'] == pytest.approx(0.5, abs=0.005)
  assert shot['kernel_params_ratio'] == passes['kernel_params_ratio'] < 0.6
  assert shot['updates'] == passes['updates'] == 6
  assert [(p['pass'], p['group']) for p in passes['path']] == [
    (p, group) for p in (1, 2) for group in GROUPS
  ]
  sizes = [p['params'] for p in passes['path']]
  assert sizes == sorted(sizes, reverse=True)
  assert sizes[-1] == shot['params']
  for name in study.Study.FILES:
    assert (workdir / name).stat().st_size
    assert name in out


def test_a_killed_row_goes_on_after_its_last_step(killed_and_resumed):
  workdir, kept, out = killed_and_resumed
  assert [path.name for path in kept] == ['rate_2_2_seed0.safetensors']
  assert 'rate_2_2_seed0: pass 1, stages/2' not in out
  assert 'rate_2_2_seed0: pass 2, stages/[01]' in out
  assert not list((workdir / 'state').iterdir())


@pytest.mark.parametrize('passes', [1, 2, 3])
def test_every_number_of_passes_ends_where_one_shot_does(passes):
  model = nnx.Sequential(nnx.Conv(24, 24, (3, 3), rngs=nnx.Rngs(0)))

  def ranks(passes):
    last = (('layers/0', tn.schemes.tk(rate=0.25)),)
    schedule = config.gradual(('layers/0',), 0.25, last, passes)
    done = tn.compression.iterate(model, schedule, lambda m, s: m, lambda m: 1.0)
    return [row.report.compressed[0].ranks for row in done.steps]

  found = ranks(passes)
  assert found[-1] == ranks(0)[0]
  assert len(found) == passes
  assert found == sorted(found, reverse=True)


@pytest.mark.parametrize(('depth', 'target'), [(8, 0.3), (8, 0.41), (8, 0.57), (14, 0.25)])
def test_one_shot_takes_as_many_multiply_adds_as_wanted(depth, target):
  options = {'widths': (32, 32, 32), 'mean': (0.3,), 'std': (0.4,)} if depth == 8 else {}
  image = (8, 8, 1) if depth == 8 else (32, 32, 3)
  model = nnx.eval_shape(lambda: tn.models.cifar_resnet(depth, **options, rngs=nnx.Rngs(0)))
  paths = tuple(p for p in tn.compression.walk(model) if p.startswith('stages/'))
  rate, rules = study.rules_for(model, paths, image, target)
  found = tn.compression.plan(model, rules, input_shape=image)
  assert found.macs_ratio == pytest.approx(target, rel=0.01)
  even = tn.compression.plan(model, (('stages/.*', tn.schemes.tk(rate=rate)),), input_shape=image)
  assert even.macs_ratio <= found.macs_ratio


@pytest.mark.parametrize('grouping', config.GROUPINGS)
@pytest.mark.parametrize(
  ('model', 'dataset'),
  [
    *[(name, 'cifar10') for name in ('resnet14', 'resnet20_projection', 'vgg16_quarter')],
    *[(name, 'cifar10') for name in ('vgg13_bn', 'vgg19_plain')],
    *[(name, 'imagenet') for name in ('vgg11', 'vgg11_bn', 'resnet18')],
  ],
)
def test_default_groups_are_all_layers_from_the_last_to_the_first(model, dataset, grouping):
  net = nnx.eval_shape(lambda: network.build(model, dataset, 0))
  wanted = [p for p in tn.compression.walk(net) if re.fullmatch(network.layers(model, dataset), p)]
  groups = config.default_groups(model, dataset, grouping)
  found = [[p for p in wanted if re.fullmatch(group, p)] for group in groups]
  assert all(found)
  assert len(groups) == len(wanted) or grouping == 'stages' or model.startswith('resnet')
  assert sorted(p for own in found for p in own) == sorted(wanted)
  numbers = [[int(n) for n in re.findall(r'\d+', own[0])] for own in found]
  assert numbers == sorted(numbers, reverse=True)


def test_one_group_has_no_row_of_one_pass():
  flags = ['main', '--dataset=imagenet', '--data_dir=x', '--model=alexnet', '--studies=rate']
  rows = parse(Config, flags, '').settings()
  assert [row['passes'] for row in rows] == [0, 2, 3] * 2


class Reached(Exception):
  pass


def test_a_damaged_step_is_told_and_the_row_starts_over(
  killed_and_resumed, tmp_path, monkeypatch, capsys
):
  workdir = tmp_path / 'run'
  shutil.copytree(killed_and_resumed[0], workdir)
  report = json.loads((workdir / 'report.json').read_text())
  del report['rows'][-1]
  (workdir / 'report.json').write_text(json.dumps(report))
  (workdir / 'state' / 'rate_2_2_seed0.safetensors').write_bytes(b'{' * 100)

  def iterate(*_, checkpoint, **__):
    assert not checkpoint.exists()
    raise Reached

  monkeypatch.setattr(tn.compression, 'iterate', iterate)
  config = parse(Config, ['main', *SMALL, f'--workdir={workdir}'], '')
  with Progress() as progress, contextlib.ExitStack() as stack:
    this = job.Job(config, progress, None, ['main'], str(workdir), stack)
    with pytest.raises(Reached):
      study.Study(this, classifier.loader(this)).run()
  assert 'rate_2_2_seed0 starts over: ' in capsys.readouterr().out


def test_bad_input_is_one_clear_line(tmp_path):
  cases = {
    ('--groups=nothing',): "'nothing' matches no layer",
    ('--groups=stages/.*,stages/1/.*',): "group 'stages/1/.*' has no layer of its own",
    ('--updates=5', '--studies=evbmf'): '--updates=5 leaves a step without any; 6 steps',
    ('--groups=stages/2/.*', '--ratios=4', '--passes=2'): 'the nearest is 1.',
    ('--model=resnet9',): '--model=resnet9',
    ('--weaken=1.5',): '--weaken=1.5 must be in (0, 1]',
    ('--updates=2',): '--updates=2 leaves a step without any; 9 steps need as many',
    ('--ratios=0.5',): '--ratios=0.5 must be a finite number, at least 1.0',
    ('--dataset=cifar10',): '--dataset=cifar10 needs --data_dir',
    ('--mesh=data:1',): '--mesh and --distributed are not for this job',
  }
  flags = [(*case, f'--workdir={tmp_path / "run"}') for case in cases]
  env = {k: v for k, v in os.environ.items() if k != 'JAX_NUM_CPU_DEVICES'}
  imports = ('experiments.musco.study', 'experiments.common.job')
  for done, words in zip(forked.run('experiments.musco.main', flags, imports, env), cases.values()):
    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
  assert not (tmp_path / 'run').exists()


def test_published_rows_of_a_ratio_have_the_size_of_one_shot_at_it():
  """Ranks, sizes and multiply-adds in docs/results are those that the code finds today."""
  report = json.loads((ROOT / 'docs' / 'results' / 'musco' / 'report.json').read_text())
  model = nnx.eval_shape(lambda: network.build(report['model'], report['dataset'], 0))
  paths = [p for p in tn.compression.walk(model) if p.startswith('stages/')]
  found = {}
  for row in report['rows']:
    assert row['updates'] == 300 or row['study'] == 'evbmf'
    if row['study'] == 'rate':
      ratio = row['value']
      if ratio not in found:
        _, rules = study.rules_for(model, paths, (32, 32, 3), 1 / ratio)
        found[ratio] = tn.compression.plan(model, rules, input_shape=(32, 32, 3))
      table = found[ratio]
      assert {layer.path: list(layer.ranks) for layer in table.compressed} == row['ranks']
      assert (table.params, table.macs_ratio) == (row['params'], row['macs_ratio'])
  assert set(found) == {2.0, 4.0}


def test_presets_name_their_rows():
  reduced = parse(Config, ['main', '--preset=reduced'], '')
  assert reduced.groups == ('stages/2/.*', 'stages/1/.*', 'stages/0/.*')
  found = reduced.settings()
  assert [(r['study'], r['value'], r['passes']) for r in found] == [
    *[('rate', ratio, count) for ratio in (2.0, 4.0) for count in (0, 1, 2, 3)],
    ('evbmf', 0.5, 2),
    ('evbmf', 0.5, 0),
  ]
