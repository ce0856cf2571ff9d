import dataclasses
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.common.config import FRACTION, Config, at_least, declared, field, merged, parse
from experiments.compress.config import Config as Compress


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Config):
  """One field of every kind."""

  PRESETS: ClassVar = {'few': {'steps': 2, 'rates': (0.5,), 'seeds': (7, 8)}}

  name: str = field('a', 'A name.')
  epochs: int | None = field(None, 'Epochs.', at_least(0))
  steps: int | None = field(None, 'Steps.', at_least(0), instead_of='epochs')
  rate: float = field(0.1, 'A rate.', at_least(0.0))
  rates: tuple[float, ...] = field((0.1, 0.2), 'Rates.', FRACTION, resume='grow')
  fast: bool = field(False, 'Whether.')
  folder: str | None = field(None, 'Where.', resume='free')


def run(*argv):
  return parse(Toy, ['toy', *argv], 'Doc.')


@given(
  st.builds(
    Toy,
    name=st.from_regex(r'[a-z/.]{0,5}', fullmatch=True),
    steps=st.none() | st.integers(0, 9),
    rate=st.floats(0, 5),
    rates=st.lists(st.sampled_from([0.1, 0.25, 0.5, 1.0]), min_size=1, unique=True).map(tuple),
    fast=st.booleans(),
    seeds=st.none() | st.lists(st.integers(0, 99), min_size=1, unique=True).map(tuple),
  )
)
def test_flags_say_all_that_a_configuration_does(config):
  def text(value):
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)

  fields = [(name, getattr(config, name)) for name, *_ in declared(Toy) if name != 'seed']
  assert run(*(f'--{n}={text(v)}' for n, v in fields if v is not None)) == config.resolved()


def test_no_flags_give_the_defaults_and_one_seed():
  assert run() == Toy(seeds=(0,))
  assert run('--seed=3') == Toy(seed=3, seeds=(3,))
  assert run('--seeds=5,2') == Toy(seed=5, seeds=(5, 2))


def test_flags_win_over_the_preset():
  assert run('--preset=few') == Toy(preset='few', steps=2, rates=(0.5,), seed=7, seeds=(7, 8))
  found = run('--preset=few', '--epochs=3', '--seed=1', '--rates=.1')
  assert found == Toy(preset='few', epochs=3, rates=(0.1,), seed=1, seeds=(1,))


@pytest.mark.parametrize(
  ('argv', 'words'),
  [
    (['--steps=-1'], '--steps=-1 must be at least 0'),
    (['--steps=x'], 'flag --steps=x'),
    (['--rate=nan'], '--rate=nan must be a finite number'),
    (['--rate=inf'], '--rate=inf must be a finite number'),
    (['--rates=0.5,0'], r'--rates=0.0 must be in \(0, 1\]'),
    (['--rates='], '--rates must name at least one'),
    (['--rates=0.1,.1'], '--rates must name at least one, and none twice'),
    (['--rates=0.1,a'], '--rates=0.1,a must be numbers'),
    (['--seeds=1.5'], '--seeds=1.5 must be whole numbers'),
    (['--seeds=1,-1'], '--seeds=-1 must be at least 0 and below 2147483648'),
    (['--seed=1', '--seeds=1'], '--seed and --seeds exclude each other'),
    (['--steps=1', '--epochs=1'], '--epochs and --steps exclude each other'),
    (['--preset=many'], '--preset=many must be one of few'),
    (['--weights=a'], "Unknown command line flag 'weights'"),
    (['stray'], "unexpected argument 'stray'"),
  ],
)
def test_bad_flags_are_named(argv, words):
  with pytest.raises(ValueError, match=words):
    run(*argv)


def test_help_shows_the_docstring_and_every_flag_of_this_job_alone(capsys):
  with pytest.raises(SystemExit) as stop:
    run('--help')
  assert not stop.value.code
  out = capsys.readouterr().out
  assert out.startswith('Doc.')
  assert all(f'--{name}:' in out.replace('[no]', '') for name, *_ in declared(Toy))
  assert '--weights' not in out
  assert 'few: --steps=2 --rates=0.5 --seeds=7,8' in ' '.join(out.split())


@pytest.mark.parametrize('kind', [Toy, Compress])
def test_a_field_resumes_as_it_declares(kind):
  """Every field changed in the saved file: refused by name, taken over, or ignored."""
  config = kind().resolved()
  old = config.json()
  assert merged(old, config) == old
  for name, _, about in declared(kind):
    changed = old | {name: ['other'] if about.resume == 'grow' else 'other'}
    if about.resume == 'same':
      with pytest.raises(ValueError, match=f"for {name}='other'; this run has"):
        merged(changed, config)
    elif about.resume == 'grow':
      assert merged(changed, config)[name] == ['other', *old[name]]
    else:
      assert merged(changed, config) == old
  with pytest.raises(ValueError, match='for gone=1'):
    merged(old | {'gone': 1}, config)


def test_a_part_of_a_list_keeps_what_is_known():
  old = Toy(rates=(0.1, 0.2, 0.4)).resolved().json()
  assert merged(old, Toy(rates=(0.4, 0.8)).resolved())['rates'] == [0.1, 0.2, 0.4, 0.8]


@pytest.mark.parametrize('name', [n for n in Compress.PRESETS])
def test_presets_are_valid(name):
  kind, extra = Compress, Compress.PRESETS[name]
  flags = ['--data_dir=x'] if extra.get('dataset') == 'cifar10' else []
  found = parse(kind, ['main', f'--preset={name}', *flags], '')
  assert all(getattr(found, key) == value for key, value in extra.items())
