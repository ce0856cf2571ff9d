"""Exported files: what they compute where this library is not, and what is refused."""

import os
import re
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

KEY = jax.random.key(0)
INPUT = (8, 8, 16)
ALL = tn.schemes.NAMES


class Net(nnx.Module):
  """A layer for every scheme, a dense one, and what does something else in training."""

  def __init__(self, rngs):
    for name in ALL:
      setattr(self, name, nnx.Conv(16, 16, (3, 3), rngs=rngs))
    self.norm = nnx.BatchNorm(16, rngs=rngs)
    self.drop = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(16, 4, rngs=rngs)

  def __call__(self, x):
    for name in ALL:
      x = x + getattr(self, name)(x)
    x = self.drop(nnx.relu(self.norm(x)))
    return self.head(x.mean(axis=(1, 2)))


@pytest.fixture(scope='module')
def small():
  """A network compressed by every scheme at once, in training mode."""
  rules = tuple((name, tn.schemes.by_name(name, 0.3)) for name in ALL)
  return tn.compress(Net(nnx.Rngs(0)), rules, KEY)[0]


@pytest.fixture(scope='module')
def expected(small):
  """Inputs, and what the network makes of them when it evaluates."""
  still = nnx.clone(small)
  still.eval()
  x = np.random.default_rng(0).normal(size=(5, *INPUT)).astype('float32')
  return x, np.asarray(nnx.jit(lambda net, x: net(x))(still, x))


def test_stablehlo_runs_in_a_process_without_this_library(small, expected, tmp_path):
  x, y = expected
  before = nnx.to_flat_state(nnx.state(small))
  path = tmp_path / 'new' / 'net.stablehlo'
  tn.export(small, path, INPUT)
  assert [p.name for p in path.parent.iterdir()] == ['net.stablehlo']
  assert not small.drop.deterministic  # as it was
  for (_, old), (_, new) in zip(before, nnx.to_flat_state(nnx.state(small)), strict=True):
    assert old.get_value() is new.get_value()
  np.save(tmp_path / 'x.npy', x)
  code = """
    import sys

    class Missing:
      def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('tnjax', 'flax'):
          raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Missing())
    import jax, numpy as np
    x = np.load('x.npy')
    with open('new/net.stablehlo', 'rb') as file:
      exported = jax.export.deserialize(bytearray(file.read()))
    for n in (2, 5):
      np.save(f'y{n}.npy', exported.call(x[:n]))
  """
  subprocess.run(
    [sys.executable, '-c', textwrap.dedent(code)],
    cwd=tmp_path, check=True, env={**os.environ, 'JAX_NUM_CPU_DEVICES': '1'},
  )  # fmt: skip
  for n in (2, 5):
    np.testing.assert_allclose(np.load(tmp_path / f'y{n}.npy'), y[:n], atol=1e-5 * abs(y).max())


def test_stablehlo_is_for_every_platform_and_of_standard_operations(small, tmp_path):
  tn.export(small, tmp_path / 'net.stablehlo', INPUT)
  exported = jax.export.deserialize(bytearray((tmp_path / 'net.stablehlo').read_bytes()))
  assert exported.platforms == ('cpu', 'cuda', 'tpu')
  # The one that jax itself replaces when it loads a program of symbolic shape.
  called = set(re.findall(r'custom_call @(\w+)', exported.mlir_module()))
  assert called == {'shape_assertion'}


# jax2onnx reads variables as flax did before.
old_ways = pytest.mark.filterwarnings("ignore:'.value' access is now deprecated")


@old_ways
def test_onnx_equals_the_model(small, expected, tmp_path):
  runtime = pytest.importorskip('onnxruntime')
  pytest.importorskip('jax2onnx')
  x, y = expected
  tn.export(small, tmp_path / 'net.onnx', INPUT)
  assert [p.name for p in tmp_path.iterdir()] == ['net.onnx']  # weights inside
  session = runtime.InferenceSession(tmp_path / 'net.onnx')
  for n in (2, 5):
    (found,) = session.run(None, {'x': x[:n]})
    np.testing.assert_allclose(found, y[:n], atol=1e-5 * abs(y).max())


