"""The networks of the jobs: built by name, loaded from files of all kinds, damaged files told."""

import json
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import tnjax as tn
from experiments.classifier import network


def test_bad_networks():
  for name in ('vgg', 'resnet9', 'resnet8_v3'):
    with pytest.raises(ValueError, match=f'--model={name}'):
      network.build(name, 'digits', 0)
  for name, dataset in (('resnet8', 'mnist'), ('lenet', 'digits'), ('mlp', 'cifar10')):
    with pytest.raises(ValueError, match=f'--model={name} must be'):
      network.build(name, dataset, 0)
  with pytest.raises(ValueError, match='or vgg11, 13, 16, 19, each also with _quarter'):
    network.build('vgg12', 'cifar10', 0)
  with pytest.raises(ValueError, match='mean=.* and std=.* must have an entry each'):
    network.build('resnet8', 'cifar10', 0, mean=(0.5, 0.5))
  for name in ('lenet', 'mlp'):
    assert network.build(name, 'mnist', 0)(jnp.ones((1, 28, 28, 1))).shape == (1, 10)


@pytest.mark.parametrize(
  ('name', 'params', 'dense'),
  [('vgg16_bn', 14_728_266, 1), ('vgg16_plain', 14_719_818, 1), ('vgg16', 16_865_354, 2)],
)
def test_common_networks_for_cifar10(name, params, dense):
  """A convolutional part of 14,714,688 weights and biases, 8,448 of batch norm, and the head."""
  statistics = {'mean': (0.4914, 0.4822, 0.4465), 'std': (0.2470, 0.2435, 0.2616)}
  model = nnx.eval_shape(lambda: network.build(name, 'cifar10', 0, **statistics))
  assert sum(v.size for v in jax.tree.leaves(nnx.state(model, nnx.Param))) == params
  assert sum(p.startswith('classifier/') for p in tn.compression.walk(model)) == dense
  assert (model.mean, model.std) == tuple(statistics.values())


def test_version_one_with_projections():
  model = nnx.eval_shape(lambda: network.build('resnet20_projection', 'cifar10', 0))
  ones = [p for p, place in tn.compression.walk(model).items() if place.shape[:2] == (1, 1)]
  assert len(ones) == 2
  plain = nnx.eval_shape(lambda: network.build('resnet20', 'cifar10', 0))
  assert len(tn.compression.walk(model)) == len(tn.compression.walk(plain)) + 2


@pytest.mark.parametrize('name', ['resnet14', 'resnet14_projection', 'resnet14_v2'])
def test_a_file_without_notes_is_known_by_its_blocks(tmp_path, name):
  tn.save(tmp_path / 'a.safetensors', network.build(name, 'digits', 0))
  assert network.guess(tmp_path / 'a.safetensors') == name


NOTES = {
  'dataset': 'digits', 'model': 'resnet8', 'seed': 0, 'layers': 'stages/.*', 'scheme': None,
  'rate': None,
}  # fmt: skip


def old_file(path, model, about):
  """As the job wrote them before there was tn.save."""
  state = nnx.to_flat_state(nnx.state(model))
  arrays = {'/'.join(map(str, name)): np.asarray(v[...]) for name, v in state}
  arrays = {k: v for k, v in arrays.items() if not k.endswith('index_key')}
  save_file(arrays, path, {'tnjax': json.dumps(about)})


@pytest.fixture(scope='module')
def eight():
  return network.build('resnet8', 'digits', 0)


def test_files_of_all_kinds_load(tmp_path, eight):
  small, _ = tn.compress(eight, (('stages/2/0/.*', tn.schemes.svd(rate=0.2)),))
  svd = NOTES | {'scheme': 'svd', 'rate': 0.2, 'layers': 'stages/2/0/.*'}
  tn.save(tmp_path / 'new.safetensors', small, notes=svd)
  old_file(tmp_path / 'old.safetensors', small, svd)
  tn.save(tmp_path / 'user.safetensors', small, notes={'epoch': 3})
  other = network.build('resnet8', 'digits', 1)
  for name, notes in (('new', svd), ('old', svd), ('user', None)):
    path = tmp_path / f'{name}.safetensors'
    assert network.description(path) == notes
    found = network.load(path, other)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(found), nnx.state(small))
    with pytest.raises(ValueError, match=f"{name}.*'stages/2/0/conv1' is compressed already"):
      network.check_dense(path, found)


def test_damaged_weights_name_file_and_array(tmp_path, eight):
  bad = nnx.clone(eight)
  bad.conv.kernel[...] = bad.conv.kernel[...].at[0, 0, 0, 0].set(jnp.nan)
  path = tmp_path / 'a.safetensors'
  tn.save(path, bad, notes=NOTES)
  with pytest.raises(ValueError, match=r"a.safetensors.*'conv/kernel'.*NaN"):
    network.load(path, eight)
  content = bytearray(path.read_bytes())
  content[-9] ^= 1
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"a.safetensors.*'stages/.*sha256"):
    network.load(path, eight)
  old_file(path, eight, {'dataset': 'digits'})
  with pytest.raises(ValueError, match='a.safetensors has a damaged description'):
    network.description(path)
  for notes in (3, [], NOTES | {'model': 3}, NOTES | {'seed': 'x'}):
    tn.save(path, eight)
    old_file(path, eight, tn.compression.describe(path) | {'notes': notes, 'format': 0})
    with pytest.raises(ValueError, match='a.safetensors has a damaged description'):
      network.description(path)
  np.savez(tmp_path / 'b.npz', **{'conv1.weight': np.full((32, 1, 3, 3), np.inf)})
  assert network.description(tmp_path / 'b.npz') is None
  with pytest.raises(ValueError, match=r"b.npz.*'conv1.weight'.*NaN or infinities"):
    network.load(tmp_path / 'b.npz', eight)


def test_weights_of_another_architecture_name_both_shapes(tmp_path, eight):
  tn.save(tmp_path / 'a.safetensors', eight, notes=NOTES)
  with pytest.raises(ValueError, match=r"'conv/kernel'.*\(3, 3, 1, 32\).*\(3, 3, 3, 16\)"):
    network.load(tmp_path / 'a.safetensors', network.build('resnet8', 'cifar10', 0))


def test_resnet32_scores_what_it_should(shared_data):
  """The trained network of the data folder, from our own model: 92.63 % on the first thousand.

  The whole test set takes a minute on two cores; a thousand images tell a wrong model apart.
  """
  images = runpy.run_path(str(shared_data / 'unpack.py'))['images']('test', 1)[:1000]
  labels = np.load(shared_data / 'cifar10' / 'labels.npz')['y_test'][:1000]
  model = network.build('resnet32', 'cifar10', 0)
  model = network.load(shared_data / 'weights' / 'resnet32.npz', model)
  graph, state = nnx.split(model)
  predict = jax.jit(lambda state, images: nnx.merge(graph, state)(images).argmax(-1))
  hits = np.asarray(predict(state, (images / 255.0).astype('float32'))) == labels
  assert hits.mean() == pytest.approx(0.9263, abs=0.02)
  table = tn.compression.plan(
    model, (('stages/.*', tn.schemes.svd(rate=0.1)),), input_shape=(32, 32, 3)
  )
  assert table.dense_params == 464154
  assert sum(row.dense_params for row in table.compressed) == 460800
