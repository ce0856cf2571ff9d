"""Rules that join layers into one tensor: T-Net on a ResNet, one tensor a stage."""

import jax
import numpy as np
import pytest
from flax import nnx

import tnjax as tn

KEY = jax.random.key(0)
STAGES = (
  (r'stages/0/(\d+)/conv(\d)', tn.schemes.joint(ranks=(5, 2, 12, 12, 3, 3))),  # 5 x 2
  (r'stages/[12]/0/.*', None),
  (r'stages/1/(\d+)/conv(\d)', tn.schemes.joint(ranks=(4, 2, 20, 20, 3, 3))),  # 4 x 2
  (r'stages/2/(\d+)/conv(\d)', tn.schemes.joint(ranks=(4, 8, 30, 9, 3), format='tt')),
)


def resnet(depth=32):
  return tn.models.cifar_resnet(depth, rngs=nnx.Rngs(0))


call = nnx.jit(lambda model, x: model(x))


@pytest.fixture(scope='module')
def whole():
  net = resnet()
  return net, *tn.compress(net, STAGES, KEY, input_shape=(32, 32, 3))


def test_a_resnet_has_one_tensor_a_stage(whole):
  net, small, report = whole
  assert report.params == sum(a.size for a in jax.tree.leaves(nnx.state(small, nnx.Param)))
  assert report.dense_params == 464154
  stored = {row.path: row.params for row in report.compressed if row.params}
  scheme = tn.schemes.joint(ranks=(5, 2, 12, 12, 3, 3))
  bound = [scheme.bind((5, 2, 3, 3, 16, 16)), STAGES[2][1].bind((4, 2, 3, 3, 32, 32)),
           STAGES[3][1].bind((4, 2, 3, 3, 64, 64))]  # fmt: skip
  assert list(stored.values()) == [p.num_params for p in bound]
  assert len(report.compressed) == 10 + 8 + 8
  first = small.stages[0][0].conv1
  assert all(c.kernels is first.kernels for b in small.stages[0] for c in (b.conv1, b.conv2))
  lost = norm = 0
  for old, new in zip(net.stages[1][1:], small.stages[1][1:]):
    for name in ('conv1', 'conv2'):
      dense = np.asarray(getattr(old, name).kernel[...], 'float64')
      lost += np.sum((dense - np.asarray(getattr(new, name).kernel)) ** 2)
      norm += np.sum(dense**2)
  row = next(row for row in report.layers if row.path == 'stages/1/1/conv1')
  np.testing.assert_allclose(row.relative_error**2, lost / norm, rtol=1e-3)


def test_saved_loaded_and_rebuilt(whole, tmp_path):
  _, small, _ = whole
  x = np.random.default_rng(0).random((2, 32, 32, 3)).astype('float32')
  y = np.asarray(call(small, x))
  tn.save(tmp_path / 'a.safetensors', small)
  for model in (None, small, resnet()):
    again = tn.load(tmp_path / 'a.safetensors', model=model)
    np.testing.assert_array_equal(call(again, x), y)
    assert again.stages[1][1].conv1.kernels is again.stages[1][4].conv2.kernels
  dense = tn.to_dense(small)
  assert type(dense.stages[2][3].conv1) is nnx.Conv
  np.testing.assert_allclose(call(dense, x), y, atol=2e-4 * np.abs(y).max())


def test_a_plan_and_a_skeleton_are_of_the_same_shapes(whole):
  net, small, report = whole
  plan = tn.compression.plan(nnx.eval_shape(lambda: resnet()), STAGES, input_shape=(32, 32, 3))
  assert [(r.path, r.params, r.macs) for r in plan.layers] == [
    (r.path, r.params, r.macs) for r in report.layers
  ]
  shapes = [jax.tree.map(lambda a: a.shape, nnx.state(m)) for m in
            (small, tn.compression.skeleton(net, STAGES))]  # fmt: skip
  assert shapes[0] == shapes[1]


def test_joined_again_as_a_whole(whole):
  _, small, _ = whole
  rules = ((STAGES[0][0], tn.schemes.joint(ranks=(5, 2, 8, 8, 3, 3))),)
  again, report = tn.compress(small, rules)
  assert report.params == sum(a.size for a in jax.tree.leaves(nnx.state(again, nnx.Param)))
  assert report.compressed[0].was == 'joint'


