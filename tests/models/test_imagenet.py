import sys
import types
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

SMALL = {'widths': (4, 4, 8, 8, 8), 'pool': 2, 'hidden': (6, 5), 'num_classes': 3}


def small(seed=0, **options):
  return tn.models.vgg(11, **SMALL | options, rngs=nnx.Rngs(seed))


def size(build):
  net = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
  return sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))


@pytest.mark.parametrize(
  ('name', 'depth', 'options', 'params'),
  [
    ('vgg', 11, {}, 132_863_336),
    ('vgg', 11, {'norm': True}, 132_868_840),
    ('vgg', 16, {}, 138_357_544),
    ('vgg', 16, {'norm': True}, 138_365_992),
    ('vgg', 19, {}, 143_667_240),
    ('vgg', 16, {'norm': True, 'pool': 1, 'hidden': (), 'num_classes': 10}, 14_728_266),
    ('resnet', 18, {}, 11_689_512),
    ('resnet', 34, {}, 21_797_672),
    ('resnet', 50, {}, 25_557_032),
  ],
)
def test_parameters_are_those_of_the_published_networks(name, depth, options, params):
  build = getattr(tn.models, name)
  assert size(lambda rngs: build(depth, **options, rngs=rngs)) == params


def torch_arrays(net, timm=False):
  """The model's variables in PyTorch's naming and layout."""
  arrays, images = {}, dict(getattr(net, 'flattened', ()))
  for path, variable in nnx.to_flat_state(nnx.state(net, (nnx.Param, nnx.BatchStat))):
    path = '/'.join(map(str, path))
    names, a = tn.models.torch_names(path), np.asarray(variable[...])
    if a.ndim == 2:
      rows, columns, channels = images.get(path.rpartition('/')[0], (1, 1, len(a)))
      a = a.reshape(rows, columns, channels, -1)
      a = a.transpose(3, 2, 0, 1)
      a = a if timm and 'pre_logits' in names[-1] else a.reshape(len(a), -1)
    elif a.ndim == 4:
      a = a.transpose(3, 2, 0, 1)
    arrays[names[-1 if timm else 0]] = a
  return arrays


@pytest.mark.parametrize('timm', [False, True])
def test_weights_round_trip_and_dropout_keeps_its_key(timm):
  net, other = small(0), small(1)
  key = jax.random.key_data(other.classifier[2].rngs.key[...])
  arrays = torch_arrays(net, timm)
  if timm:
    assert arrays['pre_logits.fc1.weight'].shape == (6, 8, 2, 2)
    assert arrays['pre_logits.fc2.weight'].shape == (5, 6, 1, 1)
    assert arrays['head.fc.weight'].shape == (3, 5)
  tn.models.import_torch(other, arrays)
  x = jax.random.uniform(jax.random.key(0), (2, 64, 64, 3))
  np.testing.assert_array_equal(net(x), other(x))
  np.testing.assert_array_equal(jax.random.key_data(other.classifier[2].rngs.key[...]), key)


@pytest.mark.parametrize(
  ('build', 'layer'), [(tn.models.lenet, 'hidden'), (tn.models.cifar_quick, 'linear1')]
)
def test_small_networks_see_the_channels_of_pytorch(build, layer):
  net, other = build(rngs=nnx.Rngs(0)), build(rngs=nnx.Rngs(1))
  arrays = torch_arrays(net)
  image = dict(net.flattened)[layer]
  kernel = np.asarray(getattr(net, layer).kernel[...])
  x = np.random.default_rng(0).normal(size=image)
  ours, theirs = x.ravel() @ kernel, arrays[f'{layer}.weight'] @ x.transpose(2, 0, 1).ravel()
  np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
  tn.models.import_torch(other, arrays)
  jax.tree.map(np.testing.assert_array_equal, nnx.state(net), nnx.state(other))


def test_the_first_wrong_array_is_named_with_both_shapes():
  net = small()
  before = jax.tree.map(jnp.copy, nnx.state(net, nnx.Param))
  arrays = torch_arrays(net)
  with pytest.raises(ValueError, match=r"'classifier.0.weight' has shape \(6, 33\).*\(6, 32\)"):
    tn.models.import_torch(net, arrays | {'classifier.0.weight': np.zeros((6, 33))})
  with pytest.raises(ValueError, match=r"'classifier.3.weight' has shape \(5, 3, 2, 1\)"):
    tn.models.import_torch(net, arrays | {'classifier.3.weight': np.zeros((5, 3, 2, 1))})
  with pytest.raises(ValueError, match=r"'features.0.weight' has shape \(4, 1, 3, 3\)"):
    tn.models.import_torch(net, arrays | {'features.0.weight': np.zeros((4, 1, 3, 3))})
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(net, nnx.Param))


def test_pool_gives_means_of_regions_that_cover_the_image():
  from tnjax.models._vgg import _pooled

  x = jax.random.normal(jax.random.key(0), (2, 5, 7, 3))
  found = _pooled(x, 3)
  rows, columns = ((0, 2), (1, 4), (3, 5)), ((0, 3), (2, 5), (4, 7))
  for i, (a, b) in enumerate(rows):
    for j, (c, d) in enumerate(columns):
      wanted = x[:, a:b, c:d].mean((1, 2))
      np.testing.assert_allclose(found[:, i, j], wanted, rtol=1e-5, atol=1e-6)


