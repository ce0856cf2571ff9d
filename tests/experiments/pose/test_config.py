"""Settings: which data, which rows, and what is refused."""

import pytest

from experiments.common.config import parse
from experiments.pose.config import METHODS, MODES, Config
from experiments.pose.people import LSP, MPII


def resolved(*flags):
  return parse(Config, ['main', *flags], '')


def test_without_data_there_are_stick_figures():
  assert resolved('--preset=reduced').dataset == 'figures'
  found = resolved('--preset=reduced', '--data_dir=x')
  assert (found.dataset, found.seeds, found.layout) == ('lspet', (0, 1), LSP)
  assert (found.size, found.stacks, found.depth, found.features) == (64, 2, 3, 32)
  assert (found.train_epochs, found.finetune_epochs, found.mode_epochs) == (20, 5, 2)
  assert resolved('--dataset=mpii', '--data_dir=x').layout == MPII


def test_the_paper_s_network_is_that_of_table_2():
  found = resolved('--preset=paper', '--studies=modes')
  assert list(found.shape.values()) == [4, 4, 3, 2, 128, 128, 3, 3]
  assert len(found.settings()) == 1 + 12
  names = ('study', 'method', 'value', 'seed')
  assert found.settings()[:2] == [
    dict(zip(names, row)) for row in (('modes', 'dense', 1, 0), ('modes', 'hourglass', 3, 0))
  ]


def test_rows_are_a_study_a_method_and_a_seed():
  found = resolved('--preset=reduced').settings()
  assert len(found) == 2 * (1 + 4 + 1 + 9)
  assert {row['seed'] for row in found} == {0, 1}
  assert [row['method'] for row in found[:5]] == ['dense', *METHODS[:4]]
  assert found[5]['method'] == 'dense'
  assert set(row['method'] for row in found[6:15]) == set(MODES)
  one = resolved('--preset=smoke', '--studies=methods', '--methods=scratch', '--ratios=2,3')
  assert [(row['method'], row['value']) for row in one.settings()] == [
    ('dense', 1),
    ('scratch', 2),
    ('scratch', 3),
  ]


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--dataset=mpii'], '--dataset=mpii needs --data_dir'),
    (['--dataset=figures', '--data_dir=x'], '--data_dir: rendered stick figures need none'),
    (['--size=48'], '--size=48 must be a multiple of 32, 4 times 2 to the power --depth=3'),
    (['--size=12', '--depth=1'], '--size=12 must be a multiple of 8'),
    (['--modes=rows'], '--modes=rows must be one of hourglass, depth'),
    (['--ratios=1'], '--ratios=1.0 must be a finite number, at least 1.01'),
    (['--stacks=1'], '--modes=hourglass: its size is 1, nothing to cut; leave it out'),
    (['--weights=nowhere.safetensors'], '--weights=nowhere.safetensors does not exist'),
  ],
)
def test_bad_flags_are_named(flags, words):
  with pytest.raises((ValueError, FileNotFoundError), match=words):
    resolved(*flags)
