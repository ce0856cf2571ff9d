"""The study: every row a network with low-rank kernels, shuffled or not, trained and tested."""

import math
import time
from collections.abc import Mapping

import jax
from flax import nnx

import tnjax as tn
from experiments.classifier.seeded import Seeded
from experiments.common import grid, job, results
from experiments.shuffled import plots, resume, student, table
from experiments.shuffled.networks import Networks
from experiments.shuffled.stability import claims, gaps, stability

KEYS = ('dataset', 'block', 'format', 'entries', 'ratio', 'mode')  # of rows that differ by seed
_OURS = 'our working definition of RsTD (papers/shuffled.md, 3), not the figures of the paper'


class Study:
  """Runs the rows of a configuration and keeps `report.json` up to date after each.

  Args:
    this: the job; its folder is opened, and rows found in its report are not run again.
    networks: what the rows start from.

  Raises:
    ValueError: no row is within reach, or the folder has results that this run cannot go on with.
  """

  def __init__(self, this: job.Job, networks: Networks):
    config = self._config = this.config
    self._job, self._networks = this, networks
    settings, missing = reachable(config.settings(), self._plan)
    self._folder = this.open()
    about = {name: getattr(config, name) for name in ('dataset', 'model')}
    about |= {'definition': _OURS, 'settings': config.json(), 'out_of_reach': missing}
    self._grid = grid.Grid(settings, self._folder, this.provenance() | about, {'networks': []})
    resume.check(self.report, self._folder, networks)
    for point in missing:
      this.progress.print(table.skipped(point))

  @property
  def report(self) -> dict:
    """What report.json holds."""
    return self._grid.report

  def run(self) -> None:
    """Runs all rows that are not done."""
    self._grid.run(self._row, self._job.progress, self._done)

  def finish(self) -> None:
    """Writes the report, the summary and the plots of the rows there are."""
    rows = self.report['rows']
    self.report['stability'] = stability(rows)
    self.report['gaps'] = gaps(rows, self._config.compare_format, self._config.compare_ratio)
    self.report['claims'] = claims(rows)
    self._grid.write()
    results.write_csv(self._folder / 'summary.csv', grid.summarised(rows, KEYS))
    for dataset in dict.fromkeys(row['dataset'] for row in rows):
      plots.accuracy(self._folder / f'accuracy_{dataset}.png', rows, dataset)
    plots.steadiness(self._folder / 'stability.png', self.report['stability'])
    plots.similarity(self._folder / 'similarity.png', self.report)

  def state(self) -> str:
    """How far it came."""
    return self._grid.state()

  def summary(self) -> str:
    """The rows as tables, what they say of the claims, and where the files are."""
    files = 'report.json, summary.csv, accuracy_*.png, stability.png, similarity.png'
    return f'{table.text(self.report)}\nwrote {self._job.workdir}/{files}'

  def _plan(self, setting: Mapping) -> tn.compression.Report:
    rules = self._config.rules(setting['format'], setting['entries'], setting['ratio'])
    return self._networks.plan(setting['dataset'], rules)

  def _row(self, **setting: object) -> dict:
    """Draws or decomposes, measures, trains, measures."""
    seeded = self._at(setting['dataset'], setting['block'], setting['seed'])
    start, before, error = time.monotonic(), None, None
    scratch, name = setting['mode'] == 'scratch', _name(**setting)
    if setting['format'] == 'dense':
      model, about = nnx.clone(seeded.model, arrays=True), {'realised_ratio': 1.0}
    else:
      model, found = self._compressed(seeded, setting)
      about = student.size(found, setting['entries'], seeded.config.layers)
      error = None if scratch else found.relative_error
    jax.block_until_ready(nnx.state(model))
    seconds = time.monotonic() - start
    if not scratch:
      before = seeded.accuracy(model, seeded.dataset.test)
    if scratch and setting['format'] == 'dense':  # it is that already
      steps, train_seconds = 0, 0.0
    else:
      train = seeded.train if scratch else seeded.finetune
      steps, train_seconds = train(model, name)
    return {
      **about,
      'relative_error': error,
      'accuracy_start': before,
      'accuracy': seeded.accuracy(model, seeded.dataset.test),
      'accuracy_validation': seeded.accuracy(model, seeded.dataset.validation),
      'steps': steps,
      'start_seconds': round(seconds, 3),
      'train_seconds': round(train_seconds, 3),
    }

  def _compressed(self, seeded: Seeded, setting: Mapping) -> tuple[nnx.Module, object]:
    rules = self._config.rules(setting['format'], setting['entries'], setting['ratio'])
    key = jax.random.key(setting['seed'])
    if setting['mode'] == 'decompose':
      return tn.compress(seeded.model, rules, key)
    model = seeded.untrained()
    return student.fresh(model, rules, key), tn.compression.plan(model, rules)

  def _done(self, row: Mapping) -> None:
    setting = {name: row[name] for name in (*KEYS, 'seed')}
    self._at(row['dataset'], row['block'], row['seed']).forget(_name(**setting))
    start = '' if row['accuracy_start'] is None else f'{row["accuracy_start"]:.2%} -> '
    self._job.progress.print(
      f'{row["dataset"]}{row["block"] or "":>3} seed {row["seed"]} {row["format"]:>5} '
      f'{row["entries"]:11} {row["mode"]:9} {row["realised_ratio"]:5.1f}x: '
      f'{start}{row["accuracy"]:.2%}'
    )

  def _at(self, dataset: str, block: int, seed: int) -> Seeded:
    """Data and network of rows, noted in the report."""
    seeded = self._networks.get(dataset, block, seed, self._folder)
    about = {'dataset': dataset, 'block': block, 'seed': seed}
    noted = self.report['networks']
    if not any(about.items() <= found.items() for found in noted):
      noted.append(about | self._networks.facts(seeded))
      self._grid.write()
    return seeded


def reachable(settings: list[dict], plan: object) -> tuple[list[dict], list[dict]]:
  """The settings that can be met, and the points that cannot: some layer's rank would be 0.

  Args:
    settings: of rows.
    plan: plan(setting) gives the sizes of a row.

  Raises:
    ValueError: of all that is to be compressed, nothing is within reach.
  """
  layers = {}
  for row in settings:
    point = row['dataset'], row['format'], row['ratio']
    if point not in layers:
      dense = row['format'] == 'dense'
      layers[point] = [] if dense else student.out_of_reach(plan(row), row['ratio'])
  kept = [s for s in settings if not layers[s['dataset'], s['format'], s['ratio']]]
  names = ('dataset', 'format', 'ratio')
  missing = [dict(zip(names, p)) | {'layers': found} for p, found in layers.items() if found]
  if missing and all(row['format'] == 'dense' for row in kept):
    least = math.ceil(min(point['ratio'] for point in missing))
    raise ValueError(
      f'--ratios: from {least} on, even rank 1 stores more than the ratio allows, in '
      f'{len(missing[0]["layers"])} layers such as {missing[0]["layers"][0]}; give smaller ones'
    )
  return kept, missing


def _name(
  dataset: str, block: int, format: str, entries: str, ratio: float, mode: str, seed: int
) -> str:
  """Of a row's training within the folder of its network."""
  del dataset, block, seed  # the folder has the first two, `named` adds the seed
  return f'{format}_{entries}_{ratio:g}_{mode}'
