"""Compress a trained network by tensor decompositions, fine-tune it, and report.

From a clone, after `make demo` or `pip install -e '.[experiments]'`. With no flags: trains a small
residual network on the digits inside scikit-learn, compresses it with nine schemes at four rates
and fine-tunes each (four minutes on two cores):

    python -m experiments.compress.main

CIFAR-10 with trained ResNet-32 weights (PyTorch naming):

    python -m experiments.compress.main --dataset=cifar10 --data_dir=DIR --weights=resnet32.npz \\
      --model=resnet32 --schemes=tk,cp --rates=0.1,0.2 --finetune_epochs=1

ImageNet, or any images in DIR/train/CLASS/ and DIR/val/CLASS/ (never run here on ImageNet itself):

    python -m experiments.compress.main --dataset=imagenet --data_dir=DIR --model=vgg16 \\
      --weights=hf:timm/vgg16.tv_in1k --schemes=tk --rates=0.1

The accuracy of a network that a run saved, or of weights in PyTorch naming:

    python -m experiments.compress.main --eval=FILE [--data_dir=DIR but for the digits]

Results go to --workdir: report.json, summary.csv, accuracy_vs_compression.png, metrics.jsonl,
loss.png, weights/.
"""

from collections.abc import Callable

from experiments.classifier import config as classifier
from experiments.classifier import network
from experiments.classifier.seeded import EVAL_BATCH
from experiments.common import job
from experiments.common.classification import evaluate
from experiments.common.data_folder import Data, Folder
from experiments.compress.config import Config
from experiments.compress.study import Study, check


def prepare(this: job.Job) -> Study | None:
  """Checks all there is to check and returns the study; --eval evaluates, and that is all."""
  config = this.config
  load = classifier.loader(this)
  if config.eval is not None:
    _evaluate(this, load)
    return None
  this.check()
  check(config, classifier.untrained(this, load))
  classifier.check_batch(this, load)
  return Study(this, load)


def _evaluate(this: job.Job, load: Callable[[int], Data]) -> None:
  config = this.config
  dataset = load(config.seed)
  model = network.of(config, config.seed, dataset.num_classes)
  model = network.load(config.eval, model)
  accuracy = evaluate(model, dataset.test, dataset.scale, EVAL_BATCH, this.progress)
  skipped = len(dataset.skipped) if isinstance(dataset, Folder) else 0
  this.progress.print(
    f'{config.eval}: test accuracy {accuracy:.2%} on {len(dataset.test) - skipped:,} images'
  )


if __name__ == '__main__':
  job.launch(Config, 'compress', prepare)
