"""Randomly-shuffled tensor decomposition (RsTD) against the ordinary one (TD): paper D.

From a clone, after `make demo` or `pip install -e '.[experiments]'`:

    python -m experiments.shuffled.main --preset=smoke
    python -m experiments.shuffled.main --preset=reduced --data_dir=DIR

The second needs CIFAR-10 (the folder cifar-10-batches-py in DIR; --download fetches it); without,
`--studies=grid,shared,similarity` leaves that part out.

Only the abstract of the paper (Li et al. 2018, arXiv 1810.13098) is known to this project: what is
tested are its two claims, under a working definition of our own, never its figures.

Results go to --workdir: report.json, summary.csv, accuracy_*.png, stability.png, similarity.png,
and a folder of weights and metrics for every dense network.
"""

from experiments.common import job
from experiments.shuffled.config import Config
from experiments.shuffled.networks import Networks
from experiments.shuffled.study import Study


def prepare(this: job.Job) -> Study:
  """Checks all there is to check and returns the study."""
  this.check()
  return Study(this, Networks(this))


if __name__ == '__main__':
  job.launch(Config, 'shuffled', prepare)
