"""A job's settings, declared once: flags, help, checks, the saved file and the test at resume."""

import dataclasses
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple, Self

from absl import flags

Resume = Literal['same', 'grow', 'free']
_DEFINE = {
  str: flags.DEFINE_string,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  bool: flags.DEFINE_bool,
}


class Check(NamedTuple):
  """A test of one value, and the words that follow 'must be' where it fails."""

  holds: Callable[[object], bool]
  words: str


def at_least(low: float, below: float = math.inf) -> Check:
  """A finite number in [low, below).

  >>> at_least(0).holds(float('nan')), at_least(1, below=3).words
  (False, 'at least 1 and below 3')
  """
  words = f'a finite number, at least {low}' if isinstance(low, float) else f'at least {low}'
  if below < math.inf:
    words += f' and below {below}'
  return Check(lambda v: low <= v < below, words)


def one_of(*choices: str) -> Check:
  """One of a few names."""
  return Check(lambda v: v in choices, f'one of {", ".join(choices)}')


FRACTION = Check(lambda v: 0 < v <= 1, 'in (0, 1]')
FINITE = Check(math.isfinite, 'finite')
POSITIVE = Check(lambda v: 0 < v < math.inf, 'above 0')


class About(NamedTuple):
  """What a field declares beside its name, type and default; see `field`."""

  help: str
  check: Check | None
  resume: Resume
  instead_of: str | None
  flag: bool


def field(
  default: object,
  help: str,
  check: Check | None = None,
  *,
  resume: Resume = 'same',
  instead_of: str | None = None,
  flag: bool = True,
) -> dataclasses.Field:
  """A field of a `Config`.

  Args:
    default: None where `resolved` finds it from other fields.
    help: for --help.
    check: of the value, or of every entry of a tuple; None always passes.
    resume: whether a run that goes on in an old folder needs the 'same' value, may let a tuple
      'grow' (or name a part of it), or is 'free' as the field decides no result.
    instead_of: a field that this one excludes on the command line.
    flag: False for what the job finds out by itself.
  """
  about = About(help, check, resume, instead_of, flag)
  return dataclasses.field(default=default, metadata={'about': about})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """The settings that every job has. A job adds its own in a subclass, itself a dataclass.

  Types are str, int, float, bool, any of these `| None`, and tuples of one type (`tuple[int, ...]`,
  comma-separated on the command line, at least one entry, none twice).
  """

  PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {}

  preset: str | None = field(None, 'Settings in a bundle; flags beside it win.', resume='free')
  workdir: str | None = field(
    None,
    'Folder for the results; default a new one under results/. In an old one the run goes on: '
    'lists may have grown, all else that decides results must be the same.',
    resume='free',
  )
  seed: int = field(0, 'One seed for all that is random.', at_least(0, 2**31), resume='free')
  seeds: tuple[int, ...] | None = field(
    None,
    'Several seeds: the whole study for each, as if it were the only one.',
    at_least(0, 2**31),
    resume='grow',
    instead_of='seed',
  )
  mesh: str | None = field(
    None,
    'data:N shards every training batch over N devices; results agree to rounding.',
    resume='free',
  )
  distributed: bool = field(
    False,
    'Several processes compute together, each started with the same flags; on a cluster that jax '
    'knows (Slurm, MPI, TPU) the next three are found. Only the first writes and prints.',
    resume='free',
  )
  coordinator: str | None = field(None, 'HOST:PORT of the first process.', resume='free')
  processes: int | None = field(None, 'How many there are.', at_least(1), resume='free')
  process: int | None = field(None, 'Which one this is, from 0.', at_least(0), resume='free')
  compile_cache: str | None = field(
    None,
    'Folder that keeps compiled programs; empty for none. Default tnjax/xla in the '
    "user's cache folder.",
    resume='free',
  )

  def __post_init__(self) -> None:
    """Raises ValueError, naming the flag, for a setting out of range."""
    for name, _, about in declared(type(self)):
      _check(name, getattr(self, name), about)
    if self.preset is not None and self.preset not in self.PRESETS:
      raise ValueError(f'--preset={self.preset} must be one of {", ".join(self.PRESETS)}')

  @classmethod
  def implied(cls, given: Mapping[str, object]) -> Mapping[str, object]:
    """Settings that follow from the flags that were given, for a job to say.

    Raises:
      ValueError: flags that have no meaning beside each other.
    """
    del given
    return {}

  def resolved(self) -> Self:
    """With the defaults filled in that depend on other fields."""
    seeds = self.seeds or (self.seed,)
    return dataclasses.replace(self, seeds=seeds, seed=seeds[0])

  def json(self) -> dict:
    """The fields as JSON knows them."""
    return json.loads(json.dumps(dataclasses.asdict(self)))


