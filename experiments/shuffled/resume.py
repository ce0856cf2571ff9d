"""Whether a run can go on with the report in its folder: whole, and of the same data."""

import pathlib
from collections.abc import Mapping

from experiments.classifier.seeded import named
from experiments.common import mesh, results
from experiments.shuffled.networks import Networks, home

_NUMBERS = ('ratio', 'seed', 'realised_ratio', 'accuracy', 'accuracy_validation', 'steps')
_FACTS = ('dataset', 'block', 'seed', 'data_sha256', 'similarity', 'accuracy', 'spectra')


def check(report: Mapping, folder: pathlib.Path, networks: Networks) -> None:
  """Checks what an earlier run left.

  Raises:
    ValueError: an entry of the report is missing or of another kind, a network has changed, or the
      data are others.
  """
  path = folder / 'report.json'
  for row in report['rows']:
    for name in _NUMBERS:
      if not isinstance(row.get(name), (int, float)):
        raise ValueError(f'{path} is damaged: a row has {name} {row.get(name)!r}, no number')
  for found in report['networks']:
    if not isinstance(found, dict) or not found.keys() >= set(_FACTS):
      raise ValueError(f'{path} is damaged: its networks lack some of {", ".join(_FACTS)}')
  for found in report['networks'] if mesh.primary() else ():
    _check_network(found, folder)
  for found in report['networks'][:1]:
    data = networks.data(found['dataset'], found['block'], found['seed'])
    if data.fingerprint() != found['data_sha256']:
      raise ValueError(
        f'the data are not those of the results in --workdir: of seed {found["seed"]} they had '
        f'sha256 {found["data_sha256"]}; choose another --workdir'
      )


def _check_network(found: Mapping, folder: pathlib.Path) -> None:
  """That of --weights lies elsewhere; its digest is among the settings."""
  name = named('baseline', found['seed'])
  path = folder / home(found['dataset'], found['block']) / 'weights' / f'{name}.safetensors'
  if path.is_file() and results.sha256(path) != found['weights_sha256']:
    raise ValueError(
      f'{path} has changed: its sha256 is not the one in report.json; put it back, or choose '
      'another --workdir'
    )