def test_words_and_numbers_are_modes_in_their_order():
  class Net(nnx.Module):
    def __init__(self):
      rngs = nnx.Rngs(0)
      names = ('up10', 'in10', 'up9', 'in9')
      self.ways = nnx.Dict({name: nnx.Conv(4, 4, (3, 3), rngs=rngs) for name in names})

  rules = ((r'ways/(up|in)(\d+)', tn.schemes.joint(ranks=(1, 1, 2, 2, 2, 2))),)
  small, _ = tn.compress(Net(), rules)
  assert {name: layer.position for name, layer in small.ways.items()} == {
    'in9': (0, 0), 'in10': (0, 1), 'up9': (1, 0), 'up10': (1, 1)
  }  # fmt: skip


JOINT = tn.schemes.joint(rate=0.3)


@pytest.mark.parametrize(
  ('rules', 'words'),
  [
    (((r'stages/0/.*', JOINT),), 'has no groups'),
    (((r'stages/0/(\d)/conv\d', JOINT),), 'stages/0/0/conv1 and stages/0/0/conv2 both have 0'),
    (
      ((r'stages/0/1/conv2', None), (r'stages/0/(\d)/conv(\d)', JOINT)),
      'no layer has 1, 2; every combination must occur',
    ),
    (((r'stages/(\d)/(\d)/conv(\d)', JOINT),), r'of stages/1/0/conv1 has shape \(3, 3, 16, 32\)'),
    (((r'(linear)', JOINT),), 'linear is a Linear, no convolution'),
    (((r'stages/0/(\d)/conv(1)?(2)?', JOINT),), 'a group takes no part in stages/0/0/conv1'),
    (
      ((r'stages/0/(\d)/conv(\d)', tn.schemes.joint(rate=0.3, order=1)),),
      'has 2 groups; its scheme has order=1',
    ),
    (((r'stages/0/(\d)/conv(\d)', tn.schemes.joint(ranks=(3, 2))),), 'ranks'),
  ],
)
def test_patterns_that_do_not_join_are_named(rules, words):
  with pytest.raises(ValueError, match=words):
    tn.compression.plan(resnet(20), rules)


def test_some_layers_of_a_tensor_cannot_go_without_the_others():
  net = resnet(20)
  small, _ = tn.compress(net, ((r'stages/0/(\d)/conv(\d)', JOINT),))
  with pytest.raises(ValueError, match='part of a joint tensor, with stages/0/0/conv1'):
    tn.compress(small, (('stages/0/1/conv1', tn.schemes.tk(rate=0.1)),))
  with pytest.raises(ValueError, match='out of one with stages/0/2/conv1, which stays'):
    tn.compress(small, ((r'stages/0/([01])/conv(\d)', JOINT),))
  with pytest.raises(ValueError, match='budget does not choose the ranks of a joint tensor'):
    tn.compression.budget(net, ((r'stages/0/(\d)/conv(\d)', JOINT),), params_ratio=0.5)


class Own(nnx.Module):
  """Holds its joint kernels itself, beside the layers, which are at any positions."""

  def __init__(self, positions=tuple(np.ndindex(3, 2)), key=0):
    rngs, scheme = nnx.Rngs(key), tn.schemes.joint(ranks=(2, 2, 3, 3, 3, 3))
    self.kernels = tn.nn.JointKernels((3, 2), 4, 4, (3, 3), scheme=scheme, rngs=rngs)
    self.layers = nnx.List([tn.nn.JointConv(self.kernels, at, rngs=rngs) for at in positions])

  def __call__(self, x):
    for layer in self.layers:
      x = jax.nn.relu(layer(x)) + 0.1
    return x


X = np.random.default_rng(1).random((1, 5, 5, 4)).astype('float32')
PAIR = r'layers/([012])', tn.schemes.joint(ranks=(3, 2, 2, 2, 2))


def loaded(net, folder):
  tn.save(folder / 'a.safetensors', net)
  return tn.load(folder / 'a.safetensors', model=nnx.eval_shape(lambda: type(net)()))


def test_a_model_may_hold_the_tensor_itself(tmp_path):
  net = Own()
  y = np.asarray(call(net, X))
  assert [place.tie for place in tn.compression.walk(net).values()] == [''] * 6
  again = loaded(net, tmp_path)
  np.testing.assert_array_equal(call(again, X), y)
  assert all(layer.kernels is again.kernels for layer in again.layers)
  dense = tn.to_dense(net)
  np.testing.assert_allclose(call(dense, X), y, atol=1e-4 * np.abs(y).max())
  assert sum(a.size for a in jax.tree.leaves(nnx.state(dense))) == 6 * (4 * 4 * 9 + 4)
  small, report = tn.compress(net, ((r'layers/(\d)', tn.schemes.joint(ranks=2)),))
  assert all(layer.kernels is small.kernels for layer in small.layers)
  assert report.params == sum(a.size for a in jax.tree.leaves(nnx.state(small, nnx.Param)))


