import math

import pytest

from experiments.vgg import table2


@pytest.fixture(scope='module')
def rows():
  return {row['name']: row for row in table2.table()}


@pytest.mark.parametrize('name', [row.name for row in table2.ROWS])
def test_ratios_are_the_printed_ones_to_their_digits(rows, name):
  row = rows[name]
  assert math.floor(row['layers_ratio']) == row['layers_ratio_paper']  # 37,732.8 is cut there
  for net in ('vgg16', 'vgg19'):
    assert abs(row[f'{net}_ratio'] - row[f'{net}_ratio_paper']) <= 0.051


def test_weights_of_the_layers(rows):
  dense = 138_357_544
  first = 25_088 * 4_096
  assert rows['FC FC FC']['vgg16_params'] == dense
  assert rows['TT4 FC FC']['vgg16_params'] == dense - first + 2_016
  assert rows['TT2 FC FC']['vgg16_params'] == dense - first + 528
  assert rows['TT4 TT4 FC']['vgg16_params'] == dense - first - 4_096**2 + 2_016 + 1_152
  assert rows['MR50 FC FC']['vgg19_params'] == 143_667_240 - first + 50 * (25_088 + 4_096)


def test_the_table_prints_both(rows):
  text = table2.text(list(rows.values()))
  assert '50,972.4 (50,972)' in text
  assert len(text.splitlines()) == 7
