import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import tnjax as tn

KEY = jax.random.key(0)


@pytest.fixture(params=[True, False], ids=['graph', 'tree'])
def graph_mode(request):
  """Both ways in which NNX sees modules."""
  with nnx.set_graph_mode(request.param):
    yield


def net():
  return tn.models.cifar_resnet(8, widths=(8, 8, 8), rngs=nnx.Rngs(0))


RULES = (
  (r'stages/0/.*', None),
  (r'stages/.*/conv1', tn.schemes.tk(rate=0.3)),
  (r'stages/.*', tn.schemes.cp(rate=0.3)),
)


def test_rules_first_match_wins_and_the_model_is_unchanged(graph_mode):
  model = net()
  before = jax.tree.map(np.array, nnx.state(model))
  small, report = tn.compress(model, RULES, KEY, input_shape=(8, 8, 3))
  schemes = {row.path: row.scheme for row in report.layers}
  assert schemes['stages/0/0/conv1'] is None
  assert schemes['stages/1/0/conv1'] == 'tk'
  assert schemes['stages/2/0/conv2'] == 'cp'
  assert schemes['linear'] is None
  assert isinstance(small.stages[1][0].conv1, tn.nn.Conv)
  assert isinstance(small.stages[0][0].conv1, nnx.Conv)
  jax.tree.map(np.testing.assert_array_equal, before, nnx.state(model))
  run = nnx.jit(lambda model, x: model(x))
  assert run(small, np.ones((2, 8, 8, 3), 'float32')).shape == (2, 10)


def test_report_counts_are_true():
  model = net()
  small, report = tn.compress(model, RULES, KEY, input_shape=(8, 8, 3))
  assert report.params == sum(a.size for a in jax.tree.leaves(nnx.state(small, nnx.Param)))
  assert report.dense_params == sum(a.size for a in jax.tree.leaves(nnx.state(model, nnx.Param)))
  error = norm = stored = 0
  for row in report.compressed:
    stage, block, name = row.path.split('/')[1:]
    before = np.asarray(getattr(model.stages[int(stage)][int(block)], name).kernel[...])
    layer = getattr(small.stages[int(stage)][int(block)], name)
    gap = np.sum((before - np.asarray(layer.kernel)) ** 2)
    np.testing.assert_allclose(row.relative_error**2, gap / np.sum(before**2), rtol=1e-4)
    assert row.ranks == layer.parametrization.ranks
    error, norm = error + gap, norm + np.sum(before**2)
    stored += row.params
  np.testing.assert_allclose(report.relative_error, (error / norm) ** 0.5, rtol=1e-4)
  assert report.kernel_params == stored
  assert report.kernel_params_ratio == stored / (4 * 576)


def test_macs_of_a_network():
  report = tn.compression.plan(net(), RULES, input_shape=(8, 8, 3))
  rows = {row.path: row for row in report.layers}
  assert rows['conv'].macs == 9 * 3 * 8 * 64
  assert rows['stages/1/0/conv1'].dense_macs == 576 * 16
  assert rows['stages/2/0/conv2'].dense_macs == 576 * 4
  assert rows['linear'].macs == 80
  r = rows['stages/1/0/conv1'].ranks[0]
  assert rows['stages/1/0/conv1'].macs == 8 * r * 64 + 9 * r * r * 16 + 8 * r * 16
  assert report.macs == sum(row.macs for row in report.layers)
  assert tn.compression.plan(net(), RULES).macs is None


def test_plan_is_compress_without_errors():
  model = net()
  _, report = tn.compress(model, RULES, KEY, input_shape=(8, 8, 3))
  plan = tn.compression.plan(model, RULES, input_shape=(8, 8, 3))
  assert plan.relative_error is None
  assert (plan.params, plan.macs) == (report.params, report.macs)
  assert [r.ranks for r in plan.layers] == [r.ranks for r in report.layers]
  lines = str(report).splitlines()
  notes = [[not r.converged for r in report.compressed], [r.raised for r in report.compressed],
           [r.slower for r in report.compressed], [r.rebuilt for r in report.layers]]  # fmt: skip
  assert len(lines) == 2 + len(report.layers) + 1 + sum(map(any, notes))
  assert 'stages/1/0/conv1' in str(plan)


