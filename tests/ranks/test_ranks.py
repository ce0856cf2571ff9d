"""Rank rules against the tables of papers/spectrum_preserving.md and papers/shuffled.md."""

import math

import numpy as np
import pytest

import tnjax as tn
from tnjax import ranks

# ResNet-32 version 2 with projections: 33 kernels, 463,616 weights.
KERNELS = (
  [(3, 3, 16, 16)] * 10
  + [(3, 3, 16, 32)]
  + [(3, 3, 32, 32)] * 9
  + [(3, 3, 32, 64)]
  + [(3, 3, 64, 64)] * 9
  + [(1, 1, 16, 16), (1, 1, 16, 32), (1, 1, 32, 64)]
)
TOTALS = {
  'svd': {0.02: 10496, 0.05: 26096, 0.1: 49088, 0.2: 96640, 0.4: 189536},
  'cp': {0.02: 10899, 0.05: 24593, 0.1: 47111, 0.2: 94021, 0.4: 186669},
  'tk': {0.02: 11919, 0.05: 25325, 0.1: 50758, 0.2: 98569, 0.4: 186767},
  'tt': {0.02: 10980, 0.05: 24176, 0.4: 195168},
  # true divisor, ranks at least 1; the two large rates agree with the paper's own figures
  'r_cp': {0.02: 8725, 0.05: 22098, 0.1: 44631, 0.2: 90978, 0.4: 184022},
  'r_tk': {0.02: 10363, 0.05: 24940, 0.1: 48986, 0.2: 106789, 0.4: 199937},  # start clipped
  'r_tt': {0.02: 12214, 0.05: 29521, 0.4: 163478},
}
REFERENCE = [
  ('svd', 0.1, [(3,), (4,), (5,), (10,)]),
  ('cp', 0.1, [(6,), (9,), (13,), (27,)]),
  ('tk', 0.1, [(4, 4), (5, 5), (8, 8), (15, 15)]),
  ('r_cp', 0.1, [(5,), (8,), (10,), (26,)]),
  ('r_tk', 0.1, [(3, 2, 2, 2), (3, 3, 3, 2), (4, 3, 3, 3), (5, 5, 4, 4)]),
  ('tt', 0.05, [(n,) * 3 for n in (3, 4, 5, 10)]),
  ('tt', 0.4, [(n,) * 3 for n in (11, 14, 21, 41)]),
  ('r_tt', 0.05, [(n,) * 3 for n in (3, 4, 5, 8)]),
  ('r_tt', 0.4, [(8, 8, 9), (8, 15, 9), (8, 15, 9), (16, 31, 9)]),
]


def test_the_kernels_are_those_of_the_paper():
  assert len(KERNELS) == 33
  assert sum(map(math.prod, KERNELS)) == 463616


@pytest.mark.parametrize(('name', 'rate'), [(n, r) for n in TOTALS for r in TOTALS[n]])
def test_realised_parameters(name, rate):
  scheme = tn.schemes.by_name(name, rate)
  assert sum(scheme.bind(k).num_params for k in KERNELS) == TOTALS[name][rate]


@pytest.mark.parametrize(('name', 'rate', 'expected'), REFERENCE)
def test_reference_ranks(name, rate, expected):
  shapes = [(3, 3, 16, 16), (3, 3, 16, 32), (3, 3, 32, 32), (3, 3, 64, 64)]
  assert [tn.schemes.by_name(name, rate).bind(s).ranks for s in shapes] == expected


SHUFFLED = {  # channels, ratio: parameters of CP, TT, TR and Tucker-2 (papers/shuffled.md, 4)
  (16, 5): (456, 365, 342, 385),
  (16, 10): (228, 228, 152, 177),
  (16, 20): (114, 114, 38, 100),
  (32, 5): (1820, 1407, 1750, 1793),
  (32, 10): (910, 685, 630, 889),
  (32, 20): (420, 420, 280, 400),
  (64, 5): (7370, 7130, 6566, 7172),
  (64, 10): (3618, 3656, 3350, 3556),
  (64, 20): (1742, 1325, 1206, 1600),
}


@pytest.mark.parametrize(('n', 'ratio'), SHUFFLED)
def test_shuffled_counts(n, ratio):
  """With and without the permutation, on (3, 3, S, T); Tucker on (9, S, T) with its 9 kept too."""
  for format, params in zip(('cp', 'tt', 'tr', 'tk'), SHUFFLED[n, ratio]):
    keep = (0, 1) if format == 'tk' else ()
    for permutation in ('key', 'identity', 3):
      scheme = tn.schemes.shuffled(1 / ratio, format=format, keep=keep, permutation=permutation)
      assert scheme.bind((3, 3, n, n)).num_params == params
  folded = tn.schemes.shuffled(1 / ratio, format='tk', shape=(9, n, n), keep=(0,))
  assert folded.bind((3, 3, n, n)).num_params == params


