"""The study: one network, every scheme at every rate for every seed, one report row each."""

import time
from collections.abc import Callable, Mapping

import jax
from flax import nnx

import tnjax as tn
from experiments.classifier.seeded import Seeded
from experiments.common import grid, job, plots, results
from experiments.common.data import Dataset
from experiments.common.metrics import Metrics
from experiments.compress import resume
from experiments.compress.config import Config
from experiments.compress.table import mean, table


def check(config: Config, model: nnx.Module) -> None:
  """Plans every row, so that a scheme or pattern that does not fit is told before any work."""
  for scheme in config.schemes:
    for rate in config.rates:
      tn.compression.plan(model, config.rules(scheme, rate))


class Study:
  """Runs the rows of a configuration and keeps `report.json` up to date after each.

  Args:
    this: the job; its folder is opened, and rows found in its report are not run again.
    load: gives the data set of a seed.

  Raises:
    ValueError: the folder has results that this run cannot go on with.
  """

  def __init__(self, this: job.Job, load: Callable[[int], Dataset]):
    config = self._config = this.config
    self._job = this
    self._load = load
    self._folder = this.open()
    self._seeded = None  # the latest
    settings = [
      {'scheme': scheme, 'rate': rate, 'seed': seed}  # in the order of a report's columns
      for seed in config.seeds
      for scheme in config.schemes
      for rate in config.rates
    ]
    about = {name: getattr(config, name) for name in ('dataset', 'model', 'seed')}
    about = this.provenance() | about | {'settings': config.json()}
    state = {'baseline': None, 'baselines': []}
    self._grid = grid.Grid(settings, self._folder, about, state)
    resume.check(self.report, self._folder, load)
    self.report['baseline'] = mean(self.report['baselines'])

  @property
  def report(self) -> dict:
    """What report.json holds."""
    return self._grid.report

  def run(self) -> None:
    """Runs all rows that are not done."""
    self._grid.run(self._row, self._job.progress, self._done)

  def finish(self) -> None:
    """Writes the report, the summary and the plots of the rows there are."""
    self._grid.write()
    rows = grid.summarised(self.report['rows'], ('scheme', 'rate'))
    results.write_csv(self._folder / 'summary.csv', rows)
    plots.curves(self._folder / 'loss.png', Metrics(self._folder / 'metrics.jsonl').read(), 'loss')
    plots.accuracy_vs_compression(
      self._folder / 'accuracy_vs_compression.png',
      rows,
      self.report['baseline'] and self.report['baseline']['accuracy'],
      f'{self._config.model} on {self._config.dataset}',
    )

  def state(self) -> str:
    """How far it came."""
    total = len(self._grid.settings)
    return f'{total - len(self._grid.pending())} of {total} rows'

  def summary(self) -> str:
    """The rows as a table, and where the files are."""
    files = ', '.join(resume.FILES)
    return f'{table(self.report)}\nwrote {self._job.workdir}/{files}, weights/'

  def _row(self, scheme: str, rate: float, seed: int) -> dict:
    """Decompose, measure, fine-tune, measure; the compressed networks are saved."""
    seeded = self._at(seed)
    name = f'{scheme}_{rate:g}'
    start = time.monotonic()
    key = jax.random.key(seed)
    rules = self._config.rules(scheme, rate)
    count = len(tn.compression.plan(seeded.model, rules).compressed)
    with self._job.progress.task(f'decompose {name}', count) as advance:
      model, table = tn.compress(
        seeded.model,
        rules,
        key,
        input_shape=seeded.dataset.image_shape,
        on_layer=lambda path: advance(1, path),
      )
    jax.block_until_ready(nnx.state(model))
    decompose_seconds = time.monotonic() - start
    saved = {'decomposed': seeded.save(model, name, 'decomposed', scheme=scheme, rate=rate)}
    dataset = seeded.dataset
    before, after = seeded.accuracy(model, dataset.test), None
    steps, finetune_seconds = seeded.finetune(model, name)
    if steps:
      saved['finetuned'] = seeded.save(model, name, 'finetuned', scheme=scheme, rate=rate)
      after = seeded.accuracy(model, dataset.test)
    return {
      'ranks': {layer.path: list(layer.ranks) for layer in table.compressed},
      'layers': {layer.path: _facts(layer) for layer in table.compressed},
      'not_converged': sum(layer.converged is False for layer in table.compressed),
      'params': table.params,
      'params_ratio': table.params_ratio,
      'kernel_params': table.kernel_params,
      'kernel_params_ratio': table.kernel_params_ratio,
      'macs': table.macs,
      'macs_ratio': table.macs_ratio,
      'kernel_macs_ratio': table.kernel_macs_ratio,
      'relative_error': table.relative_error,
      'accuracy_decomposed': before,
      'accuracy_finetuned': after,
      'accuracy_validation': seeded.accuracy(model, dataset.validation),
      'finetune_steps': steps,
      'decompose_seconds': round(decompose_seconds, 3),
      'finetune_seconds': round(finetune_seconds, 3),
      'weights': {kind: path for kind, (path, _) in saved.items()},
      'weights_sha256': {kind: digest for kind, (_, digest) in saved.items()},
    }

  def _done(self, row: Mapping) -> None:
    self._seeded.forget(f'{row["scheme"]}_{row["rate"]:g}')
    unfinished = row['not_converged']
    self._job.progress.print(
      f'{row["scheme"]:>8} {row["rate"]:4.0%}: {row["kernel_params_ratio"]:6.1%} of the kernels, '
      f'error {row["relative_error"]:.3f}, accuracy {row["accuracy_decomposed"]:.2%}'
      + (f' -> {row["accuracy_finetuned"]:.2%}' if row['finetune_steps'] else '')
      + (f' ({unfinished} of {len(row["layers"])} layers not converged)' if unfinished else '')
    )

  def _at(self, seed: int) -> Seeded:
    """Data and network of a seed, noted in the report."""
    if self._seeded is None or self._seeded.seed != seed:
      with job.one_line(ValueError):  # the data were damaged since the run began
        dataset = self._load(seed)
      noted = self._noted(seed, dataset)
      self._seeded = Seeded(self._job, self._folder, dataset, seed)
      if 'accuracy' not in noted:
        noted |= self._seeded.facts()
        self.report['baseline'] = mean(self.report['baselines'])
        self._grid.write()
      self._job.progress.print(
        f'{self._config.model} on {self._config.dataset}: test accuracy {noted["accuracy"]:.2%}, '
        f'{noted["params"]:,} parameters'
      )
    return self._seeded

  def _noted(self, seed: int, dataset: Dataset) -> dict:
    """What the report says of a seed: at first, before any training, its data alone."""
    baselines = self.report['baselines']
    found = next((b for b in baselines if b['seed'] == seed), None)
    if found is None:
      found = {'seed': seed, 'data_sha256': dataset.fingerprint()}
      baselines.append(found)
      self._grid.write()
    else:
      with job.one_line(ValueError):
        resume.check_data(found, dataset)
    return found


def _facts(layer: tn.compression.LayerReport) -> dict:
  """What the solver knew of a layer."""
  names = ('ranks', 'params', 'relative_error', 'num_iters', 'converged')
  return {name: getattr(layer, name) for name in names}
