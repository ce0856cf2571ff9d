"""ImageNet in the jobs: networks by name, flags, and a run on a few generated JPEGs."""

import contextlib
import functools
import json
import re
import sys
import types

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import tnjax as tn
from experiments.classifier import config as classifier
from experiments.classifier import network
from experiments.common import job, mesh, stream
from experiments.common.config import parse
from experiments.common.metrics import Metrics
from experiments.common.progress import Progress
from experiments.compress import config as compress
from experiments.compress.study import Study
from experiments.musco import config as musco
from tests.experiments.image_files import DAMAGED, needs_grain, write


@pytest.mark.parametrize('name', ['vgg11', 'vgg16_bn', 'alexnet', 'resnet18', 'resnet50'])
def test_the_default_layers_are_all_convolutions_but_the_first(name):
  model = nnx.eval_shape(lambda: network.build(name, 'imagenet', 0, num_classes=7))
  places = tn.compression.walk(model)
  pattern = re.compile(network.layers(name, 'imagenet'))
  kernels = [path for path, place in places.items() if len(place.shape) == 4]
  assert [path for path in places if pattern.fullmatch(path)] == kernels[1:]
  assert [place.shape[-1] for place in places.values()].count(7) == 1  # the output


def test_names_are_those_of_the_data_set():
  for name in ('resnet32', 'vgg17', 'resnet18_v2', 'lenet'):
    with pytest.raises(ValueError, match=f'--model={name} must be one of vgg11, .*, for imagenet'):
      network.build(name, 'imagenet', 0)


def resolved(kind, *flags):
  return parse(kind, ['main', '--dataset=imagenet', '--data_dir=x', *flags], '')


def test_defaults_and_flags():
  found = resolved(compress.Config)
  assert (found.model, found.layers, found.batch_size) == ('vgg16', 'features/(?!0$).*', 128)
  assert resolved(compress.Config, '--layers=classifier/.*').layers == 'classifier/.*'
  assert resolved(musco.Config, '--model=alexnet').groups == ('features/(?!0$).*',)
  groups = resolved(musco.Config, '--model=resnet34').groups
  assert groups == ('layer4/.*', 'layer3/.*', 'layer2/.*', 'layer1/.*')
  for flags, words in {
    ('--dataset=imagenet',): '--dataset=imagenet needs --data_dir',
    ('--dataset=imagenet', '--data_dir=x', '--download'): '--download: ImageNet is given out',
    ('--workers=2',): '--workers goes with --dataset=imagenet',
    (
      '--mean=0.5',
      '--data_dir=x',
      '--dataset=cifar10',
    ): 'must have an entry for each of 3 channels',
    ('--std=0.5', '--data_dir=x', '--dataset=mnist'): '--std is not for mnist',
    ('--std=0',): '--std=0.0 must be above 0',
    ('--image_size=64',): '--image_size goes with --dataset=imagenet',
    (
      '--dataset=imagenet',
      '--data_dir=x',
      '--image_size=63',
    ): '--image_size=63 must be at least 64',
  }.items():
    with pytest.raises(ValueError, match=words):
      parse(compress.Config, ['main', *flags], '')


NOTES = {
  'dataset': 'imagenet', 'model': 'vgg11', 'seed': 0, 'layers': '.*', 'scheme': None, 'rate': None
}  # fmt: skip


def test_images_are_of_the_size_of_the_training(tmp_path):
  assert resolved(compress.Config).image_size == 224  # so that a flag may say so later
  model = network.build('resnet8', 'digits', 0)
  for size in (96, None):  # None: from before it was noted
    notes = NOTES if size is None else NOTES | {'image_size': size}
    tn.save(tmp_path / f'{size}.safetensors', model, notes=notes)
  flags = ['main', '--data_dir=x', f'--eval={tmp_path}/96.safetensors']
  assert parse(compress.Config, flags, '').image_size == 96
  assert parse(compress.Config, [*flags, '--image_size=96'], '').image_size == 96
  with pytest.raises(ValueError, match='was trained with --image_size=96, not 224'):
    parse(compress.Config, [*flags, '--image_size=224'], '')
  flags[2] = f'--eval={tmp_path}/None.safetensors'
  assert parse(compress.Config, [*flags, '--image_size=128'], '').image_size == 128
  tn.save(tmp_path / 'a.safetensors', model, notes=NOTES | {'image_size': 'x'})
  with pytest.raises(ValueError, match='a.safetensors has a damaged description'):
    network.description(tmp_path / 'a.safetensors')