def declared(kind: type[Config]) -> Iterator[tuple[str, object, About]]:
  """Name, default and declaration of every field."""
  for f in dataclasses.fields(kind):
    yield f.name, f.default, f.metadata['about']


def parse(kind: type[Config], argv: Sequence[str], doc: str) -> Config:
  """The settings that a command line asks for; --help prints `doc` and the flags, and exits.

  Raises:
    ValueError: unknown flag, value that does not parse or is out of range.
  """
  own = define(kind)
  try:
    rest = own(argv)
  except flags.Error as error:
    raise ValueError(str(error)) from None
  if own['help'].value:
    print(f'{doc}\nflags:\n{own.get_help(include_special_flags=False)}')
    sys.exit(0)
  if rest[1:]:
    raise ValueError(f'unexpected argument {rest[1]!r}; flags start with --')
  hints = typing.get_type_hints(kind)
  given = {n: _value(n, hints[n], own[n].value) for n in hints if n in own and own[n].present}
  values = dict(kind.PRESETS.get(given.get('preset'), {}))
  for name, _, about in declared(kind):
    pair = {name, about.instead_of}
    if pair <= given.keys():
      raise ValueError(f'--{about.instead_of} and --{name} exclude each other')
    if pair & given.keys():  # a flag also wins over the preset's other way to say it
      values = {k: v for k, v in values.items() if k not in pair}
  return kind(**values | given | kind.implied(given)).resolved()


def define(kind: type[Config]) -> flags.FlagValues:
  """The flags of a job, registered nowhere else, so that jobs may share names and a process."""
  own = flags.FlagValues()
  hints = typing.get_type_hints(kind)
  module = {'flag_values': own, 'module_name': kind.__module__}
  for name, default, about in declared(kind):
    if about.flag:
      entry, many = _entry(hints[name])
      words = f'{about.help} Must be {about.check.words}.' if about.check else about.help
      if name == 'preset':
        words = '\n'.join((words, *(f'{k}: {_flags(v)}' for k, v in kind.PRESETS.items())))
      define = flags.DEFINE_list if many else _DEFINE[entry]
      shown = ','.join(map(str, default)) if many and default is not None else default
      define(name, shown, words, **module)
  flags.DEFINE_bool('help', False, 'Show this and exit.', short_name='?', **module)
  return own


def merged(old: Mapping, config: Config) -> dict:
  """What the file of a folder holds once `config` goes on with the results of `old`.

  Raises:
    ValueError: a field that decides results differs; names it and both values.
  """
  new = config.json()
  rules = {name: about.resume for name, _, about in declared(type(config))}
  for name in sorted(old.keys() | new.keys()):
    rule = rules.get(name, 'same')
    if rule == 'same' and old.get(name) != new.get(name):
      raise ValueError(
        f'holds results for {name}={old.get(name)!r}; this run has {new.get(name)!r}'
      )
    if rule == 'grow':
      known = old.get(name) or []
      new[name] = [*known, *(v for v in new[name] if v not in known)]
  return new


def _entry(hint: object) -> tuple[type, bool]:
  """Type of one value, and whether the field holds a tuple of them."""
  if isinstance(hint, types.UnionType):
    (hint,) = (a for a in typing.get_args(hint) if a is not types.NoneType)
  if typing.get_origin(hint) is tuple:
    return typing.get_args(hint)[0], True
  return hint, False


def _value(name: str, hint: object, parsed: object) -> object:
  entry, many = _entry(hint)
  if not many:
    return parsed
  try:
    return tuple(entry(text) for text in parsed)
  except ValueError:
    kind = 'whole numbers' if entry is int else 'numbers'
    raise ValueError(f'--{name}={",".join(parsed)} must be {kind}, comma-separated') from None


def _check(name: str, value: object, about: About) -> None:
  if isinstance(value, tuple):
    shown = [f'{v:g}' if isinstance(v, float) else v for v in value]  # as in file names
    if not value or (about.resume == 'grow' and len(set(shown)) != len(value)):
      raise ValueError(f'--{name} must name at least one, and none twice')
  check = about.check
  for entry in value if isinstance(value, tuple) else (value,):
    if entry is not None and check is not None and not check.holds(entry):
      raise ValueError(f'--{name}={entry} must be {check.words}')


def _flags(values: Mapping[str, object]) -> str:
  def text(value: object) -> str:
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)

  return ' '.join(f'--{name}={text(value)}' for name, value in values.items())