def test_skeleton_has_the_shapes_of_compress(graph_mode):
  small, _ = tn.compress(net(), RULES, KEY)
  skeleton = tn.compression.skeleton(net(), RULES)
  shapes = jax.tree.map(lambda a: a.shape, nnx.state(small))
  assert shapes == jax.tree.map(lambda a: a.shape, nnx.state(skeleton))
  nnx.update(skeleton, nnx.state(small))
  run = nnx.jit(lambda model, x: model(x))
  x = np.ones((2, 8, 8, 3), 'float32')
  np.testing.assert_array_equal(run(skeleton, x), run(small, x))


def test_keys_fold_in_the_path():
  model = nnx.Sequential(*(nnx.Linear(6, 6, rngs=nnx.Rngs(0)) for _ in range(2)))
  rules = ((r'layers/\d', tn.schemes.shuffled(ranks=2)),)
  first, _ = tn.compress(model, rules, KEY)
  again, _ = tn.compress(model, rules, KEY)
  index = [np.asarray(layer.index[...]) for layer in first.layers]
  assert (index[0] != index[1]).any()
  jax.tree.map(np.testing.assert_array_equal, nnx.state(first), nnx.state(again))


def test_layers_that_cannot_be_served_stay_dense_with_a_reason():
  class Odd(nnx.Module):
    def __init__(self):
      rngs = nnx.Rngs(0)
      self.up = nnx.ConvTranspose(2, 2, (2, 2), rngs=rngs)
      self.masked = nnx.Conv(2, 2, (1, 1), mask=jnp.ones((1, 1, 2, 2)), rngs=rngs)
      self.good = nnx.Linear(4, 4, rngs=rngs)
      self.done = tn.nn.Linear(2, 2, scheme=tn.schemes.svd(rate=0.5), rngs=rngs)

  with pytest.raises(ValueError, match="'.*' serves no layer; up: ConvTranspose"):
    tn.compress(Odd(), (('up', tn.schemes.svd(rate=0.5)),))
  model, report = tn.compress(Odd(), (('.*', tn.schemes.svd(rate=0.5)),))
  reasons = {row.path: row.reason for row in report.layers}
  assert reasons == {'up': 'ConvTranspose is not served', 'masked': 'its mask is set',
                     'done': 'svd would store 4 entries', 'good': ''}  # fmt: skip
  assert {row.path: row.params for row in report.layers}['done'] == 4
  assert isinstance(model.masked, nnx.Conv)


def test_a_single_layer_is_a_model_too():
  small, report = tn.compress(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), (('', tn.schemes.svd(ranks=2)),))
  assert isinstance(small, tn.nn.Linear)
  assert report.params == 40


@pytest.mark.parametrize(
  ('rules', 'key', 'words'),
  [
    ((('nothing', None),), KEY, "'nothing' matches no layer; the layers are conv"),
    ((('(', None),), KEY, 'no regular expression'),
    ((('stages/.*', tn.schemes.cp(rate=0.1)),), None, 'stages/0/0/conv1.*key'),
    (
      (('stages/.*', tn.schemes.tk(ranks=(1, 2, 3))),),
      KEY,
      r"'stages/.\*' serves no layer; stages/2/0/conv2: .*entries",
    ),
  ],
)
def test_bad_rules_are_named(rules, key, words):
  with pytest.raises(ValueError, match=words):
    tn.compress(net(), rules, key)


SVD = tn.schemes.svd(ranks=2)


