"""Budgets: the solver against brute force, and the door against what `compress` then does."""

import dataclasses
import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

import tnjax as tn
from tnjax.compression import allocate, budget

KEY = jax.random.key(0)
IMAGE = (8, 8, 3)


def brute_force(costs, errors, limit):
  return min(
    sum(e[k] for e, k in zip(errors, picks))
    for picks in itertools.product(*(range(len(c)) for c in costs))
    if sum(c[k] for c, k in zip(costs, picks)) <= limit
  )


def spectral(rng, layers, options):
  """Costs linear in the rank and tail energies of decaying spectra."""
  values = np.exp(-0.02 * np.arange(options)) * rng.exponential(size=(layers, options))
  tails = [tn.ranks.tail_energies(np.sort(row)[::-1])[1:] for row in values]
  return rng.integers(10, 1000, (layers, 1)) * np.arange(1, options + 1), tails


layer = st.integers(1, 6).flatmap(
  lambda n: st.tuples(
    st.lists(st.integers(0, 30), min_size=n, max_size=n),
    st.lists(st.floats(0, 9, width=16), min_size=n, max_size=n),
  )
)


@given(st.lists(layer, min_size=1, max_size=5), st.floats(0, 1))
def test_allocate_equals_brute_force(layers, share):
  costs, errors = zip(*layers)
  least, most = sum(map(min, costs)), sum(map(max, costs))
  limit = least + math.floor(share * (most - least))
  found = allocate(costs, errors, limit)
  assert found.error == brute_force(costs, errors, limit)
  assert found.cost == sum(c[k] for c, k in zip(costs, found.choices)) <= limit
  assert found.error == sum(e[k] for e, k in zip(errors, found.choices))
  assert (found.gap, found.lower_bound) == (0, found.error)


@pytest.mark.parametrize('scale', [1e-30, 1.0, 1e30])
@pytest.mark.parametrize('seed', range(20))
def test_allocate_equals_brute_force_on_random_options(seed, scale):
  rng = np.random.default_rng(seed)
  costs = [rng.integers(0, 10 ** rng.integers(1, 7), n) for n in rng.integers(1, 8, 5)]
  errors = [scale * rng.random(c.size) for c in costs]
  for share in (0.0, 0.1, 0.4, 0.7, 1.0):
    least, most = sum(c.min() for c in costs), sum(c.max() for c in costs)
    limit = int(least + share * (most - least))
    found = allocate(costs, errors, limit)
    np.testing.assert_allclose(found.error, brute_force(costs, errors, limit), rtol=1e-12)
    assert found.cost <= limit
    assert found.gap == 0


@pytest.mark.parametrize(('layers', 'options', 'gap'), [(30, 100, 0), (300, 60, 1e-5)])
def test_large_problems_are_feasible_monotone_and_near_their_bound(layers, options, gap):
  costs, errors = spectral(np.random.default_rng(0), layers, options)
  least, most = int(costs[:, 0].sum()), int(costs[:, -1].sum())
  before = math.inf
  for share in (0.0, 0.02, 0.1, 0.3, 0.31, 0.6, 0.9, 1.0):
    limit = least + int(share * (most - least))
    found = allocate(costs, errors, limit)
    assert found.cost <= limit
    assert found.lower_bound <= found.error <= before
    assert found.gap <= gap
    before = found.error
  assert before == sum(e[-1] for e in errors)


def test_a_bound_that_is_not_proved_is_below_the_optimum():
  # Equal layers, known optimum: cost k leaves error (n - k)^2, and equal shares are best.
  layers, options = 100, 50
  costs, errors = [np.arange(options)] * layers, [(options - np.arange(options)) ** 2.0] * layers
  for limit in (0, 1, 999, 1050, 4321):
    low, extra = divmod(limit, layers)
    optimum = (layers - extra) * (options - low) ** 2 + extra * (options - low - 1) ** 2
    found = allocate(costs, errors, limit)
    assert found.lower_bound * (1 - 1e-12) <= optimum <= found.error
    assert found.gap <= 1e-3


def test_the_order_of_options_does_not_matter():
  rng = np.random.default_rng(1)
  costs, errors = spectral(rng, 8, 20)
  shuffles = [rng.permutation(20) for _ in range(8)]
  limit = int(costs[:, 6].sum())
  mixed = ([c[p] for c, p in zip(costs, shuffles)], [e[p] for e, p in zip(errors, shuffles)])
  found, again = allocate(costs, errors, limit), allocate(*mixed, limit)
  assert tuple(int(p[k]) for p, k in zip(shuffles, again.choices)) == found.choices


