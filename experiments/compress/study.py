"""The study: one network, every scheme at every rate, one report row each."""

import pathlib
import time
from collections.abc import Mapping

import jax
from flax import nnx

import tnjax as tn
from experiments.common import results
from experiments.common.checkpoint import Checkpoint
from experiments.common.data import Dataset
from experiments.common.plots import accuracy_vs_compression
from experiments.common.progress import Progress
from experiments.common.train import Settings, evaluate, fit
from experiments.compress import network
from experiments.compress.config import Config

EVAL_BATCH = 500


def check(config: Config, model: nnx.Module) -> None:
  """Plans every row, so that a scheme or pattern that does not fit is told before any work."""
  for scheme in config.schemes:
    for rate in config.rates:
      tn.compression.plan(model, config.rules(scheme, rate))


class Study:
  """Runs the rows of a configuration and keeps `report.json` up to date after each.

  Args:
    config: what to run.
    dataset: loaded data.
    model: the network, initialised, with weights loaded where the configuration names a file.
    workdir: folder of the results; rows found in its report are not run again.
    command: the command line, for the report.
    progress: display.
  """

  def __init__(
    self,
    config: Config,
    dataset: Dataset,
    model: nnx.Module,
    workdir: pathlib.Path,
    command: str,
    progress: Progress,
  ):
    self.config = config
    self.dataset = dataset
    self.model = model
    self.workdir = workdir
    self.progress = progress
    self.report = {
      'command': command,
      'versions': results.versions(),
      'device': results.device(),
      'dataset': config.dataset,
      'model': config.model,
      'seed': config.seed,
      'baseline': None,
      'rows': [],
    }
    path = workdir / 'report.json'
    if path.is_file():
      old = results.read_json(path)
      try:
        found = [row for row in old['rows'] if row.keys() >= {'scheme', 'rate', 'weights'}]
        self.report |= {'baseline': old['baseline'], 'rows': found}
      except (KeyError, TypeError, AttributeError):
        raise ValueError(f'{path} is damaged; remove it to run its rows again') from None

  def run(self) -> None:
    """Trains the network if it has no weights yet, then runs all rows that are not done."""
    self._baseline()
    pending = self._pending()
    total = len(self.config.schemes) * len(self.config.rates)
    with self.progress.task('schemes x rates', total, total - len(pending)) as advance:
      for scheme, rate in pending:
        row = self._row(scheme, rate)
        self.report['rows'].append(row)
        self._write()
        self._checkpoint(f'{scheme}_{rate:g}').delete()
        self.progress.print(
          f'{scheme:>8} {rate:4.0%}: {row["kernel_params_ratio"]:6.1%} of the kernels, error '
          f'{row["relative_error"]:.3f}, accuracy {row["accuracy_decomposed"]:.2%} -> '
          f'{row["accuracy_finetuned"]:.2%}'
        )
        advance(1)

  def finish(self) -> None:
    """Writes the report, the summary and the plot of the rows there are."""
    if self.report['baseline'] is None:
      return
    self._write()
    rows = self.report['rows']
    results.write_csv(self.workdir / 'summary.csv', rows)
    if rows:
      accuracy_vs_compression(
        self.workdir / 'accuracy_vs_compression.png',
        rows,
        self.report['baseline']['accuracy'],
        f'{self.config.model} on {self.config.dataset}',
      )

  def _pending(self) -> list[tuple[str, float]]:
    done = {(row['scheme'], row['rate']) for row in self.report['rows']}
    pairs = [(s, r) for s in self.config.schemes for r in self.config.rates]
    return [pair for pair in pairs if pair not in done]

  def _baseline(self) -> None:
    path = self.workdir / 'weights' / 'baseline.safetensors'
    if self.config.weights is None:
      if path.is_file():
        network.load(path, self.model)
      else:
        self._fit(
          self.model,
          'train',
          self._steps(self.config.train_epochs),
          self.config.train_learning_rate,
        )
        network.save(path, self.model, self._description())
      self._checkpoint('train').delete()
    if self.report['baseline'] is None:
      table = self._plan(*self._pending()[0])
      self.report['baseline'] = {
        'accuracy': self._evaluate(self.model),
        'params': table.dense_params,
        'macs': table.dense_macs,
      }
      self._write()
    self.progress.print(
      f'{self.config.model} on {self.config.dataset}: test accuracy '
      f'{self.report["baseline"]["accuracy"]:.2%}, {self.report["baseline"]["params"]:,} parameters'
    )

  def _row(self, scheme: str, rate: float) -> dict:
    """Decompose, measure, fine-tune, measure; the compressed networks are saved."""
    name = f'{scheme}_{rate:g}'
    start = time.monotonic()
    key = jax.random.key(self.config.seed)
    rules = self.config.rules(scheme, rate)
    count = len(tn.compression.plan(self.model, rules).compressed)
    with self.progress.task(f'decompose {name}', count) as advance:
      model, table = tn.compress(
        self.model,
        rules,
        key,
        input_shape=self.dataset.image_shape,
        on_layer=lambda path: advance(1, path),
      )
    jax.block_until_ready(nnx.state(model))
    decompose_seconds = time.monotonic() - start
    paths = {k: f'weights/{name}_{k}.safetensors' for k in ('decomposed', 'finetuned')}
    about = self._description(scheme, rate)
    network.save(self.workdir / paths['decomposed'], model, about)
    accuracy_decomposed = self._evaluate(model)
    steps = self.config.finetune_steps
    steps = self._steps(self.config.finetune_epochs) if steps is None else steps
    finetune_seconds = 0.0
    if steps:
      finetune_seconds = self._fit(model, name, steps, self.config.learning_rate)
    network.save(self.workdir / paths['finetuned'], model, about)
    row = {
      'scheme': scheme,
      'rate': rate,
      'ranks': {layer.path: list(layer.ranks) for layer in table.compressed},
      'params': table.params,
      'params_ratio': table.params_ratio,
      'kernel_params': table.kernel_params,
      'kernel_params_ratio': table.kernel_params_ratio,
      'macs': table.macs,
      'macs_ratio': table.macs_ratio,
      'kernel_macs_ratio': table.kernel_macs_ratio,
      'relative_error': table.relative_error,
      'accuracy_decomposed': accuracy_decomposed,
      'accuracy_finetuned': self._evaluate(model) if steps else accuracy_decomposed,
      'finetune_steps': steps,
      'decompose_seconds': round(decompose_seconds, 3),
      'finetune_seconds': round(finetune_seconds, 3),
      'weights': paths,
    }
    return row

  def _plan(self, scheme: str, rate: float) -> tn.compression.Report:
    rules = self.config.rules(scheme, rate)
    return tn.compression.plan(self.model, rules, input_shape=self.dataset.image_shape)

  def _steps(self, epochs: int) -> int:
    size = min(self.config.batch_size, len(self.dataset.train))
    return epochs * (len(self.dataset.train) // size)

  def _fit(self, model: nnx.Module, name: str, steps: int, learning_rate: float) -> float:
    settings = Settings(
      steps, self.config.batch_size, learning_rate, self.config.weight_decay, self.config.seed
    )
    title = name if name == 'train' else f'fine-tune {name}'
    return fit(model, self.dataset, settings, self.progress, title, self._checkpoint(name))

  def _evaluate(self, model: nnx.Module) -> float:
    return evaluate(model, self.dataset.test, self.dataset.scale, EVAL_BATCH, self.progress)

  def _checkpoint(self, name: str) -> Checkpoint:
    return Checkpoint(self.workdir / 'checkpoints' / name)

  def _description(self, scheme: str | None = None, rate: float | None = None) -> dict:
    about = {name: getattr(self.config, name) for name in ('dataset', 'model', 'seed')}
    return about | {'layers': self.config.layers, 'scheme': scheme, 'rate': rate}

  def _write(self) -> None:
    results.write_json(self.workdir / 'report.json', self.report)


def table(report: Mapping) -> str:
  """The report's rows as text for the terminal."""
  head = ('scheme', 'rate', 'kernels', 'params', 'MACs', 'error', 'decomposed', 'fine-tuned')
  lines = [head]
  for r in report['rows']:
    cells = [r['scheme'], f'{r["rate"]:.0%}', f'{r["kernel_params_ratio"]:.1%}']
    cells += [f'{r["params_ratio"]:.1%}', f'{r["macs_ratio"]:.1%}', f'{r["relative_error"]:.3f}']
    lines.append((*cells, f'{r["accuracy_decomposed"]:.2%}', f'{r["accuracy_finetuned"]:.2%}'))
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  text = ['  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines]
  base = report['baseline']
  foot = (
    f'uncompressed: accuracy {base["accuracy"]:.2%}, {base["params"]:,} parameters, '
    f'{base["macs"]:,} MACs. kernels, params, MACs: compressed / original, of the compressed '
    'kernels, of the network, of the network.'
  )
  return '\n'.join([text[0], '-' * len(text[0]), *text[1:], foot])
