"""A grid of settings, one report row each: written as it finishes, resumed, extended."""

import itertools
import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from experiments.common import mesh, results
from experiments.common.progress import Progress

_PROVENANCE = ('command', 'versions', 'device', 'git')


def product(**axes: Iterable) -> list[dict]:
  """All combinations, the last axis fastest.

  >>> product(seed=[0], rate=[0.1, 0.2])
  [{'seed': 0, 'rate': 0.1}, {'seed': 0, 'rate': 0.2}]
  """
  return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


class Grid:
  """Runs the settings that `report.json` has no row for.

  Rows of other settings, which an earlier run with more of them left there, stay.

  Args:
    settings: mappings with the same keys; a row starts with its setting.
    folder: of the report.
    about: what the report says beside its rows. Where an earlier run made some of them in another
      way, `earlier` keeps what was said then.
    state: entries that the job changes as it goes, taken over from an earlier run.

  Raises:
    ValueError: the report there is damaged, or was made with other versions of the packages.
  """

  def __init__(
    self, settings: Sequence[Mapping], folder: pathlib.Path, about: Mapping, state: Mapping
  ):
    self.settings = settings
    self._path = folder / 'report.json'
    old = mesh.agree(results.read_json(self._path) if self._path.is_file() else {})
    keys = settings[0].keys()
    try:
      if old and not all(
        isinstance(one, dict) for name in ('rows', 'earlier') for one in old[name]
      ):
        raise TypeError
      rows = [row for row in old['rows'] if row.keys() >= keys] if old else []
      state = {name: old[name] for name in state} if old else state
      earlier = _earlier(old, about) if old else []
    except (KeyError, TypeError, AttributeError):
      raise ValueError(f'{self._path} is damaged; remove it to run its rows again') from None
    if old:
      _check_versions(self._path, old['versions'], about['versions'])
    self.report = {**about, 'earlier': earlier, **state, 'rows': rows}

  @property
  def rows(self) -> list[dict]:
    """The finished rows."""
    return self.report['rows']

  def pending(self) -> list[Mapping]:
    """The settings without a row."""
    return [s for s in self.settings if not any(s.items() <= row.items() for row in self.rows)]

  def state(self, unit: str = 'rows') -> str:
    """How far it came, such as '3 of 9 rows'."""
    total = len(self.settings)
    return f'{total - len(self.pending())} of {total} {unit}'

  def run(self, row: Callable[..., dict], progress: Progress, done: Callable[[dict], None]) -> None:
    """Computes every pending row as row(**setting), saves it, and calls `done` with it."""
    pending = self.pending()
    total = len(self.settings)
    with progress.task(' x '.join(self.settings[0]), total, total - len(pending)) as advance:
      for setting in pending:
        self.rows.append({**setting, **row(**setting)})
        self.write()
        done(self.rows[-1])
        advance(1)

  def write(self) -> None:
    """Writes the report."""
    results.write_json(self._path, self.report | {'memory': results.peak_memory()})


def _check_versions(path: pathlib.Path, old: object, new: Mapping) -> None:
  for name, version in new.items() if isinstance(old, dict) else ():
    if old.get(name) != version:
      raise ValueError(
        f'{path} was made with {name} {old.get(name)}; this is {version}. Go on with that, or '
        'choose another folder'
      )
  if old != new:
    raise ValueError(f'{path} is damaged: it has versions {old}')


def _earlier(old: Mapping, about: Mapping) -> list[dict]:
  before = {name: old[name] for name in _PROVENANCE}
  same = all(before[name] == about[name] for name in _PROVENANCE)
  return old['earlier'] if same else [*old['earlier'], before]


def summarised(rows: Sequence[Mapping], keys: Sequence[str], over: str = 'seed') -> list[dict]:
  """Rows with equal `keys` as one. A number that differs in any such group becomes its mean, and
  its standard deviation (n - 1) under `<name>_std`; other things that differ, or that a row of an
  older version lacks, are left out.

  Rows of a single `over` are returned as they are.

  >>> rows = [{'rate': 0.1, 'seed': s, 'loss': x, 'size': 5} for s, x in ((0, 1.0), (1, 3.0))]
  >>> summarised(rows, ['rate'])
  [{'rate': 0.1, 'seeds': 2, 'loss': 2.0, 'loss_std': 1.41..., 'size': 5}]
  """
  if len({row.get(over) for row in rows}) < 2:
    return [dict(row) for row in rows]
  groups = {}
  for row in rows:
    groups.setdefault(tuple(row[key] for key in keys), []).append(row)
  names = list(dict.fromkeys(name for row in rows for name in row if name != over))
  differ = [n for n in names if any(r.get(n) != g[0].get(n) for g in groups.values() for r in g)]
  found = []
  for group in groups.values():
    out = {**{key: group[0][key] for key in keys}, f'{over}s': len(group)}
    for name in names:
      values = [row.get(name) for row in group]
      if name not in differ:
        out[name] = values[0]
      elif all(isinstance(value, (int, float)) for value in values):
        out[name] = statistics.fmean(values)
        out[f'{name}_std'] = statistics.stdev(values) if len(values) > 1 else 0.0
    found.append(out)
  return found