def test_a_budget_that_is_met_exactly_is_used():
  assert 0.7 * (20 * 36) < 9 * (20 + 36)  # by rounding alone
  assert ranks.shuffled_ranks(0.7, (20, 36), 'tt') == (9,)


@pytest.mark.parametrize('name', tn.schemes.NAMES)
@pytest.mark.parametrize('shape', [(1, 1), (3, 1, 1, 1), (1, 1, 7, 5), (3, 3, 1, 13), (5, 2, 3)])
@pytest.mark.parametrize('rate', [1e-6, 1.0])
def test_ranks_are_positive_and_fit(name, shape, rate):
  p = tn.schemes.by_name(name, rate).bind(shape)
  assert all(r >= 1 for r in p.ranks)
  assert p.num_params == sum(math.prod(s) for s in p.network.shapes().values())


def test_a_ring_needs_no_more_than_its_widest_opening():
  assert ranks.tr_ranks((7,), 100) == (1,)
  assert ranks.tr_ranks((4, 5, 6), 100) == (6, 5, 6)
  assert tn.schemes.tr(ranks=100).bind((3, 3, 16, 16)).ranks == (48, 16, 48, 16)


def test_clipped_ranks_count_against_the_budget():
  counts = [tn.schemes.r_tk(rate=r).bind((64, 10)).num_params for r in (0.2, 0.4, 0.8)]
  assert counts[0] < counts[1] < counts[2]
  assert all(n >= r * 640 for n, r in zip(counts, (0.2, 0.4, 0.8)))


def test_dense_rules():
  # r-CP and r-TT on a matrix: ceil(c / sum S_l T_l), and the root of a R^2 + b R = c
  assert tn.schemes.r_cp(rate=0.1).bind((1024, 1024)).ranks == (math.ceil(0.1 * 2**20 / 2048),)
  p = tn.schemes.r_tt(rate=0.01).bind((1024, 1024))
  pairs = p.fold.mode_shape
  r = p.ranks[0]
  assert pairs[1] * r**2 + (pairs[0] + pairs[2]) * r >= 0.01 * 2**20
  assert pairs[1] * (r - 1) ** 2 + (pairs[0] + pairs[2]) * (r - 1) < 0.01 * 2**20


def test_tensornet_layer_of_vgg():
  scheme = tn.schemes.r_tt(ranks=4, in_modes=(2, 7, 8, 8, 7, 4), out_modes=(4,) * 6)
  assert scheme.bind((25088, 4096)).num_params == 2016


@pytest.mark.parametrize(
  'cap', [ranks.tt_ranks, ranks.tr_ranks, ranks.tucker_ranks, ranks.cp_ranks]
)
def test_caps_are_idempotent_and_validate(cap):
  shape = (3, 4, 5)
  capped = cap(shape, 1000)
  assert cap(shape, capped) == capped
  assert cap(shape, np.int64(2)) == cap(shape, 2)
  for bad in (0, -1, 2.5, 'x', (1,) * 9):
    with pytest.raises(ValueError, match='ranks='):
      cap(shape, bad)


@pytest.mark.parametrize('reduction', [1.5, 2.0, 4.0])
@pytest.mark.parametrize(('s', 't'), [(64, 64), (64, 128), (256, 96), (3, 64)])
def test_the_constant_reduction_is_the_largest_that_fits(reduction, s, t):
  """The table of papers/musco.md is the docstring's."""

  def stored(r, beta):
    return 9 * beta * r * r + r * (s + beta * t)

  beta, allowed = max(0.8 * t / s, 1), 9 * s * t / reduction
  left, right = ranks.tucker2_ranks(reduction, (3, 3), s, t)
  assert right == min(t, int(beta * left))
  assert left in (1, s) or stored(left, beta) <= allowed < stored(left + 1, beta)
  half = ranks.tucker2_ranks(reduction, (3, 3), s, t, params=9 * s * t // 2)
  assert half <= (left, right)
  for words, wrong in (('reduction', {'reduction': 0}), ('beta', {'reduction': 2, 'beta': 0})):
    with pytest.raises(ValueError, match=f'{words}=0 must be'):
      ranks.tucker2_ranks(**wrong, spatial=(3, 3), s=s, t=t)
