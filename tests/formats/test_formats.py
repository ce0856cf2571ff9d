import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax import formats


def normal(i, *shape):
  return jnp.asarray(np.random.default_rng(i).normal(size=shape).astype('float32'))


RECORDS = {
  'TT': (
    tn.TT((normal(0, 1, 2, 3), normal(1, 3, 4, 2), normal(2, 2, 5, 1))),
    'aib,bjc,ckd->ijk',
    (3, 2),
  ),
  'TR': (
    tn.TR((normal(0, 2, 2, 3), normal(1, 3, 4, 4), normal(2, 4, 5, 2))),
    'aib,bjc,cka->ijk',
    (2, 3, 4),
  ),
  'CP': (
    tn.CP(jnp.ones(3), (normal(0, 2, 3), normal(1, 4, 3), normal(2, 5, 3))),
    'ir,jr,kr->ijk',
    (3,),
  ),
  'Tucker': (
    tn.Tucker(normal(0, 2, 3, 2), (normal(1, 2, 2), normal(2, 4, 3), normal(3, 5, 2))),
    'abc,ia,jb,kc->ijk',
    (2, 3, 2),
  ),
}
records = pytest.mark.parametrize('name', RECORDS)


@records
def test_full_equals_einsum(name):
  record, equation, ranks = RECORDS[name]
  assert record.shape == (2, 4, 5)
  assert record.ranks == ranks
  assert record.dtype == 'float32'
  assert record.num_params == sum(a.size for a in record.arrays)
  expected = np.einsum(equation, *record.arrays)
  np.testing.assert_allclose(record.full(), expected, rtol=1e-4, atol=1e-5)


@records
def test_records_are_pytrees_and_work_under_vmap(name):
  record = RECORDS[name][0]
  batch = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), record)
  full = jax.vmap(lambda r: r.full())(batch)
  np.testing.assert_allclose(full[0], record.full(), rtol=1e-4, atol=1e-5)
  same = jax.tree.unflatten(jax.tree.structure(record), jax.tree.leaves(record))
  assert same.shape == record.shape


def test_cp_weights_scale_the_terms_and_can_be_absorbed():
  factors = RECORDS['CP'][0].factors
  weights = jnp.array([3.0, 2.0, 0.5])
  x = tn.CP(weights, factors)
  expected = np.einsum('r,ir,jr,kr->ijk', weights, *factors)
  np.testing.assert_allclose(x.full(), expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(x.absorbed().full(), expected, rtol=1e-4, atol=1e-5)
  assert (x.absorbed().weights == 1).all()


def test_shuffled_round_trip_and_gradient():
  index = jax.random.permutation(jax.random.key(0), 40).astype('int32')
  x = normal(1, 2, 4, 5)
  y = formats.shuffle(x, index, (8, 5))
  np.testing.assert_array_equal(formats.unshuffle(y, index, x.shape), x)
  np.testing.assert_allclose(jnp.linalg.norm(y.ravel()), jnp.linalg.norm(x.ravel()), rtol=1e-6)
  g = normal(2, 2, 4, 5)
  pulled = jax.grad(lambda y: jnp.vdot(formats.unshuffle(y, index, x.shape), g))(y)
  expected = np.zeros(40, 'float32')
  expected[np.asarray(index)] = np.asarray(g).ravel()
  np.testing.assert_array_equal(pulled.ravel(), expected)


@pytest.mark.parametrize('name', ['TT', 'TR', 'CP'])
def test_networks_describe_the_records(name):
  record, _, ranks = RECORDS[name]
  modes = (('i',), ('j',), ('k',))
  net = getattr(formats, name).network(modes, {'i': 2, 'j': 4, 'k': 5}, ranks)
  assert net.num_params() == record.num_params
  assert [math.prod(s) for s in net.shapes().values()] == [a.size for a in record.arrays]


def test_balance_leaves_the_tensor_and_survives_zeros():
  from tnjax.contraction import contract

  net = formats.TT.network((('i',), ('j',), ('k',)), {'i': 3, 'j': 4, 'k': 5}, (2, 3))
  arrays = {n: normal(i, *s) * 10.0**i for i, (n, s) in enumerate(net.shapes().items())}
  arrays['core_0'] = arrays['core_0'].at[:, 1].set(0)
  before = contract(net, arrays, ('i', 'j', 'k'))
  after = formats.balance(net, arrays)
  np.testing.assert_allclose(contract(net, after, ('i', 'j', 'k')), before, rtol=1e-3, atol=1e-2)
  zero = formats.balance(net, {n: 0 * a for n, a in arrays.items()})
  assert all((a == 0).all() for a in zero.values())
