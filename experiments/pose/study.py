"""The study: one dense network a seed, networks of equal size, and single modes compressed."""

from collections.abc import Callable, Mapping

from flax import nnx

import tnjax as tn
from experiments.classifier import network, study
from experiments.common import grid, job, plots, results
from experiments.common.metrics import Metrics
from experiments.pose import counts, figures, metrics, mpii, rendered, report, rows
from experiments.pose.config import CONTROL, KEYS, MODES, Config
from experiments.pose.crops import Crops
from experiments.pose.seeded import THRESHOLDS, Seeded, metric, notes, scores

Limits = Mapping[float, tuple[int, int]]


def check(config: Config) -> Limits:
  """Plans what can be planned, before any work; returns sizes as `rows.trimmed` does.

  Raises:
    ValueError: a ratio out of reach, a rule that does not fit, --weights of another network.
  """
  model = rows.build(config, config.seed)
  if config.weights is not None:
    _check_weights(config)
    network.load(config.weights, model)
  for setting in config.settings():
    if setting['method'] in MODES:
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


def _check_weights(config: Config) -> None:
  """Raises ValueError if they are not of a dense network trained as this run would train it."""
  noted = notes(config.weights)
  if noted.get('scheme') is not None:
    raise ValueError(f'--weights={config.weights} is of the row {noted["scheme"]}; take a baseline')
  for name in ('dataset', 'size', 'train_epochs'):
    if noted.get(name) != getattr(config, name):
      raise ValueError(
        f'--weights={config.weights} was trained with --{name}={noted.get(name)}; this run has '
        f'--{name}={getattr(config, name)}'
      )


def _check_people(weights: str, data: Crops) -> None:
  """Raises ValueError if a network may have been trained on people whom it is measured with."""
  found, own = notes(weights).get('data_sha256'), data.fingerprint()
  if found != own:
    raise ValueError(
      f'--weights={weights} was trained on other people, or split otherwise: sha256 {found}, here '
      f'{own}'
    )


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
    if this.config.weights is not None:
      _check_people(this.config.weights, self._data)
    report.check(self._folder, self.report)
    self.report.update(self._people())

  def finish(self) -> None:
    """Writes the report, the summary and the pictures of the rows there are."""
    found, seeds = self.report['rows'], self.report['baselines']
    self.report['mean_pose'] = self._mean_pose()
    self.report['comparisons'] = report.comparisons(self._folder, self.report, self._data)
    self._grid.write()
    shown = [{k: v for k, v in row.items() if k not in ('ranks', 'joints')} for row in found]
    results.write_csv(self._folder / 'summary.csv', grid.summarised(shown, KEYS))
    plots.curves(self._folder / 'loss.png', Metrics(self._folder / 'metrics.jsonl').read(), 'loss')
    if any('accuracy' in one for one in seeds):
      figures.draw(self._folder, self.report, self._data)

  def summary(self) -> str:
    """The rows as a table, the comparisons, and where the files are."""
    files = ', '.join(self.FILES)
    return f'{report.text(self.report)}\nwrote {self._job.workdir}/{files}, weights/, predictions/'

  def _people(self) -> dict:
    """What the report says of those who are trained and measured with."""
    data, dataset = self._data, self._config.dataset
    kind, note = metric(data.validation.people), None
    if dataset == 'figures':
      note = rendered.NOTE
    elif dataset == 'mpii' and kind == 'pck':
      note = f'--data_dir has no {mpii.MAT}, whose boxes of heads PCKh needs: this is PCK'
    people = {'train': len(data.train), 'validation': len(data.validation)}
    return {'metric': kind, 'people': people | {'left_out': data.left_out}, 'note': note}

  def _mean_pose(self) -> dict:
    """Its measures, of those of whom networks are measured."""
    people, size = report.measured(self._data, self.report), self._data.size
    joints = metrics.posed(metrics.mean_pose(self._data.train.people, size), people, size)
    found = scores(joints, people)
    return {name: found[name] for name in THRESHOLDS}

  def _row(self, study: str, method: str, value: float, seed: int) -> dict:
    """Makes a network, measures, trains, measures."""
    seeded, config, name = self._baselines.at(seed), self._config, _name(study, method, value)
    epochs = config.mode_epochs if study == 'modes' else config.finetune_epochs
    rate, rules = config.learning_rate, ()
    if method == CONTROL:
      rules = rows.dense()
    elif method in MODES:
      rules = rows.single(config, method, value)
    elif method != 'trimmed':
      rules = rows.fitted(seeded.model, method, self._limits[value][1])
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
      ranks = ranks if method == 'layerwise' else next(iter(ranks.values()), {})
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