def test_training_drops_units_anew_and_evaluation_none():
  net = small(norm=True)
  x = jax.random.uniform(jax.random.key(0), (4, 64, 64, 3))
  np.testing.assert_array_equal(net(x), net(x))
  first, second = net(x, train=True), net(x, train=True)
  assert (first != second).any()
  assert int(net.classifier[2].rngs.count[...]) == 2


@pytest.mark.parametrize('build', [small, lambda: small(norm=True)])
def test_a_compressed_network_survives_a_file(tmp_path, build):
  net = build()
  model, report = tn.compress(net, (('features/.*', tn.schemes.tk(rate=0.5)),))
  assert len(report.compressed) == 8
  tn.save(tmp_path / 'net.safetensors', model)
  found = tn.load(tmp_path / 'net.safetensors')
  x = jax.random.uniform(jax.random.key(0), (2, 64, 64, 3))
  np.testing.assert_array_equal(model(x), found(x))
  drawn = [jax.random.key_data(m.classifier[2].rngs.key[...]) for m in (model, found)]
  np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize('depth', [18])
def test_stages_of_a_resnet_chain_to_the_network(depth):
  net = tn.models.resnet(depth, num_classes=3, rngs=nnx.Rngs(0))
  x = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
  y = x
  for index in range(4):
    y = tn.models.ResNet.stage(net, y, index)
  np.testing.assert_array_equal(net.fc(y.mean((1, 2))), net(x))


def test_weights_of_hugging_face(tmp_path, monkeypatch):
  from safetensors.numpy import save_file

  save_file({'a': np.ones(2, 'f4')}, tmp_path / 'model.safetensors')
  asked = []
  fake = types.SimpleNamespace(hf_hub_download=lambda *a: asked.append(a) or tmp_path / a[1])
  monkeypatch.setitem(sys.modules, 'huggingface_hub', fake)
  np.testing.assert_array_equal(tn.models.read_weights('hf:timm/vgg16.tv_in1k')['a'], np.ones(2))
  assert asked == [('timm/vgg16.tv_in1k', 'model.safetensors')]

  def offline(*_):
    raise OSError('no network')

  fake.hf_hub_download = offline
  with pytest.raises(ValueError, match='hf:timm/vgg16.tv_in1k cannot be fetched: no network'):
    tn.models.read_weights('hf:timm/vgg16.tv_in1k')
  monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
  with pytest.raises(ValueError, match='need the package huggingface_hub'):
    tn.models.read_weights('hf:timm/vgg16.tv_in1k')


@pytest.mark.parametrize(
  ('build', 'words'),
  [
    (lambda r: tn.models.vgg(12, rngs=r), 'depth=12 must be one of 11, 13, 16, 19'),
    (lambda r: tn.models.vgg(11, widths=(4, 4), rngs=r), 'widths=.* must be five'),
    (lambda r: tn.models.vgg(11, hidden=(0,), rngs=r), 'hidden'),
    (lambda r: tn.models.resnet(20, rngs=r), 'depth=20 must be one of 18, 34'),
    (lambda r: small()(jnp.ones((1, 64, 64, 3), 'uint8')), r'uint8\(1, 64, 64, 3\); it needs fl'),
    (lambda r: small()(jnp.ones((64, 64, 3))), r'\(64, 64, 3\); it needs floats'),
    (lambda r: small()(jnp.ones((1, 16, 16, 3))), r'\(1, 16, 16, 3\); the pools leave nothing'),
    (lambda r: small()(jnp.ones((1, 64, 64, 1))), r'\(1, 64, 64, 1\); it needs 3 channels'),
  ],
)
def test_bad_options_and_images(build, words):
  with pytest.raises(ValueError, match=words):
    build(nnx.Rngs(0))


@pytest.mark.parametrize(
  ('name', 'build'),
  [
    ('vgg11', partial(tn.models.vgg, 11)),
    ('vgg16_bn', partial(tn.models.vgg, 16, norm=True)),
    ('alexnet', tn.models.alexnet),
    ('resnet18', partial(tn.models.resnet, 18)),
    ('resnet34', partial(tn.models.resnet, 34)),
    ('resnet50', partial(tn.models.resnet, 50)),
  ],
)
def test_outputs_are_torchvisions(name, build):
  torchvision = pytest.importorskip('torchvision')
  import torch

  torch.manual_seed(0)
  theirs = getattr(torchvision.models, name)(weights=None, num_classes=10).eval()
  with torch.no_grad():
    for key, value in theirs.state_dict().items():  # statistics that a norm would notice
      if key.endswith(('running_mean', 'running_var')):
        value.copy_(torch.rand_like(value) + 0.5)
  ours = nnx.eval_shape(lambda: build(num_classes=10, rngs=nnx.Rngs(0)))
  arrays = {k: v.numpy() for k, v in theirs.state_dict().items()}
  tn.models.import_torch(ours, arrays)
  images = np.random.default_rng(0).uniform(size=(2, 224, 224, 3)).astype('f4')
  inputs = (images - ours.mean) / ours.std
  with torch.no_grad():
    wanted = theirs(torch.tensor(inputs.transpose(0, 3, 1, 2), dtype=torch.float32)).numpy()
  found = jax.jit(lambda x: ours(x))(images)
  np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
