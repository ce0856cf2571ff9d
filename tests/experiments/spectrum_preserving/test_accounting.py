"""Sizes, ranks and multiply-adds against every figure of section 6 of the notes on the paper."""

import json
import math
import pathlib

import pytest
from flax import nnx

import tnjax as tn
from experiments.spectrum_preserving import accounting, paper, released

RATES = (0.02, 0.05, 0.1, 0.2, 0.4)
# What our own rules give where they are not the released ones: every rank at least 1, none beyond
# its mode.
OURS = {'r_cp': {0.02: 8_725, 0.05: 22_098, 0.1: 44_631, 0.2: 90_978, 0.4: 184_022},
        'r_tk': {0.4: 199_937}}  # fmt: skip


@pytest.mark.parametrize('scheme', paper.SIZES)
def test_sizes_of_resnet32(scheme):
  for rate, size in paper.SIZES[scheme].items():
    found = accounting.row('resnet32', scheme, rate)
    assert (found['kernels'], found['dense_params']) == (33, paper.WEIGHTS)
    theirs = found['params'] if found['released_params'] is None else found['released_params']
    assert theirs == found['sheet'] == size
    assert found['params'] == OURS.get(scheme, {}).get(rate, size)
    if scheme == 'r_cp':
      assert found['later_params'] == paper.R_CP_LATER[rate]


def test_the_released_divisor_stores_more_than_the_network():
  sizes = [accounting.row('resnet32', 'r_cp', rate)['released_ratio'] for rate in RATES]
  assert [round(size, 3) for size in sizes] == [0.072, 0.172, 0.341, 0.677, 1.35]


def test_sizes_of_resnet50():
  for scheme in paper.SIZES:
    five, ten = (accounting.row('resnet50', scheme, rate) for rate in (0.05, 0.1))
    assert (five['kernels'], five['dense_params']) == (52, paper.WEIGHTS_50)
    if scheme == 'r_cp':
      assert (round(five['released_ratio'], 3), round(ten['released_ratio'], 3)) == (0.653, 1.306)
    else:
      for found, low, high in ((five, 0.051, 0.053), (ten, 0.101, 0.103)):
        assert low <= round(found['released_ratio'] or found['params_ratio'], 3) <= high


SHAPES = [(3, 3, 16, 16), (3, 3, 16, 32), (3, 3, 32, 32), (3, 3, 64, 64)]


@pytest.mark.parametrize(
  ('scheme', 'rate', 'wanted'),
  [
    ('svd', 0.1, [[3], [4], [5], [10]]),
    ('cp', 0.1, [[6], [9], [13], [27]]),
    ('tk', 0.1, [[4, 4], [5, 5], [8, 8], [15, 15]]),
    ('r_cp', 0.1, [[5], [8], [10], [26]]),
    ('r_tk', 0.1, [[3, 2, 2, 2], [3, 3, 3, 2], [4, 3, 3, 3], [5, 5, 4, 4]]),
    ('tt', 0.05, [[3] * 3, [4] * 3, [5] * 3, [10] * 3]),
    ('tt', 0.4, [[11] * 3, [14] * 3, [21] * 3, [41] * 3]),
    ('r_tt', 0.05, [[3] * 3, [4] * 3, [5] * 3, [8] * 3]),
    ('r_tt', 0.4, [[8, 8, 9], [8, 15, 9], [8, 15, 9], [16, 31, 9]]),
  ],
)
def test_reference_ranks(scheme, rate, wanted):
  ranks = accounting.row('resnet32', scheme, rate)['ranks']
  found = [ranks['x'.join(map(str, shape))] for shape in SHAPES]
  assert [entry['ranks'] for entry in found] == wanted
  assert [entry['kernels'] for entry in found] == [10, 1, 9, 9]
  if scheme == 'r_cp':
    assert [entry['released_ranks'] for entry in found] == [[11], [18], [31], [98]]


@pytest.mark.parametrize(  # rank, true size and MACs / dense at 5 % and 10 %, released and true
  ('size', 'theirs', 'ours'),
  [
    (16, [(6, 0.107, 0.71), (11, 0.196, 1.30)], [(2, 0.036, 0.24), (5, 0.089, 0.59)]),
    (32, [(16, 0.155, 1.17), (31, 0.299, 2.26)], [(5, 0.048, 0.36), (10, 0.097, 0.73)]),
    (64, [(49, 0.182, 2.13), (98, 0.364, 4.25)], [(13, 0.048, 0.56), (26, 0.097, 1.13)]),
  ],
)
def test_the_table_of_r_cp(size, theirs, ours):
  kernel = accounting.Kernel((3, 3, size, size), 8)
  dense = math.prod(kernel.shape)
  for rate, wanted, true in zip((0.05, 0.1), theirs, ours):
    (rank,), params = released.r_cp(rate, kernel.shape)
    bound = tn.schemes.r_cp(ranks=rank).bind(kernel.shape)
    macs = bound.macs(kernel.geometry, (8, 8)) / kernel.dense_macs
    assert (rank, round(params / dense, 3), round(macs, 2)) == wanted
    bound = tn.schemes.r_cp(rate=rate).bind(kernel.shape)
    macs = bound.macs(kernel.geometry, (8, 8)) / kernel.dense_macs
    assert (*bound.ranks, round(bound.num_params / dense, 3), round(macs, 2)) == true


def test_the_shapes_are_those_of_the_model():
  """Kernels, their inputs' sizes and strides, by the model's own plan."""
  net = nnx.eval_shape(
    lambda: tn.models.cifar_resnet(32, 2, 'projection', rngs=nnx.Rngs(0))
  )  # fmt: skip
  rules = (('stages/.*', tn.schemes.tk(rate=0.1)),)
  plan = tn.compression.plan(net, rules, input_shape=(32, 32, 3))
  found = accounting.row('resnet32', 'tk', 0.1)
  assert len(plan.compressed) == found['kernels']
  assert sum(layer.dense_macs for layer in plan.compressed) == found['dense_macs']
  assert (plan.kernel_params, sum(layer.macs for layer in plan.compressed)) == (
    found['params'], found['macs']
  )  # fmt: skip


def test_the_committed_report_is_what_this_code_counts():
  path = (
    pathlib.Path(__file__).parents[3] / 'docs/results/spectrum_preserving/accounting/report.json'
  )
  report = json.loads(path.read_text())
  assert report['git']['clean'] is True
  assert len(report['rows']) == 2 * 7 * 5
  for row in report['rows']:
    names = ('network', 'scheme', 'rate')
    counted = accounting.row(**{name: row[name] for name in names})
    assert counted == {name: value for name, value in row.items() if name not in names}
