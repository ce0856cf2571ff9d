"""T-Net: a stacked hourglass whose kernels are one low-rank tensor, against networks of its size.

From a clone, after `make demo` or `pip install -e '.[experiments]'`, in about a minute:

    python -m experiments.pose.main --preset=smoke

With Leeds Sports Pose Extended (joints.mat and images/ in DIR, or in DIR/lspet):

    python -m experiments.pose.main --preset=reduced --data_dir=DIR

Without --data_dir the people are rendered stick figures. Trains the dense hourglass, compresses it
to equal sizes by T-Net (Tucker, MPS), layer by layer and by fewer features, and fine-tunes; then
every mode of the tensor alone. Kossaifi et al. 2019, arXiv 1904.02698.

Results go to --workdir: report.json, summary.csv, accuracy_vs_compression.png, modes.png, pck.png,
skeletons.png, metrics.jsonl, loss.png, weights/, predictions/.
"""

from experiments.classifier.config import check_batch
from experiments.common import job
from experiments.pose.config import Config
from experiments.pose.inputs import loader
from experiments.pose.study import Study, check


def prepare(this: job.Job) -> Study:
  """Checks all there is to check, what is quickly told first, and returns the study."""
  this.check()
  load = loader(this)
  study = Study(this, load, check(this.config))  # locks the folder, and only then decodes images
  check_batch(this, load)
  return study


if __name__ == '__main__':
  job.launch(Config, 'pose', prepare)