@pytest.mark.parametrize(
  ('costs', 'errors', 'limit', 'words'),
  [
    ([[2, 3], [4]], [[1.0, 0.0], [0.0]], 5, 'budget=5 is too small.*6'),
    ([], [], 5, '0 layers'),
    ([[1]], [[1.0], [1.0]], 5, '1 layers of costs and 2'),
    ([[1, 2]], [[1.0]], 5, r'layer 0 .*\(2,\)'),
    ([[1.5]], [[1.0]], 5, 'float64.*ints'),
    ([[]], [[]], 5, 'layer 0'),
    ([[-1]], [[1.0]], 5, 'not negative'),
    ([[1]], [[-1.0]], 5, 'not negative'),
    ([[1]], [[math.nan]], 5, 'finite'),
    ([[1], [1, 2]], [[math.inf], [1.0, 1.0]], 5, 'finite'),
    ([[2**52], [2**52]], [[1.0], [1.0]], 2**60, '2.53'),
  ],
)
def test_bad_options_are_named(costs, errors, limit, words):
  with pytest.raises(ValueError, match=words):
    allocate(costs, errors, limit)


def decaying(model):
  """The model with kernels whose spectra decay at different speeds, as trained ones do."""
  rng = np.random.default_rng(0)

  def scale(parts, node):
    kernel = vars(node).get('kernel') if isinstance(node, nnx.Module) else None
    if isinstance(kernel, nnx.Variable):
      value, power = np.asarray(kernel[...]), rng.uniform(0.1, 1.5)
      for axis in (-1, -2):
        n = value.shape[axis]
        mix = rng.standard_normal((n, n)) * np.arange(1, n + 1) ** -power
        value = np.moveaxis(np.moveaxis(value, axis, -1) @ mix.T, -1, axis)
      kernel[...] = jnp.asarray(value * rng.uniform(0.3, 3) / np.linalg.norm(value), jnp.float32)
    return node

  return nnx.recursive_map(scale, model)


def net():
  """Three convolutions and a linear layer."""
  sizes = ((3, 8, (3, 3)), (8, 16, (3, 3)), (16, 12, (1, 1)))
  convs = [nnx.Conv(*size, rngs=nnx.Rngs(i)) for i, size in enumerate(sizes)]
  return decaying(nnx.Sequential(*convs, nnx.Linear(12, 10, rngs=nnx.Rngs(3))))


def true_error(report, rows):
  return sum(row.squared_error for row in report.layers if row.path in {r.path for r in rows})


METHODS = {
  'svd': tn.schemes.svd(rate=0.5),
  'tk': tn.schemes.tk(rate=0.5),
  'tt': tn.schemes.tt(rate=0.5),
  'r_tk': tn.schemes.r_tk(rate=0.5),
  'r_tt': tn.schemes.r_tt(rate=0.5),
  'r_tt of one pair': tn.schemes.r_tt(rate=0.5, order=1),
  'shuffled tt': tn.schemes.shuffled(rate=0.5),
  'shuffled tk': tn.schemes.shuffled(rate=0.5, format='tk'),
}


@pytest.mark.parametrize('name', METHODS)
def test_compress_keeps_the_budget_and_the_bound(name):
  model, rules = net(), (('layers/[12]', METHODS[name]),)
  chosen, report = budget(model, rules, params_ratio=0.55, key=KEY)
  _, done = tn.compress(model, chosen, KEY)
  assert done.params == report.cost <= report.budget == math.floor(0.55 * done.dense_params)
  assert done.compressed
  rows = {row.path: row for row in done.layers}
  for row in report.layers:
    assert row.ranks == rows[row.path].ranks
    if row.scheme is not None:
      np.testing.assert_allclose(row.squared_norm, rows[row.path].squared_norm, rtol=1e-4)
  error = true_error(done, report.layers)
  assert error <= report.squared_error * (1 + 1e-4)
  if name in ('svd', 'r_tt of one pair'):
    np.testing.assert_allclose(report.squared_error, error, rtol=1e-4)


