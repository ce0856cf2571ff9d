"""Tensorized spectrum preserving compression (Su et al. 2018, arXiv 1805.10352), reproduced.

From a clone, after `make demo` or `pip install -e '.[experiments]'`. Ranks, sizes and multiply-adds
of ResNet-32 and ResNet-50, exactly:

    python -m experiments.spectrum_preserving.main --study=accounting

Sequential (Seq) and end-to-end training (E2E) of compressed networks: a small residual network on
the digits inside scikit-learn, a trained ResNet-32 on CIFAR-10, LeNet or an MLP on MNIST:

    python -m experiments.spectrum_preserving.main --study=digits --preset=reduced
    python -m experiments.spectrum_preserving.main --study=cifar --preset=reduced \\
      --data_dir=DIR --weights=resnet32.npz
    python -m experiments.spectrum_preserving.main --study=mnist --preset=reduced --data_dir=DIR

README.md beside this file says what each takes and gives. Results go to --workdir: report.json,
summary.csv, figures.
"""

from experiments.classifier import config as classifier
from experiments.common import job
from experiments.common.classification import Batches
from experiments.spectrum_preserving import counting, study
from experiments.spectrum_preserving.config import Config


def prepare(this: job.Job) -> counting.Counting | study.Study:
  """Checks all there is to check and returns the work."""
  config = this.config
  if this.mesh is not None:
    raise ValueError('--mesh and --distributed: Seq trains on one device; leave them out')
  this.check()
  if config.study == 'accounting':
    counting.check(config)
    return counting.Counting(this)
  load = classifier.loader(this)
  model = classifier.untrained(this, load)
  epoch = Batches(load(config.seed), config.batch_size, config.seed).steps(1)
  study.check(config, model, epoch)
  return study.Study(this, load)


if __name__ == '__main__':
  job.launch(Config, 'spectrum_preserving', prepare)
