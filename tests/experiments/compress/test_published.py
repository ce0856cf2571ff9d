"""The committed reports are what this code gives; accuracies, which take an hour, are not compared.

Where one fails, the code has changed what it computes: `make results` publishes it anew.
"""

import json
import pathlib

import jax
import pytest

import tnjax as tn
from experiments.classifier import network
from experiments.compress.config import Config

RESULTS = pathlib.Path(__file__).parents[3] / 'docs' / 'results'
EXACT = ('params', 'params_ratio', 'kernel_params', 'kernel_params_ratio', 'macs', 'macs_ratio',
         'kernel_macs_ratio')  # fmt: skip


def published(name):
  return json.loads((RESULTS / name / 'report.json').read_text())


def check_sizes(table, row):
  assert {layer.path: list(layer.ranks) for layer in table.compressed} == row['ranks']
  assert {key: getattr(table, key) for key in EXACT} == {key: row[key] for key in EXACT}


def rules(row):
  return Config().resolved().rules(row['scheme'], row['rate'])


@pytest.mark.parametrize(('name', 'shape'), [('digits', (8, 8, 1)), ('cifar10', (32, 32, 3))])
def test_ranks_and_sizes(name, shape):
  report = published(name)
  model = network.build(report['model'], report['dataset'], 0)
  assert report['rows']
  for row in report['rows']:
    table = tn.compression.plan(model, rules(row), input_shape=shape)
    check_sizes(table, row)
    base = report['baseline']
    assert (table.dense_params, table.dense_macs) == (base['params'], base['macs'])


@pytest.mark.parametrize('name', ['digits', 'cifar10'])
def test_a_report_names_its_commit(name):
  report = published(name)
  assert len(report['git']['commit']) == 40
  assert report['git']['clean'] is True
  assert report['earlier'] == []


def test_relative_errors_of_the_trained_network(shared_data):
  report = published('cifar10')
  model = network.build(report['model'], report['dataset'], report['seed'])
  model = network.load(shared_data / 'weights' / 'resnet32.npz', model)
  for row in report['rows']:
    key = jax.random.key(report['seed'])
    _, table = tn.compress(model, rules(row), key, input_shape=(32, 32, 3))
    check_sizes(table, row)
    assert table.relative_error == pytest.approx(row['relative_error'], rel=1e-4)
    for layer in table.compressed if 'layers' in row else ():
      error = row['layers'][layer.path]['relative_error']
      assert layer.relative_error == pytest.approx(error, rel=1e-4), layer.path
