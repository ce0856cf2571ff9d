"""Whether a run can go on with the results in its folder: whole, and of the same data."""

import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from experiments.classifier.seeded import named
from experiments.common import mesh, results
from experiments.common.data_folder import Data

_REMEDY = 'put it back, or choose another --workdir'


def check(
  report: Mapping,
  folder: pathlib.Path,
  load: Callable[[int], Data],
  files: Sequence[str],
  numbers: Sequence[str],
  unfinished: Sequence[str] = (),
) -> None:
  """Checks what an earlier run left.

  Args:
    report: what report.json says.
    folder: of the results.
    load: gives the data set of a seed.
    files: that the job writes there.
    numbers: entries that every row has.
    unfinished: those of them that may be null.

  Raises:
    ValueError: an entry of the report is missing or of another kind, a file that it names is
      missing or has changed, or the data are others.
  """
  path = folder / 'report.json'
  for name in files:
    if (folder / name).is_dir():
      raise ValueError(f'{folder / name} is a folder; the file of that name has no place')
  for row in report['rows']:
    _check_row(path, row, numbers, unfinished)
  if not isinstance(report['baselines'], list):
    raise ValueError(f'{path} is damaged: its baselines are no list')
  for found in report['baselines']:
    _check_baseline(path, found)
  trained = [found['seed'] for found in report['baselines'] if 'accuracy' in found]
  for row in report['rows']:
    if row['seed'] not in trained:
      raise ValueError(f'{path} is damaged: in baselines is no seed {row["seed"]}, which rows have')
  if mesh.primary():
    for name, digest in _files(report):
      check_file(folder / name, digest)
  if report['baselines']:
    first = report['baselines'][0]
    check_data(first, load(first['seed']))


def check_data(baseline: Mapping, dataset: Data) -> None:
  """Raises ValueError if a seed's data are not those of its rows."""
  if baseline['data_sha256'] != dataset.fingerprint():
    raise ValueError(
      f'the data are not those of the results in --workdir: of seed {baseline["seed"]} they had '
      f'sha256 {baseline["data_sha256"]}; choose another --workdir'
    )


def _check_row(
  path: pathlib.Path, row: Mapping, numbers: Sequence[str], unfinished: Sequence[str]
) -> None:
  name = f'row {" ".join(map(str, list(row.values())[:3]))}'  # a row starts with its setting
  for key in numbers:
    empty = key in unfinished and key in row and row[key] is None
    if not (empty or _number(row.get(key))):
      raise ValueError(f'{path} is damaged: {name} has {key} {row.get(key)!r}, no number')
  if not all(isinstance(row.get(k, {}), dict) for k in ('weights', 'weights_sha256')):
    raise ValueError(f'{path} is damaged: {name} has weights {row.get("weights")!r}')


def _check_baseline(path: pathlib.Path, found: Mapping) -> None:
  trained = isinstance(found, dict) and found.keys() - {'seed', 'data_sha256', 'skipped'}
  numbers = ('seed', 'accuracy', 'params', 'macs') if trained else ('seed',)
  texts = ('data_sha256', 'weights_sha256') if trained else ('data_sha256',)
  if not (
    isinstance(found, dict)
    and all(_number(found.get(key)) for key in numbers)
    and all(isinstance(found.get(key), str) for key in texts)
    and isinstance(found.get('skipped', []), list)
  ):
    raise ValueError(f'{path} is damaged: in baselines stands {found}')


def _number(value: object) -> bool:
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def _files(report: Mapping) -> Iterator[tuple[str, str | None]]:
  """Files of networks that the report names, and their digests."""
  if report['settings']['weights'] is None:
    for found in report['baselines']:
      if 'weights_sha256' in found:
        yield f'weights/{named("baseline", found["seed"])}.safetensors', found['weights_sha256']
  for row in report['rows']:
    for kind, name in row.get('weights', {}).items():
      yield str(name), row.get('weights_sha256', {}).get(kind)


def check_file(path: pathlib.Path, digest: str | None) -> None:
  """Raises ValueError if a file that report.json names is missing, or has another sha256."""
  if not path.is_file():
    raise ValueError(f'{path}, which report.json names, is missing; {_REMEDY}')
  if digest is not None and results.sha256(path) != digest:
    raise ValueError(f'{path} has changed: its sha256 is not the one in report.json; {_REMEDY}')
