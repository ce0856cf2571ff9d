"""Records behave like the values they stand for."""

import copy
import dataclasses
import operator
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax import formats

RNG = np.random.default_rng(0)


def normal(*shape):
  return RNG.normal(size=shape).astype('float32')


RECORDS = {
  'CP': tn.CP(normal(2), (normal(3, 2), normal(4, 2), normal(5, 2))),
  'Tucker': tn.Tucker(normal(2, 4, 2), (normal(3, 2), None, normal(5, 2))),
  'TT': tn.TT((normal(1, 3, 2), normal(2, 4, 2), normal(2, 5, 1))),
  'TR': tn.TR((normal(2, 3, 2), normal(2, 4, 3), normal(3, 5, 2))),
}
index = RNG.permutation(60).astype('int32')
RECORDS['Shuffled'] = tn.Shuffled(RECORDS['TT'], index, (6, 10))
names = pytest.mark.parametrize('name', RECORDS)


@names
def test_equal_are_those_that_nothing_tells_apart(name):
  x = RECORDS[name]
  same = [
    jax.tree.map(np.copy, x),
    jax.device_put(x),
    copy.deepcopy(x),
    pickle.loads(pickle.dumps(x)),
  ]
  assert all(x == y and not operator.ne(x, y) for y in same)
  double = jax.tree.map(lambda a: a.astype('float64') if a.dtype == 'float32' else a, x)
  wider = jax.tree.map(lambda a: np.concatenate([a, a]), x)
  for other in (x.scaled(2), double, wider, x.full(), None, *RECORDS.values()):
    assert other is x or (x != other and other != x)


def test_equality_looks_at_the_structure_and_knows_nan():
  core, eye = normal(3, 3), np.eye(3, dtype='float32')
  assert tn.Tucker(core, (eye, None)) != tn.Tucker(core, (None, eye))
  nan = tn.TT((np.full((1, 3, 1), np.nan, 'float32'),))
  assert nan == jax.tree.map(np.copy, nan)
  shapes = jax.eval_shape(lambda: RECORDS['TT'])
  assert shapes == jax.eval_shape(lambda: RECORDS['TT'])
  assert shapes != RECORDS['TT']
  assert jax.tree.map(jnp.shape, RECORDS['TT']) == jax.tree.map(jnp.shape, RECORDS['TT'])


@names
def test_there_is_no_hash(name):
  with pytest.raises(TypeError, match=f"unhashable type: '{name}'"):
    hash(RECORDS[name])


@names
def test_a_record_prints_its_facts_in_one_line(name):
  x = RECORDS[name]
  inner = x.tensor if name == 'Shuffled' else x
  facts = f'shape={inner.shape}, ranks={inner.ranks}, dtype=float32'
  assert facts in repr(x)
  assert repr(x).startswith(f'{name}(')
  assert len(repr(x)) < 120


@names
def test_whatever_the_leaves_a_record_prints(name):
  x = RECORDS[name]
  batch = repr(jax.tree.map(lambda a: np.stack([a, a]), x))
  assert 'float32[2,' in batch
  assert 'shape=(2' not in batch
  for f in (jnp.shape, lambda a: None, lambda a: object(), lambda a: 1.0, np.sum):
    assert repr(jax.tree.map(f, x)).startswith(name)
  seen = []
  jax.eval_shape(lambda x: seen.append(repr(x)), x)
  assert seen == [repr(x)]


def test_a_decomposition_prints_its_error_and_compares():
  x = np.arange(24, dtype='float32').reshape(2, 3, 4)
  d = tn.hooi(x, 1, max_iters=40)
  assert repr(d.tensor) in repr(d)
  assert f'relative_error={float(d.relative_error):.4g}' in repr(d)
  assert f'num_iters={int(d.num_iters)}' in repr(d)
  assert 'converged=True' in repr(d)
  assert len(repr(d)) < 200
  assert np.isnan(d.errors).any()  # and NaN is no difference
  assert d == tn.hooi(x, 1, max_iters=40)
  assert d != dataclasses.replace(d, num_iters=d.num_iters + 1)
  assert d != d.tensor
  with pytest.raises(TypeError, match='unhashable'):
    hash(d)


def test_other_results_compare_too():
  matrix = normal(8, 12)
  assert tn.ranks.evbmf(matrix) == tn.ranks.evbmf(matrix)
  assert tn.ranks.evbmf(matrix) != tn.ranks.evbmf(2 * matrix)
  p = tn.schemes.svd(ranks=2).bind((8, 12))
  assert p.fit(matrix) == p.fit(matrix)
  assert 'relative_error=0.' in repr(p.fit(matrix))


