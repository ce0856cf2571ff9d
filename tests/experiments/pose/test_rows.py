"""Networks of equal size: as large as allowed, cut where that costs least."""

import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from experiments.common.config import parse
from experiments.pose import counts, rows
from experiments.pose.config import MODES, Config

SMALL = ('main', '--preset=smoke', '--depth=2', '--features=12')


@pytest.fixture(scope='module')
def config():
  return parse(Config, list(SMALL), '')


@pytest.fixture(scope='module')
def model(config):
  return rows.build(config, 0)


@pytest.mark.parametrize('format', ['tk', 'tt'])
def test_ranks_fill_what_they_may(format):
  shape = (2, 3, 3, 2, 6, 6, 3, 3)
  tensor = np.random.default_rng(0).normal(size=shape)
  for limit in (2000, 4000):
    ranks = rows.spent(tensor, format, limit)
    size = counts.entries(shape, format, ranks)
    scheme = tn.schemes.joint(ranks=ranks, format=format)
    p = scheme.bind((*shape[:4], *shape[6:], *shape[4:6]))
    assert size == p.num_params  # as the library counts
    assert p.ranks == ranks
    assert 0.85 * limit < size <= limit
    if format == 'tk':  # inputs and outputs are alike
      assert abs(ranks[4] - ranks[5]) <= 1


@pytest.mark.parametrize(
  ('format', 'full', 'found'), [('tk', (4, 6, 6, 3), tn.hosvd), ('tt', (4, 18, 3), tn.tt_svd)]
)
def test_what_holds_no_energy_is_cut_first(format, full, found):
  tensor = np.random.default_rng(0).normal(size=(4, 6, 6, 3)).astype('float32')
  tensor[2:] *= 1e-3
  whole = counts.entries(tensor.shape, format, full)
  assert rows.spent(tensor, format, whole) == full
  ranks = rows.spent(tensor, format, round(0.7 * whole))
  assert sum(ranks) < sum(full)
  assert found(tensor, ranks=ranks).relative_error < 0.01
  with pytest.raises(ValueError, match='limit=3 is less than the'):
    rows.spent(tensor, format, 3)


def test_kernels_are_where_their_paths_say(config, model):
  tensor = rows.kernels(model)
  assert tensor.shape == tuple(config.shape.values())
  level = model.stacks[0].levels[1]
  for i, pathway in enumerate(sorted(('skip', 'down', 'up'))):
    kernel = np.asarray(getattr(level, pathway).conv1.kernel[...])
    np.testing.assert_array_equal(np.moveaxis(tensor[0, 1, i, 1], (0, 1), (2, 3)), kernel)


def test_trimmed_networks_have_the_sizes_that_are_told(config, model):
  whole = rows.size_of(model)
  assert whole.tensor == np.prod(list(config.shape.values()))
  ((ratio, (features, params)),) = rows.trimmed(config, whole.network).items()
  found = rows.size_of(rows.build(config, 0, features))
  assert found.network == params
  assert found.tensor == features**2 * whole.tensor / 144
  assert whole.network / params == pytest.approx(ratio, rel=0.15)
  with pytest.raises(ValueError, match='--ratios=500: the nearest network of fewer than'):
    rows.trimmed(parse(Config, [*SMALL, '--ratios=500'], ''), whole.network)


@pytest.mark.parametrize('method', ['tucker', 'mps', 'layerwise'])
def test_rules_leave_as_much_as_is_allowed(model, method):
  limit = round(0.7 * rows.size_of(model).network)
  rules = rows.fitted(model, method, limit)
  found = tn.compression.plan(model, rules)
  assert 0.95 * limit < found.params <= limit
  kinds = {row.scheme for row in found.compressed}
  assert kinds == {'tk' if method == 'layerwise' else 'joint'}
  least = tn.compression.plan(model, rows.least(method))
  assert least.kernel_params < 0.2 * found.kernel_params
  assert {row.scheme for row in least.compressed} == kinds


def test_single_modes_are_cut_alone(config, model):
  for mode, names in MODES.items():
    for rank in config.ranks(mode):
      ((pattern, scheme),) = rows.single(config, mode, rank)
      assert pattern == counts.LAYERS
      cut = {n for n, r, s in zip(counts.MODES, scheme.ranks, config.shape.values()) if r < s}
      assert cut == set(names)
      table = tn.compression.plan(model, ((pattern, scheme),))
      assert table.params < table.dense_params


def test_networks_are_those_of_the_settings(config):
  net = nnx.eval_shape(lambda: rows.build(config, 0, 4))
  assert (len(net.stacks), len(net.stacks[0].levels)) == (1, 2)
  assert net.stem.conv.out_features == 4
  assert net.stacks[0].head.out_features == 14