@pytest.mark.parametrize('name', [name for name in METHODS if not name.startswith('shuffled')])
@pytest.mark.parametrize('ratio', [0.45, 0.7])
def test_plan_counts_the_multiply_adds_foreseen(name, ratio):
  model = net()
  chosen, report = budget(model, METHODS[name], macs_ratio=ratio, input_shape=IMAGE)
  done = tn.compression.plan(model, chosen, input_shape=IMAGE)
  assert done.macs == report.cost <= report.budget == math.floor(ratio * done.dense_macs)
  assert [row.macs for row in done.layers] == [row.cost for row in report.layers]


def test_the_shuffle_foreseen_is_that_of_compress():
  model = nnx.Sequential(*(nnx.Linear(12, 10, rngs=nnx.Rngs(i)) for i in range(2)))
  chosen, report = budget(model, tn.schemes.shuffled(rate=1.0), params_ratio=0.7, key=KEY)
  _, done = tn.compress(model, chosen, KEY)
  np.testing.assert_allclose(report.relative_error, done.relative_error, rtol=1e-3)


@pytest.mark.parametrize('name', ['svd', 'tk', 'tt'])
def test_the_error_is_below_that_of_a_uniform_rate(name):
  model = net()
  uniform = (('layers/[012]', tn.schemes.by_name(name, 0.4)),)
  _, before = tn.compress(model, uniform)
  chosen, report = budget(model, uniform, params=before.params)
  _, after = tn.compress(model, chosen)
  assert after.params <= before.params
  assert true_error(after, report.layers) < 0.9 * true_error(before, report.layers)


def test_ranks_equal_brute_force_over_the_spectra():
  model = decaying(nnx.Sequential(*(nnx.Linear(5, 4, rngs=nnx.Rngs(i)) for i in range(3))))
  kernels = [np.asarray(layer.kernel[...], 'float64') for layer in model.layers]
  model.layers.append(lambda x: x)  # a layer without a kernel is passed over
  tails = [tn.ranks.tail_energies(np.linalg.svd(k, compute_uv=False)) for k in kernels]
  for params in (3 * 9 + 12, 50, 60, 72, 200):
    _, report = budget(model, tn.schemes.svd(rate=0.5), params=params)
    costs = [[9, 18, 20]] * 3  # ranks 1 and 2, or dense
    errors = [[t[1], t[2], 0.0] for t in tails]
    optimum = brute_force(costs, errors, params - 12)
    np.testing.assert_allclose(report.squared_error, optimum, rtol=1e-6, atol=1e-12)
    assert report.gap == 0


def test_more_budget_is_never_worse():
  model, before = net(), math.inf
  for ratio in (0.3, 0.35, 0.5, 0.8, 1.0):
    chosen, report = budget(model, tn.schemes.tk(rate=0.5), params_ratio=ratio)
    assert report.squared_error <= before
    before = report.squared_error
  assert report.squared_error == report.relative_error == 0
  assert all(scheme is None for _, scheme in chosen)


def test_rules_are_honoured_and_the_model_is_unchanged():
  model = net()
  state = jax.tree.map(jnp.copy, nnx.state(model))
  rules = (('layers/0', None), ('layers/1', METHODS['tk']), ('.*', METHODS['tt']))
  chosen, report = budget(model, rules, params_ratio=0.4)
  jax.tree.map(np.testing.assert_array_equal, state, nnx.state(model))
  assert [pattern for pattern, _ in chosen] == ['layers/1', 'layers/2', 'layers/3']
  assert [row.path for row in report.layers] == ['layers/1', 'layers/2', 'layers/3']
  assert [row.scheme for row in report.layers if row.scheme] == ['tk', 'tt']
  lines = str(report).splitlines()
  assert len(lines) == 2 + len(report.layers) + 1
  assert f'{report.cost:,} of {report.budget:,}' in lines[-1]
  assert dataclasses.replace(report, layers=()).relative_error == 0


def test_a_single_layer_is_a_model_too():
  layer = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
  chosen, report = budget(layer, tn.schemes.svd(rate=1.0), params=8 + 3 * 16)
  assert chosen == (('', tn.schemes.svd(ranks=(3,))),)
  assert report.layers[0].ranks == (3,)
  grouped = nnx.Conv(8, 8, (3, 3), feature_group_count=4, rngs=nnx.Rngs(0))
  chosen, _ = budget(grouped, tn.schemes.tk(rate=1.0), macs_ratio=1.0, input_shape=(8, 8, 8))
  assert chosen == (('', None),)  # a grouped kernel is rebuilt, so that no rank saves work