@names
def test_numpy_sees_the_dense_tensor(name):
  x = RECORDS[name]
  for record in (x, jax.device_put(x)):
    found = np.asarray(record)
    np.testing.assert_allclose(found, x.full(), rtol=1e-5, atol=1e-5)
    assert found.dtype == 'float32'
  assert np.asarray(x, 'float64').dtype == 'float64'
  np.testing.assert_allclose(np.linalg.norm(x), np.linalg.norm(np.asarray(x).ravel()), rtol=1e-5)
  with pytest.raises(ValueError, match='copy=False'):
    np.array(x, copy=False)
  assert x.ndim == np.ndim(x) == len(x.shape)


@names
def test_quotients(name):
  x = RECORDS[name]
  dense = np.asarray(x)
  for c in (2, 2.0, np.float32(2), np.int8(2), jnp.float32(2)):
    assert x / c == x * 0.5
  np.testing.assert_allclose(x / 3, dense / 3, rtol=1e-5, atol=1e-6)
  turned = x / 2j
  assert turned.dtype == 'complex64'
  np.testing.assert_allclose(turned, dense / 2j, rtol=1e-5, atol=1e-6)
  assert not np.isfinite(np.asarray((x / 0).arrays[0])).all() or name == 'CP'
  for wrong in (lambda: x / x, lambda: 1 / x):
    with pytest.raises(TypeError, match='unsupported operand'):
      wrong()
  with pytest.raises(ValueError, match=r'c has shape \(3,\)'):
    x / np.ones(3)


@pytest.mark.parametrize('name', ['CP', 'Tucker', 'TT', 'TR'])
def test_sums(name):
  x = RECORDS[name]
  total = sum([x, x / 2, x])
  assert type(total) is type(x)
  np.testing.assert_allclose(total, 2.5 * np.asarray(x), rtol=1e-4, atol=1e-5)
  assert sum([x]) == x
  assert sum([x, x], start=x) == x + x + x
  for wrong in (lambda: 1 + x, lambda: x + 'text', lambda: x + np.zeros(())):
    with pytest.raises(TypeError):
      wrong()


@names
def test_dtypes_and_conjugates(name):
  x = RECORDS[name]
  for dtype in ('bfloat16', 'complex64', jnp.float16):
    y = jax.device_put(x).astype(dtype)
    assert y.dtype == dtype
    assert y.full().dtype == dtype
    assert y.shape == x.shape
    back = y.full().real.astype('float32')
    np.testing.assert_allclose(back, x.full(), rtol=0.1, atol=0.3)
  assert x.astype('float64').astype('float32') == x
  assert x.astype('float32') == x == x.conj()
  turned = x * (1 + 2j)
  np.testing.assert_allclose(turned.conj(), np.conj(turned.full()), rtol=1e-5)
  assert turned.conj().conj() == turned
  with pytest.raises(ValueError, match=r'dtype=float32 is real.*complex64'):
    turned.astype('float32')
  for bad in ('int32', bool, 'text', None):
    with pytest.raises(ValueError, match=r'dtype=.*must be floating or complex'):
      x.astype(bad)


@names
def test_values_pass_through_transformations(name):
  x = RECORDS[name]
  found = jax.jit(lambda x: (x / 2).conj().astype('complex64'))(x)
  np.testing.assert_allclose(found, np.asarray(x) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(('shape', 'ranks'), [((3, 4, 5), (2, 3)), ((6, 7), (4,)), ((5,), ())])
def test_ranks_of_trains_with_their_ends(shape, ranks):
  """TensorLy counts the ones at both ends."""
  padded = [1, *ranks, 1]
  assert tn.ranks.tt_ranks(shape, padded) == tn.ranks.tt_ranks(shape, ranks)
  key = jax.random.key(0)
  assert formats.random(tn.TT, key, shape, padded) == formats.random(tn.TT, key, shape, ranks)
  x = normal(*shape)
  assert tn.tt_svd(x, padded) == tn.tt_svd(x, ranks)


def test_ranks_of_rings_with_their_first_again():
  assert tn.ranks.tr_ranks((4, 5, 6), (2, 3, 4, 2)) == (2, 3, 4)
  for wrong in (lambda: tn.ranks.tr_ranks((4, 5, 6), (2, 3, 4, 5)),
                lambda: tn.ranks.tt_ranks((4, 5, 6), (2, 3, 4, 1))):  # fmt: skip
    with pytest.raises(ValueError, match='has 4 entries; this shape needs'):
      wrong()
