"""Every count of the paper's sheet, to the digit."""

import math

import jax
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from experiments.tensornet import counts, paper, shapes


@pytest.fixture(scope='module')
def rows():
  return {row['cell']: row for row in counts.rows()}


def test_figure_1_to_the_digit(rows):
  for name, expected in paper.FIGURE1_WEIGHTS.items():
    row = rows[name]
    found = dict(zip(row['ranks'], row['weights_left_capped']))
    assert tuple(found[rank] for rank in paper.RANKS) == expected, name
    assert row['ranks'] == list(range(1, 21))


def test_our_cap_differs_where_a_rank_exceeds_what_is_on_its_right(rows):
  at = dict(
    zip(rows['2^10']['ranks'], zip(*(rows['2^10'][n] for n in ('weights_left_capped', 'weights'))))
  )
  assert at[4] == (544, 544)
  assert at[5] == (816, 792)
  for name in shapes.FIGURE1:
    row = rows[name]
    for rank, capped, ours in zip(row['ranks'], row['weights_left_capped'], row['weights']):
      same = rank <= shapes.figure1(name, rank).sizes[-1]
      assert (capped == ours) == same, (name, rank)
      assert ours <= capped


def test_ours_are_those_of_a_layer():
  layer = shapes.figure1('2^10', 5)
  net = tn.nn.Linear(1024, 1024, scheme=layer.scheme, use_bias=False, rngs=nnx.Rngs(0))
  assert sum(v.size for v in jax.tree.leaves(nnx.state(net))) == layer.weights == 792
  baseline = shapes.figure1_scheme('MR', 7).bind((1024, 1024))
  assert baseline.num_params == 7 * 2048


def test_networks_to_the_digit(rows):
  both = rows['MNIST, both layers']
  assert both['weights_left_capped'] == [12_602, 7_698]
  assert both['weights_paper'] == [12_602, 7_698]
  first, second = (rows[f'quick, {name}'] for name in ('first', 'both'))
  assert first['weights'] == first['weights_left_capped'] == [4_160]
  assert second['weights_left_capped'] == [4_160 + 1_400]
  assert round(first['network_ratio'], 2) == first['network_ratio_paper'] == 1.24
  assert round(second['network_ratio_left_capped'], 1) == second['network_ratio_paper'] == 1.7
  assert round(second['dense_ratio_left_capped'], 1) == second['dense_ratio_paper'] == 11.9
  for rank, expected in paper.WIDE_WEIGHTS.items():
    trains = shapes.wide_pair(rank)
    assert tuple(t.weights_left_capped for t in trains) == expected
    assert tuple(t.weights for t in trains) == expected


def test_table_3_memory(rows):
  row = rows['VGG, first dense layer']
  assert row['dense_mib'] == 392.0
  assert math.floor(row['tt_mib'] * 1000 + 0.5) / 1000 == 0.766
  assert row['weights'] == [2_016]


def test_stored_is_what_the_cores_hold():
  shape, ranks = (4, 6, 5), (2, 3)
  cores = tn.TT(tuple(np.ones((a, s, b)) for a, s, b in zip((1, *ranks), shape, (*ranks, 1))))
  assert shapes.stored(shape, ranks) == cores.num_params


def test_the_table_shows_both_counts(rows):
  table = counts.table(list(rows.values()))
  assert '816/792' in table
  assert '46656/41472' in table
  assert len(table.splitlines()) == 7
