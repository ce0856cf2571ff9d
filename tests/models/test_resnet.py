import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn


def kernels(net):
  state = nnx.to_flat_state(nnx.state(net, nnx.Param))
  return {'/'.join(map(str, p)): v.shape for p, v in state if p[-1] == 'kernel'}


def count(shapes):
  return sum(int(np.prod(s)) for s in shapes)


@pytest.mark.parametrize(
  ('version', 'shortcut', 'number', 'weights'),
  [(1, 'pad', 30, 460800), (2, 'projection', 33, 463616), (2, 'pad', 30, 460800)],
)
def test_resnet32_has_the_kernels_of_the_paper(version, shortcut, number, weights):
  net = nnx.eval_shape(lambda: tn.models.cifar_resnet(32, version, shortcut, rngs=nnx.Rngs(0)))
  inside = {p: s for p, s in kernels(net).items() if p.startswith('stages/')}
  assert len(inside) == number
  assert count(inside.values()) == weights
  params = sum(v.size for v in jax.tree.leaves(nnx.state(net, nnx.Param)))
  if version == 1:
    assert params == 464154


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('shortcut', ['pad', 'projection'])
def test_training_mode_updates_batch_statistics_alone(version, shortcut):
  net = tn.models.cifar_resnet(8, version, shortcut, widths=(4, 4, 8), rngs=nnx.Rngs(0))
  x = jax.random.uniform(jax.random.key(0), (4, 16, 16, 3))
  before = jax.tree.map(jnp.copy, nnx.state(net))
  assert net(x).shape == (4, 10)
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(net))
  net(x, train=True)
  stats, params = nnx.state(net, nnx.BatchStat), nnx.state(net, nnx.Param)
  old_stats, old_params = nnx.split_state(before, nnx.BatchStat, nnx.Param)
  jax.tree.map(np.testing.assert_array_equal, old_params, params)
  assert any((a != b).any() for a, b in zip(jax.tree.leaves(stats), jax.tree.leaves(old_stats)))


def test_normalisation_belongs_to_the_model():
  net = tn.models.cifar_resnet(8, widths=(4, 4, 4), mean=(0.5,), std=(0.25,), rngs=nnx.Rngs(0))
  plain = tn.models.cifar_resnet(8, widths=(4, 4, 4), mean=(0.0,), std=(1.0,), rngs=nnx.Rngs(0))
  x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 1))
  np.testing.assert_allclose(net(x), plain((x - 0.5) / 0.25), rtol=1e-4, atol=1e-5)


def test_pad_shortcut_is_option_a():
  from tnjax.models._resnet import _pad_shortcut

  x = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
  y = _pad_shortcut(x, 2, 16)
  np.testing.assert_array_equal(y[..., 4:12], x[:, ::2, ::2])
  assert (y[..., :4] == 0).all()
  assert (y[..., 12:] == 0).all()


def torch_arrays(net):
  """The model's variables in PyTorch naming and layout."""
  arrays = {}
  for path, variable in nnx.to_flat_state(nnx.state(net)):
    a = np.asarray(variable[...])
    a = a.transpose(3, 2, 0, 1) if a.ndim == 4 else a.T
    arrays[tn.models.torch_names('/'.join(map(str, path)))[0]] = a
  return arrays


@pytest.mark.parametrize('shortcut', ['pad', 'projection'])
@pytest.mark.parametrize('suffix', ['.npz', '.safetensors'])
def test_weights_round_trip(tmp_path, shortcut, suffix):
  from safetensors.numpy import save_file

  options = {'shortcut': shortcut, 'widths': (4, 4, 8)}
  net = tn.models.cifar_resnet(8, **options, rngs=nnx.Rngs(0))
  arrays = {f'module.{k}': np.ascontiguousarray(a) for k, a in torch_arrays(net).items()}
  path = tmp_path / f'w{suffix}'
  np.savez(path, **arrays) if suffix == '.npz' else save_file(arrays, path)
  other = tn.models.cifar_resnet(8, **options, rngs=nnx.Rngs(1))
  tn.models.import_torch(other, tn.models.read_weights(path))
  jax.tree.map(np.testing.assert_array_equal, nnx.state(net), nnx.state(other))


