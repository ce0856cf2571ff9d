"""MUSCO's question (Gusak et al. 2019, arXiv 1903.09973): several gentle passes, or one shot?

From a clone, after `make demo` or `pip install -e '.[experiments]'`:

    python -m experiments.musco.main --preset=smoke
    python -m experiments.musco.main --dataset=cifar10 --data_dir=DIR --weights=resnet32.npz

All rows of a size end at the same ranks and take the same number of updates. Results go to
--workdir: report.json, summary.csv, path.png, accuracy.png.
"""

import tnjax as tn
from experiments.classifier import config as classifier
from experiments.common import job
from experiments.musco import study
from experiments.musco.config import Config


def prepare(this: job.Job) -> study.Study:
  """Checks all there is to check and returns the study."""
  config = this.config
  if this.mesh is not None:
    raise ValueError('--mesh and --distributed are not for this job; leave them out')
  this.check()
  load = classifier.loader(this)
  model = classifier.untrained(this, load)
  tn.compression.Schedule(config.groups).check(model)
  study.reachable(config, model, load(config.seed).image_shape)
  return study.Study(this, load)


if __name__ == '__main__':
  job.launch(Config, 'musco', prepare)
