"""The study: one dense network a seed, networks of equal size, and single modes compressed."""

from collections.abc import Callable, Mapping

import numpy as np
from flax import nnx

import tnjax as tn
from experiments.classifier import network, study
from experiments.common import grid, job, plots, results
from experiments.common.metrics import Metrics
from experiments.pose import counts, figures, metrics, rendered, report, rows
from experiments.pose.config import Config
from experiments.pose.crops import Crops
from experiments.pose.seeded import THRESHOLDS, Seeded, metric

_KEYS = ('study', 'method', 'value')
Limits = Mapping[float, tuple[int, int]]


def check(config: Config) -> Limits:
  """Plans what can be planned, before any work; returns sizes as `rows.trimmed` does.

  Raises:
    ValueError: a ratio out of reach, a rule that does not fit, --weights of another network.
  """
  model = rows.build(config, config.seed)
  if config.weights is not None:
    network.check_dense(config.weights, network.load(config.weights, model))
  for setting in config.settings():
    if setting['study'] == 'modes':
      tn.compression.plan(model, rows.single(config, setting['method'], setting['value']))
  if 'methods' not in config.studies:
    return {}
  limits = rows.trimmed(config, rows.size_of(model).network)
  for method in config.methods:
    size = tn.compression.plan(model, rows.least(method)).params
    for ratio, (_, limit) in limits.items():
      if method != 'trimmed' and size > limit:
        raise ValueError(
          f'--ratios={ratio:g} is out of reach of {method}: with ranks of 1 the network has '
          f'{size:,} parameters, and {limit:,} are allowed'
        )
  return limits


class Study(study.Study):
  """A row a study, method and value, and seed.

  Args:
    this: the job.
    load: gives the crops.
    limits: what `check` found.
  """

  FILES = (
    'report.json', 'summary.csv', 'accuracy_vs_compression.png', 'modes.png', 'pck.png',
    'skeletons.png', 'metrics.jsonl', 'loss.png',
  )  # fmt: skip
  NUMBERS = ('value', 'params', 'kernel_params', 'macs', 'accuracy_start', 'accuracy', 'steps')
  UNFINISHED = ('accuracy_start',)
  ABOUT = ('dataset',)
  SEEDED = Seeded

  def __init__(self, this: job.Job, load: Callable[[int], Crops], limits: Limits):
    super().__init__(this, load, this.config.settings())
    self._data, self._limits = load(this.config.seed), limits
    report.check(self._folder, self.report)
    self.report.update(self._people())

  def finish(self) -> None:
    """Writes the report, the summary and the pictures of the rows there are."""
    found, seeds = self.report['rows'], self.report['baselines']
    self.report['comparisons'] = report.comparisons(self._folder, self.report, self._data)
    self._grid.write()
    shown = [{k: v for k, v in row.items() if k not in ('ranks', 'joints')} for row in found]
    results.write_csv(self._folder / 'summary.csv', grid.summarised(shown, _KEYS))
    plots.curves(self._folder / 'loss.png', Metrics(self._folder / 'metrics.jsonl').read(), 'loss')
    if any('accuracy' in one for one in seeds):
      figures.draw(self._folder, self.report, self._data)

  def summary(self) -> str:
    """The rows as a table, the comparisons, and where the files are."""
    files = ', '.join(self.FILES)
    return f'{report.text(self.report)}\nwrote {self._job.workdir}/{files}, weights/, predictions/'

  def _people(self) -> dict:
    """What the report says of those who are measured, and of the mean pose."""
    train, validation = self._data.train.people, self._data.validation.people
    pose = metrics.mean_pose(train, self._data.size)
    joints = metrics.posed(pose, validation, self._data.size)
    found = {}
    for name, (scales, threshold) in THRESHOLDS.items():
      mean = metrics.pck(joints, validation, scales(validation), threshold).mean
      found[name] = None if np.isnan(mean) else mean
    return {
      'metric': metric(validation),
      'people': {'train': len(self._data.train), 'validation': len(self._data.validation)},
      'mean_pose': found,
      'note': rendered.NOTE if self._config.dataset == 'figures' else None,
    }

  def _row(self, study: str, method: str, value: float, seed: int) -> dict:
    """Makes a network, measures, trains, measures."""
    seeded, config, name = self._baselines.at(seed), self._config, _name(study, method, value)
    epochs, rate = config.finetune_epochs, config.learning_rate
    if study == 'modes':
      epochs, rules = config.mode_epochs, rows.single(config, method, value)
    elif method != 'trimmed':
      rules = rows.fitted(seeded.model, method, self._limits[value][1])
    else:
      rules = ()
    error, start = None, None
    if method in ('trimmed', 'scratch'):
      epochs, rate = epochs + config.train_epochs, config.train_learning_rate
    if method == 'trimmed':
      model = rows.build(config, seed, self._limits[value][0])
    elif method == 'scratch':
      model = rows.fresh(seeded.untrained(), rules, seed)
    else:
      model, table, _ = seeded.compress(rules, name)
      error, start = table.relative_error, seeded.score(model)['accuracy']
    steps = seeded.batches.steps(epochs)
    seconds = seeded.fit(model, name, steps, rate)
    path, digest = seeded.save(model, name, scheme=method, rate=value)
    return {
      **self._sizes(seeded, model, method, rules),
      'relative_error': error,
      'accuracy_start': start,
      **seeded.kept(model, name),
      'steps': steps,
      'seconds': round(seconds, 3),
      'weights': {'trained': path},
      'weights_sha256': {'trained': digest},
    }

  def _sizes(self, seeded: Seeded, model: nnx.Module, method: str, rules: rows.Rules) -> dict:
    """Parameters and multiply-adds beside those of the dense network, and the ranks: of a T-Net its
    tensor's, else of every layer.
    """
    dense = next(b for b in self.report['baselines'] if b['seed'] == seeded.seed)
    size, ranks = rows.size_of(model), {}
    before, image = seeded.model if rules else model, seeded.dataset.image_shape
    table = tn.compression.plan(before, rules or ((counts.LAYERS, None),), input_shape=image)
    inside, macs = size.tensor, table.macs
    if rules:
      inside = size.network - dense['params'] + dense['kernel_params']
      ranks = {row.path: list(row.ranks) for row in table.compressed}
      ranks = ranks if method == 'layerwise' else next(iter(ranks.values()))
    return {
      'ranks': ranks,
      'params': size.network,
      'params_ratio': size.network / dense['params'],
      'kernel_params': inside,
      'kernel_params_ratio': inside / dense['kernel_params'],
      'macs': macs,
      'macs_ratio': macs / dense['macs'],
    }

  def _done(self, row: Mapping) -> None:
    name = _name(row['study'], row['method'], row['value'])
    self._baselines.at(row['seed']).forget(name)
    self._job.progress.print(report.line(row))


def _name(study: str, method: str, value: float) -> str:
  return f'{study}_{method}_{value:g}'
