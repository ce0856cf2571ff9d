import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import tnjax as tn
from tnjax import contraction
from tnjax.contraction import Geometry, Network, Problem

KEY = jax.random.key(0)
SCHEMES = ('svd', 'cp', 'tk', 'tt', 'tr', 'r_cp', 'r_tk', 'r_tt')


def bound(name, shape=(3, 3, 8, 12), rate=0.3, batch=2, size=9, strides=1, dilation=1):
  p = tn.schemes.by_name(name, rate).bind(shape)
  spatial = (size,) * (len(shape) - 2)
  g = Geometry.resolve('dhw'[5 - len(shape) :], shape[:-2], strides, 'SAME', dilation, spatial)
  return p, Problem(p.network, p.fold.inputs, p.fold.outputs, g, batch, spatial)


def normal(shape, dtype='float64', seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def factors(layer, dtype='float64'):
  shapes = layer.network.shapes().items()
  return {n: normal(s, dtype, i) for i, (n, s) in enumerate(shapes)}


def dense(layer, arrays, x):
  taps = tuple(a for a in layer.geometry.spatial if a in layer.sizes)
  kernel = contraction.contract(layer.network, arrays, (*taps, *layer.inputs, *layer.outputs))
  if not layer.spatial:
    return x @ kernel.reshape(x.shape[-1], -1)
  g = layer.geometry
  kernel = kernel.reshape(*(layer.sizes.get(a, 1) for a in g.spatial), x.shape[-1], -1)
  axes = ('NHWC', 'HWIO', 'NHWC')
  return lax.conv_general_dilated(
    x, kernel, g.strides, g.padding, rhs_dilation=g.dilation, dimension_numbers=axes
  )


def close(a, b, tolerance=1e-10):
  a, b = np.asarray(a), np.asarray(b)
  return a.shape == b.shape and np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


def work(layer, tree):
  """Multiply-adds of an order, from the definition: every size once, a convolution's output times
  its taps; written without the planner's own bookkeeping.
  """
  layer = layer.subsampled
  spatial = layer.geometry.spatial
  total = 0
  nodes = {1: (set(layer.inputs), dict(zip(spatial, layer.spatial)))}
  nodes |= {2 << i: (set(labels), None) for i, labels in enumerate(layer.network.labels)}
  for left, right in tree:
    (a, positions), (b, none) = nodes.pop(left), nodes.pop(right)
    if positions is None and none is not None:
      (a, positions), (b, none) = (b, none), (a, positions)
    labels, count = a | b, 1
    elsewhere = set(layer.outputs).union(*(ls for ls, _ in nodes.values()))
    if positions is not None:
      positions = {
        k: layer.geometry.output_size(k, n) if k in b else n for k, n in positions.items()
      }
      count = layer.batch * math.prod(positions.values())
      kept = (labels & elsewhere) - set(spatial)
    else:
      kept = labels & (elsewhere | set(spatial))
    total += count * math.prod(layer.sizes[x] for x in labels)
    nodes[left | right] = (kept, positions)
  return total


def all_trees(members):
  if len(members) == 1:
    yield members[0], []
    return
  first, rest = members[0], members[1:]
  for size in range(len(rest)):
    for chosen in itertools.combinations(rest, size):
      others = [m for m in rest if m not in chosen]
      for a, left in all_trees([first, *chosen]):
        for b, right in all_trees(others):
          yield a | b, [*left, *right, (a, b)]


@pytest.mark.parametrize('name', SCHEMES)
@pytest.mark.parametrize('options', [{}, {'strides': (2, 1)}, {'dilation': 2}], ids=str)
def test_every_order_equals_the_dense_convolution(name, options):
  with jax.enable_x64(True):
    _, layer = bound(name, **options)
    arrays, x = factors(layer), normal((2, 9, 9, 8), seed=99)
    every = list(contraction.orders(layer))
    orders = [*every[:: max(41, len(every) // 6)], contraction.chain(layer)]
    plans = [contraction.Schedule(layer, steps, 'time', False, 'cpu') for steps in orders]
    plans.append(contraction.schedule(layer))

    @jax.jit
    def run(arrays, x):
      return dense(layer, arrays, x), [contraction.execute(plan, arrays, x) for plan in plans]

    expected, found = run(arrays, x)
    for plan, y in zip(plans, found, strict=True):
      assert close(y, expected), plan.steps


@pytest.mark.parametrize('name', SCHEMES)
@pytest.mark.parametrize(('batch', 'rate'), [(1, 0.1), (128, 0.05), (128, 1.0)])
@pytest.mark.parametrize('strides', [1, 2])
def test_planned_work_is_the_least_of_all_orders(name, batch, rate, strides):
  _, layer = bound(name, (3, 3, 64, 32), rate, batch, 14, strides)
  plan = contraction.schedule(layer, 'flops')
  operands = [1 << i for i in range(len(layer.operands))]
  least = min(work(layer, tree) for _, tree in all_trees(operands))
  assert plan.macs == least
  assert sum(step.pair.macs for step in contraction.chain(layer)) >= least


@given(st.data())
def test_random_networks_equal_einsum(data):
  """Operands with labels at random, hyperedges and plain sums among them."""
  count = data.draw(st.integers(1, 4))
  bonds = [f'r{i}' for i in range(3)]
  sizes = {x: data.draw(st.integers(1, 3)) for x in (*bonds, 's1', 's2', 't1', 't2')}
  owner = {x: data.draw(st.integers(0, count - 1)) for x in ('s1', 's2', 't1', 't2')}
  labels = []
  for i in range(count):
    own = [x for x, k in owner.items() if k == i]
    own += [b for b in bonds if data.draw(st.booleans())]
    labels.append(tuple(data.draw(st.permutations(own))))
  used = {x: n for x, n in sizes.items() if any(x in ls for ls in labels)}
  net = Network(tuple(f'f{i}' for i in range(count)), tuple(labels), tuple(used.items()))
  layer = Problem(net, ('s1', 's2'), ('t1', 't2'), batch=2)
  rng = np.random.default_rng(0)
  arrays = {n: rng.normal(size=s) for n, s in net.shapes().items()}
  x = rng.normal(size=(2, sizes['s1'] * sizes['s2']))
  letter = {x: chr(97 + i) for i, x in enumerate(sizes)}
  terms = ','.join(''.join(letter[x] for x in ls) for ls in labels)
  ends = [''.join(letter[x] for x in pair) for pair in (('s1', 's2'), ('t1', 't2'))]
  expected = np.einsum(
    f'z{ends[0]},{terms}->z{ends[1]}', x.reshape(2, sizes['s1'], sizes['s2']), *arrays.values()
  ).reshape(2, -1)
  with jax.enable_x64(True):
    plans = [contraction.schedule(layer, objective) for objective in contraction.OBJECTIVES]
    run = jax.jit(lambda arrays, x: [contraction.execute(plan, arrays, x) for plan in plans])
    for y in run(arrays, x):
      np.testing.assert_allclose(y, expected, atol=1e-9 * max(1, np.abs(expected).max()))


def test_objectives_and_training_choose_differently_and_optimally():
  _, layer = bound('tt', (3, 3, 64, 64), 0.4, 128, 8)
  for training in (False, True):
    plans = {o: contraction.schedule(layer, o, training, 'cpu') for o in contraction.OBJECTIVES}
    assert min(plans.values(), key=lambda p: p.macs).macs == plans['flops'].macs
    assert min(plans.values(), key=lambda p: p.floats).floats == plans['bytes'].floats
    assert min(plans.values(), key=lambda p: p.seconds).seconds == plans['time'].seconds
  assert (
    contraction.schedule(layer, training=True).seconds > 2 * contraction.schedule(layer).seconds
  )


def test_a_matrix_may_take_two_products_or_the_rebuilt_kernel():
  p = tn.schemes.r_tt(ranks=2, in_modes=(8, 8), out_modes=(8, 8)).bind((64, 64))
  layer = Problem(p.network, p.fold.inputs, p.fold.outputs, batch=1)
  assert not contraction.schedule(layer, 'flops').rebuilds
  full = tn.schemes.svd(ranks=64).bind((64, 64))
  many = Problem(full.network, full.fold.inputs, full.fold.outputs, batch=10_000)
  assert contraction.schedule(many, 'flops').rebuilds


def test_memory_limits_what_lies_between():
  _, layer = bound('svd', (3, 3, 8, 8), 1.0, 16, 16)
  free = contraction.schedule(layer, 'flops')
  largest = max(step.pair.out for step in free.steps[:-1])
  tight = contraction.schedule(layer, 'flops', memory=largest - 1)
  assert max(step.pair.out for step in tight.steps[:-1]) < largest
  assert tight.macs >= free.macs
  with pytest.raises(ValueError, match='memory=1'):
    contraction.schedule(layer, memory=1)


def test_differentiation_takes_the_training_order_and_agrees():
  with jax.enable_x64(True):
    for name in ('cp', 'tt', 'r_tk'):
      _, layer = bound(name, (3, 3, 8, 12), 0.9, 2, 9)
      arrays, x = factors(layer), normal((2, 9, 9, 8), seed=99)

      def loss(arrays, x, f, layer=layer):
        return jnp.sum(jnp.sin(f(layer, arrays, x)))

      gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)
      found, expected = (gradient(arrays, x, f) for f in (contraction.apply, dense))
      for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected)):
        assert close(a, b), name
      forward = partial(contraction.apply, layer, arrays)
      tangent = jax.jit(lambda x, forward=forward: jax.jvp(forward, (x,), (x,))[1])(x)
      assert close(tangent, jax.jit(partial(dense, layer))(arrays, x)), name


def test_many_operands_take_one_of_the_usual_orders():
  modes = (2,) * 11
  p = tn.schemes.r_tt(ranks=2, in_modes=modes, out_modes=modes).bind((2048, 2048))
  layer = Problem(p.network, p.fold.inputs, p.fold.outputs, batch=3)
  arrays = factors(layer, 'float32')
  x = normal((3, 2048), 'float32', 99)
  plan = contraction.schedule(layer, 'flops')
  assert plan.macs <= sum(step.pair.macs for step in contraction.chain(layer))
  found = jax.jit(partial(contraction.execute, plan))(arrays, x)
  assert close(found, x @ jax.jit(p.dense)(arrays), 1e-4)


def test_peak_and_stored_memory():
  net = Network(('a', 'b'), (('s1', 'r'), ('r', 't1')), (('s1', 6), ('t1', 5), ('r', 2)))
  layer = Problem(net, ('s1',), ('t1',), batch=3)
  plan = contraction.Schedule(layer, contraction.chain(layer), 'flops', False, 'cpu')
  assert plan.peak_floats == 3 * 6 + 6 * 2 + 2 * 5 + 3 * 2
  assert plan.stored_floats == 3 * 6 + 6 * 2 + 3 * 2 + 2 * 5
  assert plan.macs == 3 * 6 * 2 + 3 * 2 * 5


def test_xla_counts_the_planned_work():
  _, layer = bound('tk', (3, 3, 16, 24), 0.3, 2, 9)
  plan = contraction.schedule(layer, 'flops')
  run = jax.jit(lambda f, x: contraction.execute(plan, f, x))
  cost = run.lower(factors(layer, 'float32'), jnp.ones((2, 9, 9, 16))).compile().cost_analysis()
  assert 0.8 * 2 * plan.macs < cost['flops'] < 1.1 * 2 * plan.macs  # XLA leaves padding out


def test_explain_shows_steps_and_dense():
  _, layer = bound('tk', (3, 3, 16, 24), 0.3, 2, 9)
  plan = contraction.schedule(layer)
  table = contraction.explain(plan)
  assert len(table.splitlines()) == len(plan.steps) + 4
  assert f'{plan.macs:,}' in table
  assert f'{layer.dense_macs:,}' in table


def test_bad_arguments_are_named():
  _, layer = bound('tk')
  with pytest.raises(ValueError, match="objective='speed'"):
    contraction.schedule(layer, 'speed')
  with pytest.raises(ValueError, match="device='abacus'.*A100"):
    contraction.schedule(layer, device='abacus')
  with pytest.raises(ValueError, match=r"spatial=\(\).*'h', 'w'"):
    contraction.schedule(Problem(layer.network, layer.inputs, layer.outputs, layer.geometry))
  other = Geometry.resolve('hw', (5, 5), padding='SAME', size=(9, 9))
  with pytest.raises(ValueError, match=r'geometry.kernel=\(5, 5\).*size 3'):
    contraction.schedule(Problem(layer.network, layer.inputs, layer.outputs, other, 2, (9, 9)))
  with pytest.raises(ValueError, match="lacks the network's label"):
    contraction.schedule(Problem(layer.network, layer.inputs, layer.outputs))


def test_memory_holds_for_many_operands_too():
  p = tn.schemes.r_tt(ranks=2, in_modes=(2,) * 11, out_modes=(2,) * 11).bind((2048, 2048))
  layer = Problem(p.network, p.fold.inputs, p.fold.outputs, batch=3)
  plan = contraction.schedule(layer, memory=50_000)
  assert max(step.pair.out for step in plan.steps[:-1]) <= 50_000
  with pytest.raises(ValueError, match='memory=10'):
    contraction.schedule(layer, memory=10)


def test_an_empty_batch_or_output():
  for shape, x, out in (
    ((8, 4), (0, 8), (0, 4)),
    ((3, 3, 4, 6), (0, 5, 5, 4), (0, 3, 3, 6)),
    ((3, 3, 4, 6), (1, 2, 2, 4), (1, 0, 0, 6)),
  ):
    for name in ('svd', 'cp'):
      p = tn.schemes.by_name(name, 0.5).bind(shape)
      assert jax.jit(p.apply)(p.init(KEY), jnp.ones(x)).shape == out