def test_many_tuples_of_ranks_are_thinned_out():
  conv = decaying(nnx.Conv(64, 64, (3, 3), rngs=nnx.Rngs(0)))  # 64 * 192 * 64 tuples
  chosen, report = budget(conv, METHODS['tt'], params_ratio=0.2)
  done = tn.compression.plan(conv, chosen)
  assert 0.19 * done.dense_params < done.params == report.cost <= report.budget
  assert done.layers[0].ranks == report.layers[0].ranks
  same = tn.schemes.tt(rate=0.18).bind((3, 3, 64, 64))
  assert same.num_params < report.cost
  x = same.fold.fold(np.asarray(conv.kernel[...], 'float64'))
  unfoldings = [x.reshape(rows, -1) for rows in (64, 192, 576)]
  tails = [tn.ranks.tail_energies(np.linalg.svd(a, compute_uv=False)) for a in unfoldings]
  assert report.squared_error < sum(t[r] for t, r in zip(tails, same.ranks))


def test_a_zero_kernel_costs_nothing_to_cut():
  model = nnx.Sequential(*(nnx.Linear(8, 8, rngs=nnx.Rngs(0)) for _ in range(2)))
  model.layers[0].kernel[...] = jnp.zeros((8, 8))
  _, report = budget(model, tn.schemes.svd(rate=1.0), params=16 + 16 + 64)
  assert [row.ranks for row in report.layers] == [(1,), ()]
  assert report.squared_error == 0


def test_half_precision_kernels():
  linear = nnx.Linear(8, 8, param_dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
  chosen, report = budget(linear, tn.schemes.svd(rate=1.0), params_ratio=0.8)
  _, done = tn.compress(linear, chosen)
  assert done.params == report.cost
  np.testing.assert_allclose(done.relative_error, report.relative_error, rtol=0.05)


@pytest.mark.parametrize(
  ('rules', 'options', 'words'),
  [
    (METHODS['tk'], {}, 'exactly one of params, params_ratio'),
    (METHODS['tk'], {'params': 9000, 'macs_ratio': 0.5}, 'exactly one.*9000'),
    (METHODS['tk'], {'macs_ratio': 0.5}, 'give input_shape'),
    (METHODS['tk'], {'params_ratio': 0.0}, 'params_ratio=0.0'),
    (METHODS['tk'], {'params_ratio': math.nan}, 'params_ratio=nan'),
    (METHODS['tk'], {'params': 0.5}, 'must be an int.*params_ratio'),
    (METHODS['tk'], {'params': 100}, 'budget of 100 params cannot be met.*outside'),
    (tn.schemes.cp(rate=0.5), {'params_ratio': 0.5}, "layers/0: cp stores 'cp'.*choose among"),
    (tn.schemes.tr(rate=0.5), {'params_ratio': 0.5}, "tr stores 'tr'"),
    (tn.schemes.r_cp(rate=0.5), {'params_ratio': 0.5}, "r_cp stores 'cp'"),
    (METHODS['shuffled tt'], {'params_ratio': 0.5}, 'shuffled for layers/0 draws random.*key'),
    ((('.*', None),), {'params_ratio': 0.5}, 'leave every layer dense'),
    ((('nothing', METHODS['tk']),), {'params_ratio': 0.5}, "'nothing' matches no layer"),
  ],
)
def test_bad_budgets_are_named(rules, options, words):
  with pytest.raises(ValueError, match=words):
    budget(net(), rules, **options)


def test_the_least_budget_named_can_be_met():
  model = net()
  with pytest.raises(ValueError, match='cannot be met') as error:
    budget(model, METHODS['tt'], params=1)
  least = int(re.search(r'still has ([\d,]+)', str(error.value))[1].replace(',', ''))
  _, report = budget(model, METHODS['tt'], params=least)
  assert report.cost == least
  with pytest.raises(ValueError, match='cannot be met'):
    budget(model, METHODS['tt'], params=least - 1)


def test_a_kernel_that_is_not_finite_is_named():
  model = net()
  kernel = model.layers[3].kernel
  kernel[...] = jnp.full_like(kernel[...], jnp.nan)
  with pytest.raises(ValueError, match='layers/3: its kernel has NaN'):
    budget(model, METHODS['tk'], params_ratio=0.5)