class Open:
  """Stands for the workers of a stream."""

  count = 0

  def __init__(self, *_):
    self.next, self._open = 0, False

  def __call__(self, number):
    Open.count += not self._open
    self._open = True

  def close(self):
    Open.count -= self._open
    self._open = False


@needs_grain
def test_no_workers_outlive_the_job_whichever_seed_they_are_of(tmp_path, monkeypatch):
  monkeypatch.setattr(stream, 'Stream', Open)
  config = resolved(compress.Config, f'--data_dir={write(tmp_path)}', '--seeds=0,1')
  with Progress(quiet=True) as progress, contextlib.ExitStack() as stack:
    this = job.Job(config, progress, None, ['main'], 'x', stack)
    load = classifier.loader(this)
    old = load(0)
    list(old.test.batches(5))
    new = load(1)
    assert Open.count == 0
    for folder in (new, old):
      list(folder.test.batches(5))
    assert Open.count == 2
  assert Open.count == 0


@needs_grain
def test_a_job_that_chooses_does_so_on_images_that_weights_of_others_do_not_know(tmp_path):
  folder = write(tmp_path)
  tn.save(tmp_path / 'others.safetensors', network.build('resnet8', 'digits', 0))
  flags = [f'--data_dir={folder}', '--model=resnet18', '--workers=0']

  def files(kind, *more):
    config = resolved(kind, *flags, *more)
    with Progress(quiet=True) as progress, contextlib.ExitStack() as stack:
      this = job.Job(config, progress, None, ['main'], 'x', stack)
      found = classifier.loader(this)(config.seed)
      return [set(split.files.names.tolist()) for split in (found.validation, found.test)]

  weights = f'--weights={tmp_path}/others.safetensors'
  test = files(compress.Config, weights)[1]
  assert files(musco.Config)[1] == test  # trained here
  tn.save(
    tmp_path / 'ours.safetensors', network.build('resnet8', 'digits', 0), notes=NOTES | {'seed': 1}
  )
  for more in ((weights,), (f'--weights={tmp_path}/ours.safetensors',)):  # of another seed
    validation, rest = files(musco.Config, *more)
    assert validation | rest == test
    assert not validation & rest
    assert validation
  assert files(musco.Config, more[0], '--seed=1')[1] == test


def test_statistics_of_a_file_of_ours_are_taken_over(tmp_path):
  model, half = network.build('resnet8', 'digits', 0), (0.5, 0.5, 0.5)
  for name, notes in (('a', {'mean': half, 'std': half}), ('b', {})):
    tn.save(tmp_path / f'{name}.safetensors', model, notes=NOTES | notes)
  a, b = (f'{tmp_path}/{name}.safetensors' for name in 'ab')
  assert resolved(compress.Config, f'--weights={a}').mean == half
  assert resolved(compress.Config, f'--weights={b}').mean is None
  assert parse(compress.Config, ['main', f'--eval={a}', '--data_dir=x'], '').std == half
  flags = '--mean=0.5,0.5,0.5', '--std=0.5,0.5,0.5'
  assert resolved(compress.Config, f'--weights={a}', *flags).mean == half
  with pytest.raises(ValueError, match='b.safetensors was trained with --mean=its default, not'):
    resolved(compress.Config, f'--weights={b}', *flags)
  with pytest.raises(ValueError, match='b.safetensors was trained with --mean=its default, not'):
    parse(compress.Config, ['main', f'--eval={b}', '--data_dir=x', *flags], '')


