"""Compress a trained network by tensor decompositions, fine-tune it, and report.

From a clone, after `make demo` or `pip install -e '.[experiments]'`. With no flags: trains a small
residual network on the digits inside scikit-learn, compresses it with nine schemes at four rates
and fine-tunes each (four minutes on two cores):

    python -m experiments.compress.main

CIFAR-10 with trained ResNet-32 weights (PyTorch naming):

    python -m experiments.compress.main --dataset=cifar10 --data_dir=DIR --weights=resnet32.npz \\
      --model=resnet32 --schemes=tk,cp --rates=0.1,0.2 --finetune_epochs=1

Results go to --workdir: report.json, summary.csv, accuracy_vs_compression.png, weights/.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import shlex
import signal
import sys
from collections.abc import Iterator

from absl import app, flags, logging

from experiments.common import data, results
from experiments.common.progress import Progress
from experiments.common.train import evaluate
from experiments.compress import network
from experiments.compress.config import Config, parse_rates
from experiments.compress.study import EVAL_BATCH, Study, check, table

_DATASET = flags.DEFINE_enum(
  'dataset', 'digits', ['digits', 'cifar10'], 'Data: the embedded 8x8 digits, or CIFAR-10.'
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, 'For cifar10: the folder cifar-10-batches-py, or the one that holds it.'
)
_DOWNLOAD = flags.DEFINE_bool(
  'download', False, 'Fetch CIFAR-10 into --data_dir if it is not there, checking its md5.'
)
_MODEL = flags.DEFINE_string(
  'model',
  None,
  'Network: resnet<depth> (He et al. v1, padded shortcuts) or resnet<depth>_v2 '
  '(pre-activation, projections), depth 8, 14, 20, 32, ... Default resnet8 for digits, resnet32 '
  'for cifar10.',
)
_WEIGHTS = flags.DEFINE_string(
  'weights',
  None,
  'Trained weights, .npz, .safetensors (or .th/.pt with torch installed), in '
  'PyTorch naming and OIHW layout. Without it the network is trained first.',
)
_EVAL = flags.DEFINE_string(
  'eval',
  None,
  'Only evaluate this weights file on the test images: one that a run saved under '
  'weights/, or one that --weights would take.',
)
_SCHEMES = flags.DEFINE_list(
  'schemes', 'svd,cp,tk,tt,tr,r_cp,r_tk,r_tt,shuffled', 'Schemes to try, comma-separated.'
)
_RATES = flags.DEFINE_list(
  'rates',
  '0.05,0.1,0.2,0.4',
  'Nominal rates to try: compressed / original size of a kernel, '
  'fractions in (0, 1], comma-separated. The report has the true ratios.',
)
_LAYERS = flags.DEFINE_string(
  'layers',
  'stages/.*',
  'Regular expression over the full NNX path of the layers to compress. '
  'The default takes every convolution but the first.',
)
_TRAIN_EPOCHS = flags.DEFINE_integer(
  'train_epochs',
  None,
  'Epochs of training without --weights. Default 15 for digits, 100 for cifar10.',
)
_TRAIN_LEARNING_RATE = flags.DEFINE_float(
  'train_learning_rate', 3e-3, 'Peak learning rate of training without --weights (AdamW, cosine).'
)
_FINETUNE_EPOCHS = flags.DEFINE_integer(
  'finetune_epochs', None, 'Epochs of fine-tuning per row. Default 5 for digits, 1 for cifar10.'
)
_FINETUNE_STEPS = flags.DEFINE_integer(
  'finetune_steps', None, 'Updates of fine-tuning per row, in place of --finetune_epochs.'
)
_LEARNING_RATE = flags.DEFINE_float(
  'learning_rate', 1e-3, 'Peak learning rate of fine-tuning (AdamW, cosine).'
)
_WEIGHT_DECAY = flags.DEFINE_float('weight_decay', 1e-4, 'Decoupled weight decay.')
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', None, 'Images per update. Default 64 for digits, 128 for cifar10.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder for the results; default a new one under results/. An old one is '
  'resumed if its configuration is the same, and refused otherwise.',
)
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of the split, initialisation, order, augmentation and random decompositions.'
)

_DEFAULTS = {
  'digits': {'model': 'resnet8', 'train_epochs': 15, 'finetune_epochs': 5, 'batch_size': 64},
  'cifar10': {'model': 'resnet32', 'train_epochs': 100, 'finetune_epochs': 1, 'batch_size': 128},
}


def main(argv: list[str]) -> None:
  """Evaluates or runs the study. Bad input is one line on stderr, found before any work."""
  logging.set_verbosity(logging.ERROR)  # orbax narrates every checkpoint
  progress = Progress()

  def interrupt(*_: object) -> None:
    progress.interrupted = True  # an exception inside one of XLA's callbacks would be lost
    raise KeyboardInterrupt

  signal.signal(signal.SIGINT, interrupt)
  try:
    with progress:
      with _one_line(ValueError):
        if len(argv) > 1:
          raise ValueError(f'unexpected argument {argv[1]!r}; flags start with --')
      if _EVAL.value is not None:
        _evaluate(progress)
      else:
        _study(progress)
  except KeyboardInterrupt as stop:
    print(str(stop) or 'interrupted before any row was started', file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)  # an orderly exit waits for, or crashes in, XLA's compiler threads


@contextlib.contextmanager
def _one_line(*kinds: type[Exception]) -> Iterator[None]:
  """Errors of these kinds, which the user can mend, end the program without a traceback."""
  try:
    yield
  except kinds as error:
    sys.exit(f'error: {error}')


def config_from_flags() -> Config:
  """The run that the command line asks for; raises ValueError where it makes no sense."""
  if _FINETUNE_EPOCHS.value is not None and _FINETUNE_STEPS.value is not None:
    raise ValueError('--finetune_epochs and --finetune_steps exclude each other')
  _check_data_flags()
  defaults = _DEFAULTS[_DATASET.value]

  def value(flag: flags.FlagHolder) -> object:
    return defaults[flag.name] if flag.value is None else flag.value

  return Config(
    dataset=_DATASET.value,
    model=value(_MODEL),
    weights=_WEIGHTS.value,
    weights_sha256=_sha256(_WEIGHTS.value),
    schemes=tuple(_SCHEMES.value),
    rates=parse_rates(_RATES.value),
    layers=_LAYERS.value,
    train_epochs=value(_TRAIN_EPOCHS),
    train_learning_rate=_TRAIN_LEARNING_RATE.value,
    finetune_epochs=value(_FINETUNE_EPOCHS) if _FINETUNE_STEPS.value is None else None,
    finetune_steps=_FINETUNE_STEPS.value,
    learning_rate=_LEARNING_RATE.value,
    weight_decay=_WEIGHT_DECAY.value,
    batch_size=value(_BATCH_SIZE),
    seed=_SEED.value,
  )


def _sha256(path: str | None) -> str | None:
  if path is None:
    return None
  if not pathlib.Path(path).is_file():
    raise FileNotFoundError(f'--weights={path} does not exist')
  return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _check_data_flags() -> None:
  if _DATASET.value == 'cifar10' and _DATA_DIR.value is None:
    raise ValueError('--dataset=cifar10 needs --data_dir')
  if _DATASET.value == 'digits' and (_DATA_DIR.value or _DOWNLOAD.value):
    raise ValueError('--data_dir and --download go with --dataset=cifar10; the digits are embedded')


def _load_data(progress: Progress, seed: int) -> data.Dataset:
  if _DATASET.value == 'digits':
    return data.digits(seed)
  if _DOWNLOAD.value:
    data.download_cifar10(_DATA_DIR.value, progress)
  return data.cifar10(_DATA_DIR.value, seed)


def _study(progress: Progress) -> None:
  workdir = _WORKDIR.value or results.new_workdir(f'compress_{_DATASET.value}')
  own = ['python', '-m', 'experiments.compress.main', *sys.argv[1:]]
  with contextlib.ExitStack() as stack:
    with _one_line(ValueError, OSError):
      config = config_from_flags()
      results.check_workdir(workdir, dataclasses.asdict(config))
      model = network.build(config.model, config.dataset, config.seed)
      if config.weights is not None:
        _check_seed(config.weights, config.seed)
        network.load(config.weights, model)
      check(config, model)
      dataset = _load_data(progress, config.seed)
      folder = stack.enter_context(results.open_workdir(workdir, dataclasses.asdict(config)))
      study = Study(config, dataset, model, folder, shlex.join(own), progress)
    progress.print(f'results in {workdir}')
    try:
      with _one_line(FloatingPointError, OSError):
        study.run()
    except KeyboardInterrupt:
      again = shlex.join(own if _WORKDIR.value else [*own, f'--workdir={workdir}'])
      count = len(study.report['rows'])
      raise KeyboardInterrupt(
        f'interrupted; {workdir} has {count} finished rows. To go on: {again}'
      ) from None
    finally:
      signal.signal(signal.SIGINT, signal.SIG_IGN)
      study.finish()
  progress.print(table(study.report))
  progress.print(f'wrote {workdir}/report.json, summary.csv, accuracy_vs_compression.png, weights/')


def _evaluate(progress: Progress) -> None:
  with _one_line(ValueError, OSError):
    for flag in (_WEIGHTS, _FINETUNE_EPOCHS, _FINETUNE_STEPS, _WORKDIR):
      if flag.value is not None:
        raise ValueError(f'--{flag.name} has no meaning beside --eval')
    _check_data_flags()
    about = network.description(_EVAL.value)
    if about is None:
      name = _MODEL.value or _DEFAULTS[_DATASET.value]['model']
      model = network.build(name, _DATASET.value, _SEED.value)
      network.load(_EVAL.value, model)
    else:
      for flag in (_DATASET, _MODEL):
        if flag.value not in (None, about[flag.name]):
          raise ValueError(
            f'--eval={_EVAL.value} is a network for --{flag.name}={about[flag.name]}, not '
            f'{flag.value}'
          )
      _check_seed(_EVAL.value, _SEED.value)
      model = network.restore(_EVAL.value)
    dataset = _load_data(progress, _SEED.value)
  accuracy = evaluate(model, dataset.test, dataset.scale, EVAL_BATCH, progress)
  progress.print(f'{_EVAL.value}: test accuracy {accuracy:.2%} on {len(dataset.test):,} images')


def _check_seed(path: str, seed: int) -> None:
  """The digits are split by the seed: another one would test on images that were trained on."""
  about = network.description(path)
  if about is not None and about['dataset'] == 'digits' and about['seed'] != seed:
    raise ValueError(
      f'{path} was trained with --seed={about["seed"]}, which decides the test images; this run '
      f'has --seed={seed}'
    )


if __name__ == '__main__':
  app.run(main)
