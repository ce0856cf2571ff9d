"""The compression of a VGG in parts: settings, rules, and a run on a few images of noise."""

import contextlib
import functools
import json
import pathlib

import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from experiments.classifier import network
from experiments.common import data, job
from experiments.common.config import parse
from experiments.common.progress import Progress
from experiments.compress.study import Study
from experiments.vgg.config import PARTS, TABLE2, Config

RESULTS = pathlib.Path(__file__).parents[3] / 'docs' / 'results' / 'vgg'


def resolved(*flags):
  return parse(Config, ['main', '--data_dir=x', *flags], '')


def test_parts_are_the_convolutions_and_the_first_dense_layer():
  config = resolved()
  assert (config.dataset, config.model, config.train_epochs) == ('cifar10', 'vgg16_quarter', 20)
  model = nnx.eval_shape(lambda: network.build(config.model, 'cifar10', 0))
  places = tn.compression.walk(model)
  assert len([p for p in places if p.startswith('classifier/')]) == 2
  kernels = [path for path, place in places.items() if len(place.shape) == 4]
  assert len(kernels) == 13
  found = {
    part: {r.path for r in tn.compression.plan(model, config.rules(part, 0.1)).compressed}
    for part in PARTS
  }
  assert found['conv'] == set(kernels[1:])
  assert found['fc'] == {'classifier/0'}
  assert found['both'] == found['conv'] | found['fc']
  for setting in config.settings():
    table = tn.compression.plan(model, config.rules(setting['scheme'], setting['rate']))
    assert table.kernel_params_ratio == pytest.approx(setting['rate'], rel=0.1)
  assert len(config.settings()) == 9


def test_published_sizes_are_those_of_this_code():
  report = json.loads((RESULTS / 'report.json').read_text())
  config = resolved()
  model = nnx.eval_shape(lambda: network.build(report['model'], report['dataset'], 0))
  assert len(report['rows']) == len(config.settings())
  for row in report['rows']:
    rules = config.rules(row['scheme'], row['rate'])
    table = tn.compression.plan(model, rules, input_shape=(32, 32, 3))
    assert {layer.path: list(layer.ranks) for layer in table.compressed} == row['ranks']
    assert (table.params, table.macs) == (row['params'], row['macs'])


def test_other_networks_are_refused(tmp_path):
  for name in ('alexnet', 'resnet50'):
    with pytest.raises(ValueError, match=f'--model={name} must be a VGG'):
      resolved('--dataset=imagenet', f'--model={name}')
  np.savez(tmp_path / 'a.npz', a=np.ones(1, 'f4'))
  flags = ['main', f'--eval={tmp_path}/a.npz']
  with pytest.raises(ValueError, match='a.npz has no block of a residual network.*; add --model'):
    parse(Config, flags, '')
  with pytest.raises(ValueError, match='--dataset=cifar10 needs --data_dir'):
    parse(Config, [*flags, '--model=vgg16'], '')


def test_a_quarter_of_the_width():
  full, quarter = (
    nnx.eval_shape(lambda name=name: network.build(name, 'cifar10', 0))
    for name in ('vgg16', 'vgg16_quarter')
  )
  shapes = [[p.shape for p in tn.compression.walk(m).values()] for m in (full, quarter)]
  for wide, narrow in zip(*shapes):
    assert wide[-1] in (4 * narrow[-1], 10)


def test_rows_of_table_2_have_their_own_ranks():
  config = resolved('--dataset=imagenet', f'--schemes={",".join(TABLE2)}')
  rows = {s['scheme']: s['rate'] for s in config.settings()}
  assert len(rows) == len(config.settings()) == 5
  assert rows['tt4'] == 2016 / (25088 * 4096)
  model = nnx.eval_shape(lambda: network.build(config.model, 'imagenet', 0, 1000))
  for name, rate in rows.items():
    table = tn.compression.plan(model, config.rules(name, rate))
    assert table.kernel_params_ratio == pytest.approx(rate)
  with pytest.raises(ValueError, match='--schemes=tt4 is of the shapes of ImageNet'):
    resolved('--schemes=tt4')
  with pytest.raises(ValueError, match='--dataset=cifar10 needs --data_dir'):
    parse(Config, ['main'], '')


def test_a_run(monkeypatch, tmp_path):
  rng = np.random.default_rng(0)

  def split(count):
    images = rng.integers(0, 256, (count, 32, 32, 3), 'uint8')
    return data.Split(images, np.arange(count, dtype='int32') % 10)

  dataset = data.Dataset(split(20), split(10), split(10), scale=255.0, crop=4, flip=True)
  small = functools.partial(tn.models.vgg, 11, norm=True, widths=(8,) * 5, pool=1, hidden=(16,))
  monkeypatch.setattr(network, '_cifar_vgg', lambda *_: small(num_classes=10, rngs=nnx.Rngs(0)))
  flags = ['--preset=smoke', '--rates=0.3', '--batch_size=10', f'--workdir={tmp_path / "run"}']
  config = resolved(*flags)
  with Progress() as progress, contextlib.ExitStack() as stack:
    this = job.Job(config, progress, None, ['main'], config.workdir, stack)
    study = Study(this, lambda seed: dataset)
    study.run()
    study.finish()
    text = study.summary()
  (row,) = json.loads((tmp_path / 'run' / 'report.json').read_text())['rows']
  assert set(row['ranks']) == {
    'classifier/0',
    *(f'features/{i}' for i in (4, 8, 11, 15, 18, 22, 25)),
  }
  assert row['finetune_steps'] == 3
  assert 'both' in text
  assert (tmp_path / 'run' / 'accuracy_vs_compression.png').stat().st_size
