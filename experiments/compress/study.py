"""The study: one network, every scheme at every rate for every seed, one report row each."""

from collections.abc import Callable, Mapping

from flax import nnx

import tnjax as tn
from experiments.classifier import study
from experiments.common import grid, job, plots, results
from experiments.common.data_folder import Data
from experiments.common.metrics import Metrics
from experiments.compress.config import Config
from experiments.compress.table import table


def check(config: Config, model: nnx.Module) -> None:
  """Plans every row, so that a scheme or pattern that does not fit is told before any work."""
  for scheme, rate in dict.fromkeys((s['scheme'], s['rate']) for s in config.settings()):
    tn.compression.plan(model, config.rules(scheme, rate))


class Study(study.Study):
  """A row a scheme, rate and seed."""

  FILES = (
    'report.json', 'summary.csv', 'accuracy_vs_compression.png', 'metrics.jsonl', 'loss.png'
  )  # fmt: skip
  NUMBERS = (
    'rate', 'kernel_params_ratio', 'params_ratio', 'macs_ratio', 'relative_error',
    'accuracy_decomposed', 'accuracy_finetuned',
  )  # fmt: skip
  UNFINISHED = ('accuracy_finetuned',)
  ABOUT = ('dataset', 'model', 'seed')

  def __init__(self, this: job.Job, load: Callable[[int], Data]):
    super().__init__(this, load, this.config.settings())
    self._seeded = None  # of the latest row

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

  def summary(self) -> str:
    """The rows as a table, and where the files are."""
    files = ', '.join(self.FILES)
    return f'{table(self.report)}\nwrote {self._job.workdir}/{files}, weights/'

  def _row(self, scheme: str, rate: float, seed: int) -> dict:
    """Decompose, measure, fine-tune, measure; the compressed networks are saved."""
    seeded = self._seeded = self._baselines.at(seed)
    name = f'{scheme}_{rate:g}'
    model, table, decompose_seconds = seeded.compress(self._config.rules(scheme, rate), name)
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


def _facts(layer: tn.compression.LayerReport) -> dict:
  """What the solver knew of a layer."""
  names = ('ranks', 'params', 'relative_error', 'num_iters', 'converged')
  return {name: getattr(layer, name) for name in names}
