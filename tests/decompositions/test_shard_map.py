"""Every method runs inside `jax.shard_map` as it comes: a tensor on each device."""

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import tnjax as tn

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype('float32')
LARGE = jax.ShapeDtypeStruct((2, 64, 256, 128), 'float32')  # its error is taken block by block

ITERATIVE = {
  'hooi': lambda x, **o: tn.hooi(x, 2, **o),
  'cp_als': lambda x, **o: tn.cp_als(x, 2, KEY, **o),
  'cp_als hosvd': lambda x, **o: tn.cp_als(x, 8, KEY, init='hosvd', **o),
  'cp_als restarts': lambda x, **o: tn.cp_als(x, 2, KEY, restarts=2, **o),
  'tr_als': lambda x, **o: tn.tr_als(x, 2, **o),
}
SOLVER = tn.schemes.Solver('cp_als', correct=True)
OTHERS = {
  'cp_correct': lambda x: tn.decompositions.cp_correct(x, tn.cp_als(x, 2, KEY).tensor, max_iters=4),
  'tt_round': lambda x: tn.tt_round(sum([tn.tt_svd(x, 2).tensor] * 2) / 2, 2),
  'tr_svd': lambda x: tn.tr_svd(x, 2),
  'hosvd': lambda x: tn.hosvd(x, 2),
  'shuffled': lambda x: tn.shuffled(x, tn.hooi, KEY, ranks=2),
  'fit': lambda x: tn.schemes.cp(ranks=2, solver=SOLVER).bind(x.shape).fit(x, KEY),
}


def sharded(run, spec=PartitionSpec('i')):
  """`run` of the part on every device; results are stacked."""
  mesh = Mesh(np.array(jax.devices()[:2]), 'i')
  one = lambda x: jax.tree.map(lambda a: a[None], run(x[0]))  # noqa: E731
  return jax.jit(jax.shard_map(one, mesh=mesh, in_specs=spec, out_specs=spec))


@pytest.mark.parametrize('tol', [0.0, 1e-6])
@pytest.mark.parametrize('name', ITERATIVE)
def test_iterations_trace(name, tol):
  sharded(lambda x: ITERATIVE[name](x, max_iters=3, tol=tol)).trace(X)


@pytest.mark.parametrize('name', OTHERS)
def test_other_methods_trace(name):
  sharded(OTHERS[name]).trace(X)


def test_blocks_replicas_and_gradients_trace():
  run = lambda x: tn.hooi(x, 2, max_iters=3)  # noqa: E731
  sharded(run).trace(LARGE)
  sharded(run, PartitionSpec()).trace(X)
  sharded(jax.grad(lambda x: tn.cp_als(x, 2, KEY, tol=0.0).tensor.full().sum())).trace(X)


def test_every_device_finds_what_it_would_alone():
  run = jax.jit(lambda x: tn.hooi(x, 2, max_iters=50, tol=1e-4))
  data = np.stack([X[0], np.ones_like(X[0])])  # one of them is done sooner
  together = jax.device_get(sharded(run)(data))
  assert together.num_iters[0] != together.num_iters[1]
  for k, x in enumerate(data):
    alone, found = run(x), jax.tree.map(lambda a, k=k: np.asarray(a[k]), together)
    assert found.num_iters == alone.num_iters
    np.testing.assert_allclose(found.relative_error, alone.relative_error, rtol=1e-4)
    np.testing.assert_allclose(found.tensor, alone.tensor, atol=1e-3)


def test_starts_may_differ_where_the_tensor_does_not():
  run = lambda key: tn.cp_als(X[0], 2, key, restarts=2)  # noqa: E731
  sharded(run).trace(jax.random.split(KEY))