@pytest.mark.parametrize(
  ('rules', 'words'),
  [
    (SVD, "rules=Scheme.* is a scheme; say for which layers, .*'[.][*]'"),
    ({'.*': SVD}, r'a dictionary.*tuple\(rules.items\(\)\)'),
    (('.*', SVD), r"rule '[.][*]' must be a pair .*comma"),
    ('.*', "rules='[.][*]' must be a sequence"),
    (None, 'rules=None must be a sequence'),
    ((('.*', 'tk'),), r"rule '[.][*]' is 'tk'.*by_name\('tk', rate\)"),
    ((('.*', tn.schemes.svd),), 'call it with a rate or ranks'),
    (((3, SVD),), 'rule pattern 3 must be a string'),
    ((('.*', SVD, None),), 'must be a pair'),
  ],
)
def test_rules_that_are_none_say_what_was_meant(rules, words):
  model = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
  for door in (tn.compress, tn.compression.plan, tn.compression.skeleton):
    with pytest.raises(ValueError, match=words):
      door(model, rules)
  if rules is not SVD:
    with pytest.raises(ValueError, match=words):
      tn.compression.budget(model, rules, params_ratio=0.5)


@pytest.mark.parametrize(
  ('model', 'words'),
  [
    (linen.Dense(4), 'model is the Linen module Dense.*to_linen'),
    ({'params': {'kernel': np.ones((4, 4))}}, 'model is a dict.*nnx.update.*decompose'),
    (nnx.state(nnx.Linear(4, 4, rngs=nnx.Rngs(0))), 'model is a State.*nnx.update'),
    (nnx.Linear, 'model is the class Linear; give an instance'),
    (np.ones((4, 4)), 'model is a ndarray.*NNX model'),
    (None, 'model is a NoneType'),
  ],
)
def test_what_is_no_model_is_told_what_to_give(model, words, tmp_path):
  for door in (tn.compress, tn.compression.plan, tn.compression.skeleton):
    with pytest.raises(ValueError, match=words):
      door(model, (('.*', SVD),))
  for door in (tn.to_dense, lambda m: tn.save(tmp_path / 'm.safetensors', m)):
    with pytest.raises(ValueError, match=words):
      door(model)


def test_bad_input_shape():
  with pytest.raises(ValueError, match=r'input_shape=\(8, 8, 5\)'):
    tn.compression.plan(net(), RULES, input_shape=(8, 8, 5))


class Sharing(nnx.Module):
  """Calls one layer twice, over positions, and reads another's attributes."""

  def __init__(self):
    self.a = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
    self.b = nnx.Linear(8, 4, rngs=nnx.Rngs(0))
    self.kernel = 3  # not a layer's

  def __call__(self, x):
    assert self.b.out_features == 4
    return self.b(inputs=self.a(self.a(x)))


def test_macs_count_every_call_and_position(graph_mode):
  rules = (('a', tn.schemes.svd(ranks=2)),)
  small, report = tn.compress(Sharing(), rules, input_shape=(100, 8))
  rows = {row.path: row for row in report.layers}
  assert list(rows) == ['a', 'b']
  assert (rows['a'].dense_macs, rows['a'].macs, rows['b'].macs) == (12800, 6400, 3200)
  again = tn.compression.plan(small, (('b', tn.schemes.svd(ranks=1)),), input_shape=(100, 8))
  rows = {row.path: row for row in again.layers}
  assert (rows['a'].params, rows['a'].macs) == (32, 6400)


def test_a_layer_its_scheme_does_not_fit_stays_dense():
  model = nnx.Sequential(nnx.Linear(8, 8, rngs=nnx.Rngs(0)), nnx.Linear(8, 5, rngs=nnx.Rngs(0)))
  scheme = tn.schemes.r_tt(ranks=2, in_modes=(4, 2), out_modes=(4, 2))
  _, report = tn.compress(model, ((r'layers/\d', scheme),))
  assert [row.scheme for row in report.layers] == ['r_tt', None]
  assert 'out_modes' in report.layers[1].reason


def test_a_kernel_that_is_not_finite_is_named_before_any_work():
  model = net()
  kernel = model.stages[2][0].conv2.kernel
  kernel[...] = kernel[...].at[0].set(jnp.nan)
  done = []
  with pytest.raises(ValueError, match='stages/2/0/conv2.*NaN'):
    tn.compress(model, RULES, KEY, on_layer=done.append)
  assert not done