def test_the_network_has_what_converters_do_not_know(small):
  assert 'depthwise' in str(jax.make_jaxpr(lambda x: small.cp(x))(jnp.ones((2, *INPUT))))


IMAGES = {
  'cifar_resnet': (8, (32, 32, 3)),
  'cifar_quick': (None, (32, 32, 3)),
  'mlp': (None, (28, 28, 1)),
  'lenet': (None, (28, 28, 1)),
  'resnet': (18, (64, 64, 3)),
  'vgg': (11, (64, 64, 3)),
  'alexnet': (None, (96, 96, 3)),
}


@pytest.mark.parametrize('name', IMAGES)
def test_every_network_of_ours_leaves_its_batch_open(name):
  depth, shape = IMAGES[name]
  make = getattr(tn.models, name)
  args = () if depth is None else (depth,)
  model = nnx.eval_shape(lambda: make(*args, rngs=nnx.Rngs(0)))
  graphdef, state = nnx.split(model)
  (batch,) = jax.export.symbolic_shape('batch')
  y = jax.eval_shape(
    lambda state, x: nnx.merge(graphdef, state, copy=True)(x),
    state, jax.ShapeDtypeStruct((batch, *shape), 'float32'),
  )  # fmt: skip
  assert y.shape[0] == batch


class Pairs(nnx.Module):
  """Takes an even number of inputs."""

  def __call__(self, x):
    return x.reshape(x.shape[0] // 2, 2, -1) if x.shape[0] > 1 else x


def test_what_cannot_be_exported_is_named(tmp_path):
  layer = tn.nn.Linear(6, 4, scheme=tn.schemes.svd(ranks=2), rngs=nnx.Rngs(0))
  abstract = nnx.eval_shape(lambda: nnx.Linear(6, 4, rngs=nnx.Rngs(0)))
  path = tmp_path / 'a.stablehlo'
  for words, args in {
    r"path='a.tflite' must end in .stablehlo or .onnx": (layer, 'a.tflite', (6,)),
    r'input_shape=\(5,\) of float32 does not fit the model: .* needs 6 channels': (
      layer, path, (5,),
    ),
    r"input_shape='6' must be": (layer, path, '6'),
    'model is abstract': (abstract, path, (6,)),
    'model is a function without any': (tn.models.mlp, path, (6,)),
    'model is a List, which cannot be called': (nnx.List([layer]), path, (6,)),
    'model does not take batches of any size': (Pairs(), path, (6,)),
  }.items():  # fmt: skip
    with pytest.raises(ValueError, match=words):
      tn.export(*args)
  assert not list(tmp_path.iterdir())


def test_onnx_says_what_to_install(monkeypatch, tmp_path):
  layer = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
  for name in ('onnx_ir', 'onnxruntime', 'jax2onnx'):
    monkeypatch.setitem(sys.modules, name, None)
  with pytest.raises(ValueError, match=r"needs the package \w+; pip install 'tnjax\[onnx\]'"):
    tn.export(layer, tmp_path / 'a.onnx', (6,))


class Pooled(nnx.Module):
  """Of whose padding jax2onnx 0.17 knows nothing, at sizes where the shapes agree without."""

  def __call__(self, x):
    return nnx.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 0), (1, 0)))


@old_ways
def test_onnx_that_computes_something_else_is_refused(tmp_path):
  pytest.importorskip('onnxruntime')
  pytest.importorskip('jax2onnx')
  scheme = tn.schemes.r_tt(ranks=2, order=2)
  half = tn.nn.Linear(6, 4, scheme=scheme, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  for model, shape, words in (
    (Pooled(), (9, 9, 2), 'computes something else'),
    (half, (6,), 'makes no valid ONNX'),  # whose einsum has no 16 bits
  ):
    with pytest.raises(ValueError, match=words):
      tn.export(model, tmp_path / 'a.onnx', shape)
  with jax.enable_x64(True), pytest.raises(ValueError, match='32 bits'):
    tn.export(model, tmp_path / 'a.onnx', (6,))
  assert not list(tmp_path.iterdir())