def test_weights_of_another_architecture_are_refused_unchanged():
  net = tn.models.cifar_resnet(8, widths=(4, 4, 8), rngs=nnx.Rngs(0))
  before = jax.tree.map(jnp.copy, nnx.state(net))
  wide = torch_arrays(tn.models.cifar_resnet(8, widths=(4, 8, 8), rngs=nnx.Rngs(0)))
  deep = torch_arrays(tn.models.cifar_resnet(14, widths=(4, 4, 8), rngs=nnx.Rngs(0)))
  with pytest.raises(ValueError, match=r"'layer2.0.\S+' has shape \(8.*needs \(4"):
    tn.models.import_torch(net, wide)
  with pytest.raises(ValueError, match=r"'layer1.1.\S+' has shape .* no variable"):
    tn.models.import_torch(net, deep)
  missing = torch_arrays(net)
  missing.pop('linear.bias')
  with pytest.raises(ValueError, match=r"no array 'linear.bias'.*\(10,\)"):
    tn.models.import_torch(net, missing)
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(net))


@pytest.mark.parametrize(
  ('name', 'change', 'words'),
  [
    ('conv1.weight', lambda a: a.astype(int), 'dtype int64'),
    ('conv1.weight', lambda a: a > 0, 'dtype bool'),
    ('linear.bias', lambda a: a + 1j, 'dtype complex'),
    ('linear.weight', lambda a: a + np.float64(1e300), '1e.300, too large for float32'),
    ('linear.weight', lambda a: a * np.nan, 'has NaN or infinities'),
    ('layer1.0.bn1.running_var', lambda a: -a, 'has a negative variance, -1'),
  ],
)  # fmt: skip
def test_weights_that_cannot_be_weights_are_refused_by_name(name, change, words):
  net = tn.models.cifar_resnet(8, widths=(4, 4, 8), rngs=nnx.Rngs(0))
  before = jax.tree.map(np.asarray, nnx.state(net))
  arrays = torch_arrays(net)
  with pytest.raises(ValueError, match=f"'{name}'.* {words}"):
    tn.models.import_torch(net, arrays | {name: change(arrays[name])})
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(net))
  double = {k: a.astype('float64') for k, a in arrays.items()}  # is no reason to refuse
  tn.models.import_torch(net, double | {'bn1.num_batches_tracked': np.array(7)})
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(net))


def test_text_and_records_are_no_weights(tmp_path):
  path = tmp_path / 'a.npz'
  for array in (np.array(['a']), np.array([b'a']), np.zeros(2, 'f4,i4'), np.zeros(2, 'M8[D]')):
    np.savez(path, **{'conv1.weight': array})
    with pytest.raises(ValueError, match=r"a.npz.*'conv1.weight' is of .*, not of numbers"):
      tn.models.read_weights(path)
  np.save(tmp_path / 'b.npy', np.ones(3))
  with pytest.raises(ValueError, match='one .npy array'):
    tn.models.read_weights((tmp_path / 'b.npy').rename(tmp_path / 'b.npz'))


def test_unreadable_weights(tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere.npz'):
    tn.models.read_weights('nowhere.npz')
  for name in ('a.npz', 'a.safetensors'):
    (tmp_path / name).write_bytes(b'damaged')
    with pytest.raises(ValueError, match='cannot be read'):
      tn.models.read_weights(tmp_path / name)
  (tmp_path / 'a.txt').write_text('')
  with pytest.raises(ValueError, match='suffix'):
    tn.models.read_weights(tmp_path / 'a.txt')


@pytest.mark.parametrize(
  'options', [{'depth': 10}, {'depth': 2}, {'version': 3}, {'shortcut': 'x'}]
)
def test_bad_options(options):
  with pytest.raises(ValueError, match=next(iter(options))):
    tn.models.cifar_resnet(**{'depth': 8} | options, rngs=nnx.Rngs(0))


def test_bytes_and_falling_widths_are_refused():
  net = tn.models.cifar_resnet(8, widths=(4, 4, 4), rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match='uint8'):
    net(jnp.ones((1, 8, 8, 3), 'uint8'))
  for widths in ((8, 8, 4), (4, 4)):
    with pytest.raises(ValueError, match='widths'):
      tn.models.cifar_resnet(8, widths=widths, rngs=nnx.Rngs(0))
