"""Surgery: registered subclasses, shared weights, layers compressed before, and back to dense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from tnjax.schemes import Solver

KEY = jax.random.key(0)
SVD = tn.schemes.svd(ranks=2)


class MyConv(nnx.Conv):
  """A subclass that computes what its base does."""


class Strange(nnx.Linear):
  """One nobody registered."""


class Two(nnx.Module):
  def __init__(self):
    rngs = nnx.Rngs(0)
    self.conv = MyConv(4, 6, (3, 3), rngs=rngs)
    self.linear = Strange(6, 8, rngs=rngs)

  def __call__(self, x):
    return self.linear(self.conv(x).mean(axis=(1, 2)))


def test_a_registered_subclass_is_served_and_comes_back():
  rules = (('conv', tn.schemes.tk(ranks=2)),)
  with pytest.raises(ValueError, match=r'MyConv is not registered: tn.nn.register\(MyConv, tn.nn'):
    tn.compress(Two(), rules)
  tn.nn.register(MyConv, tn.nn.Conv)
  model, x = Two(), jnp.ones((2, 5, 5, 4))
  small, report = tn.compress(model, rules, input_shape=(5, 5, 4))
  assert type(small.conv) is tn.nn.Conv
  assert report.layers[0].macs < report.layers[0].dense_macs == 9 * 4 * 6 * 25
  dense = tn.to_dense(small)
  assert type(dense.conv) is MyConv
  np.testing.assert_allclose(dense(x), small(x), atol=1e-5)
  _, table = tn.compress(model, (('.*', SVD),))
  assert 'tn.nn.register(Strange, tn.nn.Linear)' in table.layers[1].reason


def test_registering_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='subclass of Conv'):
    tn.nn.register(Strange, tn.nn.Conv)
  with pytest.raises(ValueError, match='Factorised'):
    tn.nn.register(MyConv, nnx.Conv)


class Tied(nnx.Module):
  """Two layers with one kernel, and one of their own."""

  def __init__(self):
    rngs = nnx.Rngs(0)
    self.a, self.b, self.c = (nnx.Linear(8, 8, rngs=rngs) for _ in range(3))
    self.b.kernel = self.a.kernel

  def __call__(self, x):
    return self.c(self.b(self.a(x)))


def test_shared_weights_share_their_factors():
  with nnx.set_graph_mode(True):
    small, report = tn.compress(Tied(), (('.*', SVD),), input_shape=(8,))
    assert small.a.core_0 is small.b.core_0
    assert small.a.bias is not small.b.bias
    trained = sum(v.size for v in jax.tree.leaves(nnx.state(small, nnx.Param)))
    assert report.params == trained == 2 * 32 + 3 * 8
    assert report.dense_params == 2 * 64 + 3 * 8
    assert report.macs == 3 * 32
    dense = tn.to_dense(small)
    assert dense.a.kernel is dense.b.kernel
    assert dense.c.kernel is not dense.a.kernel
    x = jnp.ones((2, 8))
    np.testing.assert_allclose(dense(x), small(x), atol=1e-5)
    rules, plan = tn.compression.budget(Tied(), SVD, params=100)
    assert tn.compress(Tied(), rules)[1].params == plan.cost <= 100


def test_rules_that_tear_a_shared_weight_apart_leave_it_dense():
  with nnx.set_graph_mode(True):
    small, report = tn.compress(Tied(), (('a|c', SVD),))
    rows = {row.path: row for row in report.layers}
    assert rows['a'].scheme is None
    assert 'shares its weight with b' in rows['a'].reason
    assert rows['c'].scheme == 'svd'
    assert small.a.kernel is small.b.kernel


def test_a_compressed_model_can_be_compressed_again():
  model = nnx.Sequential(nnx.Linear(16, 16, rngs=nnx.Rngs(0)), nnx.Linear(16, 16, rngs=nnx.Rngs(1)))
  once, _ = tn.compress(model, (('.*', tn.schemes.r_tt(ranks=6, order=2)),))
  twice, report = tn.compress(once, (('layers/0', SVD),))
  first, second = report.layers
  assert (first.scheme, first.was, first.dense_params) == ('svd', 'r_tt', 192)
  assert (second.scheme, second.was, second.reason) == (None, 'r_tt', 'no rule')
  assert 'svd (was r_tt)' in str(report)
  assert 'r_tt: no rule' in str(report)
  weight = np.asarray(once.layers[0].kernel)
  gap = np.linalg.norm(twice.layers[0].kernel - weight) / np.linalg.norm(weight)
  np.testing.assert_allclose(first.relative_error, gap, rtol=1e-3)
  u, s, vh = np.linalg.svd(weight)
  np.testing.assert_allclose(gap, np.linalg.norm(s[2:]) / np.linalg.norm(s), rtol=1e-3)
  assert type(tn.to_dense(twice).layers[0]) is nnx.Linear
  _, same = tn.compress(once, (('layers/0', tn.schemes.svd(ranks=6)),))
  assert same.layers[0].reason == 'svd would store 192 entries'  # as many as now


def test_facts_of_the_solver_reach_the_report():
  model = nnx.Conv(8, 8, (3, 3), rngs=nnx.Rngs(0))
  few = tn.schemes.cp(ranks=4, solver=Solver('cp_als', max_iters=2, tol=1e-12))
  _, report = tn.compress(model, (('', few),), KEY)
  (row,) = report.layers
  assert (row.num_iters, row.converged) == (2, False)
  assert '2 !' in str(report)
  assert '! not converged' in str(report)
  _, report = tn.compress(model, (('', tn.schemes.svd(ranks=4)),))
  assert report.layers[0].converged
  assert '!' not in str(report)


def test_rank_rules_reach_the_layers():
  kernel = np.random.default_rng(0).normal(size=(16, 3)) @ np.ones((3, 16))
  model = nnx.Sequential(*(nnx.Linear(16, 16, rngs=nnx.Rngs(i)) for i in range(2)))
  model.layers[0].kernel = nnx.Param(jnp.asarray(kernel, jnp.float32))
  rules = (('.*', tn.schemes.svd(ranks=tn.ranks.Energy(0.99))),)
  small, report = tn.compress(model, rules)
  assert report.layers[0].ranks == small.layers[0].parametrization.ranks == (1,)
  assert small.layers[0].scheme == tn.schemes.svd(ranks=(1,))
  assert tn.compression.plan(model, rules).layers[0].ranks == (1,)
  abstract = nnx.eval_shape(lambda: nnx.Sequential(nnx.Linear(16, 16, rngs=nnx.Rngs(0))))
  with pytest.raises(ValueError, match=r'layers/0: svd has ranks=Energy\(share=0.99\).*abstract'):
    tn.compression.plan(abstract, rules)


def test_equal_layers_of_another_precision_are_not_mixed():
  model = nnx.Sequential(
    nnx.Linear(8, 8, rngs=nnx.Rngs(0)),
    nnx.Linear(8, 8, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0)),
  )
  small, report = tn.compress(model, (('.*', SVD),))
  assert [layer.core_0.dtype for layer in small.layers] == [jnp.float32, jnp.bfloat16]
  for layer, dense, row in zip(small.layers, model.layers, report.layers):
    kernel, rebuilt = (np.asarray(a, 'float32') for a in (dense.kernel[...], layer.kernel))
    gap = np.linalg.norm(rebuilt - kernel) / np.linalg.norm(kernel)
    np.testing.assert_allclose(row.relative_error, gap, rtol=2e-2)


def test_weights_that_something_else_holds_stay():
  class Holder(nnx.Module):
    def __init__(self):
      self.embed = nnx.Embed(32, 8, rngs=nnx.Rngs(0))
      self.out = self.embed.embedding
      self.frozen = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
      self.frozen.kernel = nnx.Variable(self.frozen.kernel[...])
      self.free = nnx.Linear(8, 8, rngs=nnx.Rngs(0))

  with nnx.set_graph_mode(True):
    small, report = tn.compress(Holder(), (('.*', SVD),))
    rows = {row.path: row for row in report.layers}
    assert rows['embed'].reason == 'its weight is out too'
    assert 'no nnx.Param' in rows['frozen'].reason
    assert rows['free'].scheme == 'svd'
    trained = sum(v.size for v in jax.tree.leaves(nnx.state(small, nnx.Param)))
    assert report.params == trained
    assert small.out is small.embed.embedding


def test_values_of_numpy_as_a_checkpoint_restores_them():
  model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)))
  expected, _ = tn.compress(model, (('.*', SVD),))
  nnx.update(model, jax.tree.map(np.asarray, nnx.state(model)))
  small, _ = tn.compress(model, (('.*', SVD),))
  np.testing.assert_array_equal(small.layers[0].core_0[...], expected.layers[0].core_0[...])
  assert isinstance(small.layers[0].bias.get_value(), jax.Array)


def test_within_a_trace_values_at_hand_are_decomposed_on_the_host():
  dense = nnx.Conv(8, 8, (3, 3), rngs=nnx.Rngs(0))
  scheme = tn.schemes.cp(ranks=10)
  x = jnp.ones((1, 5, 5, 8))
  made = jax.jit(lambda x: tn.nn.Conv.from_dense(dense, scheme, KEY)(x))(x)
  np.testing.assert_allclose(made, tn.nn.Conv.from_dense(dense, scheme, KEY)(x), atol=1e-5)


def test_layers_on_several_devices_keep_them():
  if len(jax.devices()) < 2:
    pytest.skip('needs two devices')
  model = nnx.Sequential(*(nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(i)) for i in range(2)))
  for layer, device in zip(model.layers, jax.devices()):
    nnx.update(layer, jax.device_put(nnx.state(layer), device))
  for solver in (Solver('cp_als'), Solver('cp_als', correct=True, max_iters=3)):
    small, _ = tn.compress(model, (('.*', tn.schemes.cp(ranks=2, solver=solver)),), KEY)
    for layer, device in zip(small.layers, jax.devices()):
      assert layer.factor_0.get_value().devices() == {device}


def test_abstract_models_are_refused_by_path():
  model = nnx.eval_shape(lambda: nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0))))
  with pytest.raises(ValueError, match='layers/0: its weight is abstract'):
    tn.compress(model, (('.*', SVD),))
  assert tn.compression.plan(model, (('.*', SVD),)).params == 40
  with pytest.raises(ValueError, match='layers/0: its factors are abstract'):
    tn.to_dense(tn.compression.skeleton(model, (('.*', SVD),)))


def test_arrays_stay_uncommitted_so_that_a_training_step_is_compiled_once():
  model = nnx.Sequential(*(nnx.Linear(8, 8, rngs=nnx.Rngs(i)) for i in range(2)))
  small, _ = tn.compress(model, (('layers/0', SVD),))
  for made in (small, tn.to_dense(small)):
    assert not any(a.committed for a in jax.tree.leaves(nnx.state(made)))


def test_the_copy_shares_no_buffer_with_the_model():
  class Scaled(nnx.Linear):
    """A layer with a Variable beside its weight, which something else holds too."""

    def __init__(self, *args, **kwargs):
      super().__init__(*args, **kwargs)
      self.scale = nnx.Param(jnp.ones(()))

  class Net(nnx.Module):
    def __init__(self):
      self.first = Scaled(8, 8, rngs=nnx.Rngs(0))
      self.second = Scaled(8, 8, rngs=nnx.Rngs(1))
      self.second.scale = self.first.scale

  tn.nn.register(Scaled, tn.nn.Linear)
  net = Net()
  small, _ = tn.compress(net, (('first', tn.schemes.svd(ranks=1)),))
  _, state = nnx.split(small)
  jax.jit(lambda state: jax.tree.map(lambda a: a + 1, state), donate_argnums=0)(state)
  for array in jax.tree.leaves(nnx.state(net)):
    np.asarray(array)  # not deleted


@pytest.mark.parametrize('wide', [False, True])
def test_large_layers_side_by_side_are_what_each_would_be_alone(wide):
  with jax.enable_x64(wide):
    dtype = 'float64' if wide else 'float32'
    sizes = (512, 600, 512)
    net = nnx.Sequential(
      *(nnx.Linear(m, n, param_dtype=dtype, rngs=nnx.Rngs(0)) for m, n in zip(sizes, sizes[1:]))
    )
    rules = [(f'layers/{i}', tn.schemes.svd(ranks=3 + i)) for i in range(2)]
    seen = []
    small, _ = tn.compress(net, tuple(rules), on_layer=seen.append)
    assert sorted(seen) == ['layers/0', 'layers/1']
    for i, rule in enumerate(rules):
      alone = nnx.state(tn.compress(net, (rule,))[0].layers[i])
      assert {a.dtype.name for a in jax.tree.leaves(alone)} == {dtype}
      jax.tree.map(np.testing.assert_array_equal, nnx.state(small.layers[i]), alone)
