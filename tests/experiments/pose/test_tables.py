"""The sizes of T-Net's tables, against the paper's ratios and the counts of the project's notes."""

import json
import math

import jax
import pytest
from flax import nnx

import tnjax as tn
from experiments.pose import counts, tables


@pytest.fixture(scope='module')
def rows():
  return tables.table()


def test_every_ratio_is_within_a_point_and_a_half_of_the_printed_digits(rows):
  counted = [row for row in rows if row['ratio'] is not None]
  assert [row['table'] for row in counted].count(2) == 13
  assert [row['table'] for row in counted].count(3) == 16
  assert [row['table'] for row in counted].count(4) == 2
  for row in counted:
    assert row['beyond_rounding'] <= 0.015, row
  assert {row['method'] for row in rows if row['ratio'] is None} == {'MobileNet'}


def test_most_agree_with_the_printed_number_itself(rows):
  """The others are printed with one decimal, or none."""
  far = {row['setting']: row for row in rows if row['ratio'] and abs(row['difference']) > 0.015}
  assert set(far) == {
    'f=92',
    'hg_depth=1',
    '(128,128,2,2)',
    '(96,96,3,3)',
    '(64,64,3,3)',
    '(4,3,3,2,110,110,3,3)',
    '(4,4,2,2,110,110,3,3)',
  }
  assert all(len(row['ratio_paper'].partition('.')[2]) < 2 for row in far.values())
  assert max(abs(row['difference']) for row in far.values()) < 0.035


@pytest.mark.parametrize(
  'extra',
  [
    -(2 * 128 * 128 * 9 + 4 * 128),  # no block in the stem
    2 * 128 * 128 * 9 + 4 * 128,  # two
    -3 * (128 * 128 + 128 + 16 * 128 + 128),  # no re-injection
    -4 * (128 * 128 + 2 * 128),  # no convolution before the heatmaps
  ],
)
def test_other_layouts_would_not_explain_the_ratios(rows, extra):
  whole, far = counts.Size(counts.dense().network + extra, counts.dense().tensor), []
  for row in rows:
    if row['method'] in ('Tucker T-Net', 'MPS T-Net', 'layer-wise Tucker'):
      size = counts.Size(row['params'] + extra, row['tensor_params'])
      far.append(tables.compared(size, whole, row['ratio_paper'])['beyond_rounding'])
  assert max(far) > 0.015


@pytest.mark.parametrize(
  ('ranks', 'entries'),
  [
    ((3, 4, 3, 2, 128, 128, 3, 3), 10_649_659),
    ((2, 4, 3, 2, 128, 128, 3, 3), 7_110_711),
    ((1, 4, 3, 2, 128, 128, 3, 3), 3_571_763),
    ((4, 4, 2, 2, 128, 128, 3, 3), 9_470_012),
    ((4, 4, 1, 2, 128, 128, 3, 3), 4_751_417),
    ((4, 4, 3, 1, 128, 128, 3, 3), 7_110_717),
    ((4, 4, 3, 2, 96, 96, 3, 3), 7_987_263),
    ((4, 4, 3, 2, 32, 32, 3, 3), 892_991),
    ((4, 4, 3, 2, 128, 128, 2, 2), 6_324_281),
    ((4, 3, 3, 2, 110, 110, 3, 3), 7_869_019),
    ((4, 4, 2, 2, 110, 110, 3, 3), 6_997_820),
    ((3, 3, 3, 2, 110, 110, 2, 2), 2_641_809),
    ((2, 2, 2, 2, 96, 96, 3, 3), 1_351_724),
    ((2, 2, 2, 2, 64, 64, 3, 3), 606_252),
    ((1, 4, 4, 12, 24, 110, 9, 3, 1), 465_530),
  ],
)
def test_entries_of_the_tensor_are_those_of_the_notes(rows, ranks, entries):
  assert entries in [row['tensor_params'] for row in rows]
  count = counts.tucker if len(ranks) == 8 else counts.mps
  assert count(ranks).tensor == entries
  assert count(ranks).network == entries + 1_651_648


def test_a_single_tensor_shares_what_layers_would_each_hold():
  """The notes' saving of T-Net over Eq. 3, where only channels are cut: (N - 1) (R4 I4 + R5 I5)."""
  alone, shared = counts.layerwise((96, 96, 3, 3)), counts.tucker((4, 4, 3, 2, 96, 96, 3, 3))
  small = sum(n * n for n in (4, 4, 3, 2, 3, 3))  # whole factors, which Eq. 2 counts
  assert alone.tensor - (shared.tensor - small) == 95 * 2 * 96 * 128
  assert alone.network - shared.network == alone.tensor - shared.tensor


def test_the_formula_where_rows_and_columns_are_cut_is_that_of_the_plan_where_they_are_not():
  plan = counts.layerwise((64, 32, 3, 3)).tensor
  assert plan == 96 * (64 * 32 * 9 + (64 + 32) * 128)
  cut = counts.layerwise((64, 32, 2, 2)).tensor
  assert plan - cut == 96 * 64 * 32 * (9 - 4)


def test_trimmed_networks_are_those_that_the_model_builds():
  net = tn.models.hourglass(features=64, depth=1, rngs=nnx.Rngs(0))
  built = sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))
  found = counts.dense(features=64, depth=1)
  assert found == counts.Size(built, math.prod(counts.SHAPE) // 16)


def test_ranks_that_do_not_fit_are_refused():
  with pytest.raises(ValueError, match='this shape needs 8'):
    counts.tucker((4, 4, 3, 2))
  with pytest.raises(ValueError, match='this shape needs 7'):
    counts.mps((2, 2))


def test_tables_are_printed_and_written(tmp_path, capsys):
  tables.main(str(tmp_path / 'tables.json'))
  shown = capsys.readouterr().out
  assert '15,807,424 parameters: 14,155,776 in the tensor, 1,651,648 around it' in shown
  assert len(shown.splitlines()) == 3 + 3 * 3 + len(tables.ROWS)
  written = json.loads((tmp_path / 'tables.json').read_text())
  assert written['rows'] == tables.table()
  assert written['versions']['tnjax'] == tn.__version__