@pytest.mark.parametrize('positions', [((0, 0), (2, 1), (0, 0)), ((0, 0), (2, 1))])
def test_a_position_may_be_taken_twice_or_not_at_all(positions, tmp_path):
  class Some(Own):
    def __init__(self):
      super().__init__(positions)

  net = Some()
  again = loaded(net, tmp_path)
  np.testing.assert_array_equal(call(again, X), call(net, X))
  assert [layer.position for layer in again.layers] == list(positions)
  dense = tn.to_dense(net)
  assert len({id(layer.kernel) for layer in dense.layers}) == 2
  np.testing.assert_allclose(call(dense, X), call(net, X), rtol=1e-4)


def test_a_stack_of_networks_works_in_vmap_and_is_told_elsewhere(tmp_path):
  nets = nnx.vmap(lambda key: Own(key=key), axis_size=2)(jax.random.split(KEY))
  assert nets.layers[0].stacked == (2,)
  assert nnx.vmap(lambda net, x: net(x), in_axes=(0, None))(nets, X).shape == (2, 1, 5, 5, 4)
  words = r'a stack \(2,\) of'
  with pytest.raises(ValueError, match=words):
    nets(X)
  with pytest.raises(ValueError, match=words):
    tn.to_dense(nets)
  with pytest.raises(ValueError, match=f'layers/0 is of {words} joint tensors'):
    tn.save(tmp_path / 'a.safetensors', nets)


def stack():
  return nnx.Sequential(*(nnx.Conv(4, 4, (3, 3), rngs=nnx.Rngs(i)) for i in range(4)))


def iterated(model, schedule, **options):
  return tn.compression.iterate(model, schedule, lambda m, step: m, lambda m: 1.0, KEY, **options)


def test_iterated_by_rules_or_by_groups(tmp_path):
  groups = 'layers/([012])', 'layers/3'
  first = tn.compression.Schedule(
    groups, rules=lambda m, s: (PAIR, ('.*', tn.schemes.tk(rate=0.5)))
  )
  done = iterated(stack(), first)
  assert [row.step.paths for row in done.steps] == [
    ('layers/0', 'layers/1', 'layers/2'), ('layers/3',)
  ]  # fmt: skip
  half = tn.compression.Schedule(groups[:1], conv=tn.schemes.joint(rate=0.5))
  sizes, model = [], stack()
  for name in 'abb':  # of the dense model, of the joint one, and that from its file
    done = iterated(model, half, checkpoint=tmp_path / name)
    sizes.append(done.steps[0].report.kernel_params)
    model = done.model if name == 'a' else model
  assert sizes == [66, 18, 18]  # r^5 + r (3 + 4 + 4 + 3 + 3) in 0.5 of 432, then of 66
  assert tn.compression.walk(done.model)['layers/0'].joint.num_params == 18


def test_no_step_takes_layers_out_of_a_tensor():
  small, _ = tn.compress(stack(), (PAIR,))
  with pytest.raises(ValueError, match='part of a joint tensor, with layers/0; tn.to_dense first'):
    iterated(small, tn.compression.Schedule('layers/[012]', conv=tn.schemes.tk(rate=0.5)))
  cut = tn.compression.Schedule('layers/[01]', rules=lambda m, s: (PAIR,))
  with pytest.raises(ValueError, match='takes layers/0 out of one with layers/2, which stays'):
    iterated(small, cut)


def test_the_architecture_counts_once():
  small, report = tn.compress(stack(), (PAIR,), input_shape=(5, 5, 4))
  p = small.layers[0].kernels.parametrization
  jaxpr = jax.make_jaxpr(lambda f: tn.schemes.expand(p, f))(p.init(KEY)).jaxpr
  once, seconds = tn.schemes.expansion(p)
  assert once == products(jaxpr) > 0
  first, second, third, _ = report.layers
  assert first.macs == second.macs + once
  assert second.macs == third.macs
  np.testing.assert_allclose(first.seconds, second.seconds + seconds)
  assert (
    tn.compression.plan(small, (('layers/3', None),), input_shape=(5, 5, 4)).macs == report.macs
  )


def products(jaxpr):
  """Multiply-adds of all products in a program."""
  found = 0
  for step in jaxpr.eqns:
    if 'jaxpr' in step.params:
      found += products(step.params['jaxpr'].jaxpr)
    if step.primitive.name == 'dot_general':
      (summed, _), _ = step.params['dimension_numbers']
      left = step.invars[0].aval.shape
      found += step.outvars[0].aval.size * int(np.prod([left[i] for i in summed]))
  return found
