"""Compress the convolutions and the dense part of a VGG, fine-tune it, and report.

From a clone, after `pip install -e '.[experiments]'`; trains VGG-16 at a quarter of the width on
CIFAR-10 first (about an hour on two cores), then compresses it in three parts at three rates:

    python -m experiments.vgg.main --data_dir=DIR [--download]

TensorNet's Table 2 with its columns of errors, for who has ImageNet and torchvision's weights:

    python -m experiments.vgg.main --preset=paper --data_dir=DIR --weights=vgg16.safetensors

Results go to --workdir, as those of `experiments.compress`: report.json, summary.csv,
accuracy_vs_compression.png, metrics.jsonl, loss.png, weights/.
"""

from experiments.common import job
from experiments.compress.main import prepare
from experiments.vgg.config import Config

if __name__ == '__main__':
  job.launch(Config, 'vgg', prepare)
