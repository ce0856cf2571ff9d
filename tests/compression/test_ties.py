"""What is held more than once stays one, and is counted once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

SVD = tn.schemes.svd(ranks=2)


def linear(seed=0, bias=False):
  return nnx.Linear(16, 16, use_bias=bias, rngs=nnx.Rngs(seed))


def tied():
  one, other = linear(0), linear(1)
  other.kernel = one.kernel
  return one, other


def biases_of_one():
  one, other = linear(0, bias=True), linear(1, bias=True)
  other.bias = one.bias
  return one, other


def kernel_as_a_bias():
  one, other = linear(0), linear(1, bias=True)
  other.bias = nnx.Param(jnp.ones(16))
  return one, other, [one.kernel, other.bias]


def twice_in_itself():
  one = linear()
  one.again = one.kernel
  return one, linear(1)


def one_core():
  one, other = (tn.nn.Linear(16, 16, scheme=SVD, rngs=nnx.Rngs(i)) for i in range(2))
  other.core_1 = one.core_1
  return one, other


class Holder(nnx.Module):
  def __init__(self, parts, container):
    self.parts = nnx.data(container(parts))
    self.free = linear(2)


TIES = {
  'layers': tied,
  'a list': lambda: (linear(), (layer := linear(1)), [layer.kernel]),
  'a dictionary': lambda: (linear(), (layer := linear(1)), {'held': {'deep': layer.kernel}}),
  'biases': biases_of_one,
  'bias in a list': kernel_as_a_bias,
  'itself': twice_in_itself,
  'a core': one_core,
}


def params(model):
  held = {id(v): v.size for _, v in nnx.iter_graph(model) if isinstance(v, nnx.Param)}
  return sum(held.values())


@pytest.mark.parametrize('container', [tuple, list], ids=['tuple', 'list'])
@pytest.mark.parametrize('pattern', ['.*', 'free|parts/0', 'free|parts/1'])
@pytest.mark.parametrize('name', TIES)
def test_the_plan_is_true_and_nothing_is_untied(name, pattern, container):
  with nnx.set_graph_mode(True):
    model = Holder(TIES[name](), container)
    rules = ((pattern, tn.schemes.svd(ranks=1)),)
    planned = tn.compression.plan(model, rules)
    small, report = tn.compress(model, rules)
    assert planned.dense_params == params(model)
    assert planned.params == report.params == params(small) < params(model)
    assert type(small.free) is tn.nn.Linear
    assert params(tn.compression.skeleton(model, rules)) == params(small)
    kept = [d for d in nnx.find_duplicates(model) if d[0][-1] not in ('kernel', 'core_1')]
    assert all(d in nnx.find_duplicates(small) for d in kept)
    assert params(tn.to_dense(small)) == params(tn.to_dense(model))


def test_layers_in_a_tuple_are_replaced_where_they_stand():
  with nnx.set_graph_mode(True):
    layer = linear()
    small, _ = tn.compress(Holder((layer, (layer, linear(1))), tuple), (('parts.*', SVD),))
    assert small.parts[0] is small.parts[1][0]
    assert type(small.parts[0]) is type(small.parts[1][1]) is tn.nn.Linear


class Thrice(nnx.Module):
  """One layer at three paths, one of them through a module that is shared itself."""

  def __init__(self):
    self.z = linear(bias=True)
    self.block = nnx.Sequential(self.z)
    self.more = nnx.Dict(block=self.block)

  def __call__(self, x):
    return self.more['block'](self.block(self.z(x)))


@pytest.mark.parametrize('path', ['z', 'block/layers/0', 'more/block/layers/0'])
def test_a_shared_layer_answers_to_any_of_its_paths(path):
  with nnx.set_graph_mode(True):
    small, report = tn.compress(Thrice(), ((path, SVD),), input_shape=(16,))
    assert [row.scheme for row in report.layers] == ['svd']
    assert report.macs == 3 * 2 * 32
    assert type(small.z) is tn.nn.Linear
    assert small.z is small.block.layers[0] is small.more['block'].layers[0]
    rules = ((path, None), ('.*', SVD))
    assert not tn.compression.plan(Thrice(), rules).compressed
    with pytest.raises(ValueError, match=r'layers are .*more/block/layers/0'):
      tn.compression.plan(Thrice(), (('absent', None),))


class Wrapped(nnx.Module):
  def __init__(self, wrapper):
    self.inner = nnx.Linear(16, 16, rngs=nnx.Rngs(0))
    self.normed = wrapper(nnx.Sequential(self.inner), rngs=nnx.Rngs(1))
    self.free = linear(2)

  def __call__(self, x):
    return self.free(self.normed(x))


@pytest.mark.parametrize('wrapper', [nnx.WeightNorm, nnx.SpectralNorm])
def test_layers_that_a_wrapper_rescales_stay_dense_and_right(wrapper):
  with nnx.set_graph_mode(True):
    x = np.random.default_rng(0).normal(size=(2, 16)).astype('float32')
    model = Wrapped(wrapper)
    small, report = tn.compress(model, (('.*', tn.schemes.svd(ranks=7)),))
    rows = {row.path: row for row in report.layers}
    assert rows['inner'].reason == f'nnx.{wrapper.__name__} rescales its weight at every call'
    assert rows['free'].scheme == 'svd'
    run = nnx.jit(lambda model, x: model(x))
    small.free = model.free
    np.testing.assert_allclose(run(small, x), run(model, x), rtol=1e-6)
    with pytest.raises(ValueError, match=f'serves no layer; inner: nnx.{wrapper.__name__}'):
      tn.compress(model, (('inner|normed.*', SVD),))


def test_arrays_of_the_copy_are_its_own():
  model = nnx.Sequential(nnx.Linear(16, 16, rngs=nnx.Rngs(0)))
  small, _ = tn.compress(model, (('.*', SVD),))
  assert small.layers[0].bias is not model.layers[0].bias
  old, new = (m.layers[0].bias.get_value() for m in (model, small))
  assert old.unsafe_buffer_pointer() != new.unsafe_buffer_pointer()
  assert jax.tree.structure(nnx.state(model)) != jax.tree.structure(nnx.state(small))
