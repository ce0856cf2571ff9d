"""Compress a trained network by tensor decompositions, fine-tune it, and report.

From a clone, after `make demo` or `pip install -e '.[experiments]'`. With no flags: trains a small
residual network on the digits inside scikit-learn, compresses it with nine schemes at four rates
and fine-tunes each (four minutes on two cores):

    python -m experiments.compress.main

CIFAR-10 with trained ResNet-32 weights (PyTorch naming):

    python -m experiments.compress.main --dataset=cifar10 --data_dir=DIR --weights=resnet32.npz \\
      --model=resnet32 --schemes=tk,cp --rates=0.1,0.2 --finetune_epochs=1

The accuracy of a network that a run saved, or of weights in PyTorch naming:

    python -m experiments.compress.main --eval=FILE [--data_dir=DIR for CIFAR-10]

Results go to --workdir: report.json, summary.csv, accuracy_vs_compression.png, metrics.jsonl,
loss.png, weights/.
"""

import functools
from collections.abc import Callable

from experiments.common import data, job, mesh
from experiments.common.classification import evaluate
from experiments.compress import network
from experiments.compress.config import Config
from experiments.compress.seeded import EVAL_BATCH
from experiments.compress.study import Study, check


def prepare(this: job.Job) -> Study | None:
  """Checks all there is to check and returns the study; --eval evaluates, and that is all."""
  config = this.config
  load = functools.lru_cache(maxsize=1)(functools.partial(_load, this))
  if config.eval is not None:
    _evaluate(this, load)
    return None
  this.check()
  for seed in config.seeds:
    _check_seed(config.weights, seed)
  model = network.build(config.model, config.dataset, config.seed)
  if config.weights is not None:
    network.check_dense(config.weights, network.load(config.weights, model))
  check(config, model)
  size = min(config.batch_size, len(load(config.seed).train))
  mesh.check_batch(this.mesh, size)
  return Study(this, load)


def _load(this: job.Job, seed: int) -> data.Dataset:
  config = this.config
  if config.dataset == 'digits':
    return data.digits(seed)
  if config.download:
    data.download_cifar10(config.data_dir, this.progress)
  return data.cifar10(config.data_dir, seed)


def _evaluate(this: job.Job, load: Callable[[int], data.Dataset]) -> None:
  config = this.config
  model = network.load(config.eval, network.build(config.model, config.dataset, config.seed))
  dataset = load(config.seed)
  accuracy = evaluate(model, dataset.test, dataset.scale, EVAL_BATCH, this.progress)
  this.progress.print(
    f'{config.eval}: test accuracy {accuracy:.2%} on {len(dataset.test):,} images'
  )


def _check_seed(path: str | None, seed: int) -> None:
  """The digits are split by the seed: another one would test on images that were trained on."""
  about = None if path is None else network.description(path)
  if about is not None and about['dataset'] == 'digits' and about['seed'] != seed:
    raise ValueError(
      f'{path} was trained with --seed={about["seed"]}, which decides the test images; this run '
      f'has --seed={seed}'
    )


if __name__ == '__main__':
  job.launch(Config, 'compress', prepare)