def test_weights_of_hugging_face_are_a_file_with_a_digest(tmp_path, monkeypatch):
  save_file({'a': np.ones(2, 'f4')}, tmp_path / 'model.safetensors')
  fake = types.SimpleNamespace(hf_hub_download=lambda *a: tmp_path / a[1])
  monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)
  flags = ('--weights=hf:timm/vgg16.tv_in1k', '--model=vgg16')
  found = resolved(compress.Config, *flags)
  plain = resolved(compress.Config, f'--weights={tmp_path}/model.safetensors', '--model=vgg16')
  assert found.weights == 'hf:timm/vgg16.tv_in1k'  # and no path of this machine
  assert found.weights_sha256 == plain.weights_sha256
  flags = ['main', '--eval=hf:a/b', '--dataset=imagenet', '--data_dir=x']
  assert parse(compress.Config, [*flags, '--model=vgg16'], '').eval == 'hf:a/b'
  with pytest.raises(ValueError, match='does not say which network it is of; add --model'):
    parse(compress.Config, flags, '')
  model = network.build('resnet8', 'digits', 0)
  tn.save(tmp_path / 'model.safetensors', model, notes=NOTES | {'image_size': 64})
  assert network.description('hf:a/b')['image_size'] == 64
  assert network.load('hf:a/b', model)
  assert network.guess('hf:a/b') == 'resnet8'

  def offline(*_):
    raise OSError('no network')

  fake.hf_hub_download = offline
  for flag in ('weights', 'eval'):
    with pytest.raises(ValueError, match=f'^--{flag}: weights hf:a/b cannot .*: no network$'):
      parse(compress.Config, ['main', f'--{flag}=hf:a/b'], '')


@pytest.fixture
def small(monkeypatch):
  """A VGG-11 that computes in no time, in place of the real one."""
  build = functools.partial(tn.models.vgg, 11, widths=(4, 4, 8, 8, 8), pool=1, hidden=(6,))
  monkeypatch.setitem(network._NAMED['imagenet'], 'vgg11', build)
  return build


def test_weights_for_another_number_of_classes_name_the_array(small, tmp_path):
  np.savez(tmp_path / 'a.npz', **torch_arrays(small(num_classes=5, rngs=nnx.Rngs(0))))
  model = network.build('vgg11', 'imagenet', 0, num_classes=5)
  assert network.load(tmp_path / 'a.npz', model)
  words = r"a.npz: weights array 'classifier.3.bias' has shape \(5,\); the model needs \(3,\)"
  with pytest.raises(ValueError, match=words):
    network.load(tmp_path / 'a.npz', network.build('vgg11', 'imagenet', 0, num_classes=3))


def torch_arrays(model):
  state = nnx.to_flat_state(nnx.state(model, nnx.Param))
  named = {tn.models.torch_names('/'.join(map(str, p)))[0]: np.asarray(v[...]) for p, v in state}
  return {n: a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T for n, a in named.items()}


@needs_grain
def test_a_run_leaves_out_what_is_damaged_and_knows_its_data(small, tmp_path, capsys):
  root = write(tmp_path / 'images')
  flags = [f'--data_dir={root}', '--workers=0', '--image_size=64', '--model=vgg11']
  flags += ['--batch_size=6', '--train_epochs=2', '--finetune_steps=0', '--schemes=svd']
  flags += ['--rates=0.3', f'--workdir={tmp_path / "run"}']

  @contextlib.contextmanager
  def study():
    config = parse(compress.Config, ['main', '--dataset=imagenet', *flags], '')
    with Progress() as progress, contextlib.ExitStack() as stack:
      this = job.Job(config, progress, mesh.make('data:2'), ['main'], config.workdir, stack)
      yield Study(this, classifier.loader(this))

  with study() as found:
    found.run()
    found.finish()
  report = json.loads((tmp_path / 'run' / 'report.json').read_text())
  (baseline,) = report['baselines']
  assert baseline['skipped'] == [DAMAGED]
  assert capsys.readouterr().out.count(f'skipped {DAMAGED}: ') == 1
  assert 0 <= baseline['accuracy'] * 12 == round(baseline['accuracy'] * 12)
  (row,) = report['rows']
  assert set(row['ranks']) <= {f'features/{i}' for i in (3, 6, 8, 11, 13, 16, 18)}
  assert row['ranks']
  assert row['macs'] < report['baseline']['macs']
  assert network.description(tmp_path / 'run/weights/baseline.safetensors')['image_size'] == 64
  lines = Metrics(tmp_path / 'run' / 'metrics.jsonl').read()
  assert [(x['phase'], x['step']) for x in lines] == [('train', 0), ('train', 5)]
  with study() as found:
    assert found.state() == '1 of 1 rows'
  (root / 'val/n01/new.JPEG').write_bytes((root / 'val/n01/n01_3.JPEG').read_bytes())
  with pytest.raises(ValueError, match='the data are not those of the results'), study():
    pass
