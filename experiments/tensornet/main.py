"""Tensorizing Neural Networks (Novikov et al., NIPS 2015): its studies, beside the printed figures.

    python -m experiments.tensornet.main --preset=reduced --data_dir=DIR [--download]

Exact counts and inference times need no data:

    python -m experiments.tensornet.main --study=counts,inference

Results go to --workdir: report.json, a table and a figure a study, metrics.jsonl, weights/.
"""

from experiments.common import job
from experiments.tensornet.config import Config
from experiments.tensornet.study import Study

if __name__ == '__main__':
  job.launch(Config, 'tensornet', Study)
