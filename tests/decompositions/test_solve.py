"""NumPy in, NumPy out: the same algorithm as the compiled one, without a compiler."""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax.decompositions import METHODS, solve
from tnjax.decompositions._cp_correct import cp_correct_kernel

KEY = jax.random.key(5)


def normal(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


TENSORS = {
  'order 3': normal(5, 6, 7),
  'kernel': normal(3, 3, 16, 12),
  'complex': normal(4, 5, 6) + 1j * normal(4, 5, 6, seed=1),
  'deficient': np.ones((3, 4, 5)),
  'zero': np.zeros((3, 4, 5)),
  'order 1': normal(9),
  'order 5': normal(3, 2, 4, 3, 2),
  'matrix': normal(80, 90),
}
UNIQUE = ('tt_svd', 'hosvd')


def capped(name, shape, rank):
  """Ranks as `solve` takes them."""
  kind = METHODS[name].format
  if kind is tn.CP:
    return tn.ranks.cp_ranks(shape, min(rank, 4))
  if kind is tn.TR:
    return tn.ranks.tr_ranks(shape, min(rank, 4))
  return {tn.TT: tn.ranks.tt_ranks, tn.Tucker: tn.ranks.tucker_ranks}[kind](shape, rank)


def options(name):
  return {'max_iters': 4, 'tol': 0.0} if METHODS[name].options else {}


def numbers(d):
  return [np.asarray(a) for a in jax.tree.leaves(d)]


def gap(x, full):
  return np.linalg.norm((x - full).ravel()) / (np.linalg.norm(x.ravel()) or 1)


@functools.cache
def compiled(name, ranks):
  return jax.jit(functools.partial(solve, name, ranks=ranks, **options(name)))


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('rank', [2, 99])
def test_numpy_in_numpy_out(name, rank):
  for x in TENSORS.values():
    found = solve(name, x, capped(name, x.shape, rank), key=KEY, **options(name))
    assert all(isinstance(a, np.ndarray) for a in jax.tree.leaves(found))
    assert found.tensor.dtype == x.dtype
    assert abs(found.relative_error - gap(x, found.tensor.full())) < 1e-12


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('tensor', ['kernel', 'complex', 'order 1', 'order 5', 'matrix'])
def test_numpy_and_jax_give_the_same_structure(name, tensor):
  x = TENSORS[tensor]
  ranks = capped(name, x.shape, 2)
  found = solve(name, x, ranks, key=KEY, **options(name))
  single = jax.eval_shape(functools.partial(solve, name, ranks=ranks, **options(name)), x, key=KEY)
  assert jax.tree.structure(found.tensor) == jax.tree.structure(single.tensor)
  assert [a.shape for a in jax.tree.leaves(found)] == [a.shape for a in jax.tree.leaves(single)]


def check_agreement(name, x, rank):
  ranks = capped(name, x.shape, rank)
  found = solve(name, x, ranks, key=KEY, **options(name))
  single = compiled(name, ranks)(x, key=KEY)
  error = float(single.relative_error)
  assert abs(found.relative_error - error) < 1e-5 * max(error, 1)
  assert jax.tree.structure(found.tensor) == jax.tree.structure(single.tensor)
  assert [a.shape for a in numbers(found)] == [a.shape for a in numbers(single)]
  if name in UNIQUE or error < 1e-5:
    full = jax.tree.map(np.asarray, single.tensor).full()
    assert gap(found.tensor.full(), full) < 1e-4


@pytest.mark.parametrize('name', METHODS)
def test_numpy_and_jax_agree(name):
  for x in (normal(3, 4, 5), TENSORS['deficient'], TENSORS['zero']):
    check_agreement(name, x, 2)


@pytest.mark.parametrize(
  ('name', 'tensor', 'rank'),
  [
    ('tt_svd', 'matrix', 2),
    ('hosvd', 'matrix', 2),
    ('hosvd', 'kernel', 2),
    ('tr_svd', 'kernel', 99),
    ('hooi', 'complex', 2),
    ('cp_als', 'complex', 2),
    ('tt_svd', 'order 5', 2),
    ('tr_als', 'order 5', 2),
    ('cp_als', 'order 1', 99),
  ],
)
def test_numpy_and_jax_agree_on_other_tensors(name, tensor, rank):
  check_agreement(name, TENSORS[tensor], rank)


@pytest.mark.parametrize('name', METHODS)
def test_numpy_and_jax_agree_to_the_last_digits_in_one_precision(name):
  x = TENSORS['order 3']
  ranks = capped(name, x.shape, 2)
  with jax.enable_x64(True):
    single = compiled(name, ranks)(x, key=KEY)
    found = solve(name, x, ranks, key=KEY, **options(name))
  for a, b in zip(numbers(found), numbers(single)):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


def test_a_ring_of_full_rank_agrees_in_double_precision():
  with jax.enable_x64(True):  # ill-conditioned: float32 goes another way
    check_agreement('tr_als', TENSORS['order 3'], 99)


@pytest.mark.parametrize('name', METHODS)
def test_numpy_compiles_nothing(name, caplog):
  jax.clear_caches()
  x = TENSORS['kernel']
  more = {'init': 'hosvd', 'correct': True} if name == 'cp_als' else {}
  ranks = (3,) if name == 'cp_als' else capped(name, x.shape, 3)
  with jax.log_compiles(True), caplog.at_level(logging.DEBUG):
    jax.jit(lambda x: x + 1)(1.0)
    assert 'ompil' in caplog.text  # the log would tell
    caplog.clear()
    if METHODS[name].options:
      more['max_iters'] = 5
    solve(name, x, ranks, **more)
    assert caplog.text == ''


@pytest.mark.parametrize('name', METHODS)
def test_options_are_those_of_the_door(name):
  x = normal(3, 4, 5).astype('float32')
  ranks = capped(name, x.shape, 2)
  key = {'key': KEY} if METHODS[name].takes_key else {}
  given = ranks[0] if name == 'cp_als' else ranks
  door = getattr(tn, name)(x, given, **key)
  method = METHODS[name]
  plain = jax.jit(functools.partial(solve, name, ranks=ranks))(x, **key)
  jax.tree.map(np.testing.assert_array_equal, door, plain)
  assert isinstance(door.tensor, method.format)


def test_partial_tucker_and_restarts():
  x = TENSORS['kernel']
  d = solve('hooi', x, (4, 5), modes=(2, 3), tol=1e-3)
  assert d.tensor.ranks == (3, 3, 4, 5)
  assert d.converged
  assert d.errors.shape == (300,)
  one = solve('cp_als', x, (6,), key=KEY)
  best = solve('cp_als', x, (6,), key=KEY, restarts=4)
  assert best.relative_error <= one.relative_error + 1e-3
  device = tn.cp_als(jnp.asarray(x, 'float32'), 6, KEY, restarts=4, tol=0.0)
  host = solve('cp_als', x, (6,), key=KEY, restarts=4, tol=0.0)
  np.testing.assert_allclose(host.relative_error, device.relative_error, rtol=1e-2)


def test_correction_on_the_host():
  a, b = np.eye(2)  # the limit of tensors of rank 2, which diverge
  x = sum(np.einsum('i,j,k->ijk', *v) for v in ((a, a, b), (a, b, a), (b, a, a)))
  near = tn.CP(np.array([30.0, -30.0]), (np.stack([a + b / 30, a], axis=1),) * 3)
  d = cp_correct_kernel(x, near, 400, 1.001)
  assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(d))
  size = tn.decompositions.sensitivity
  assert float(size(d.tensor)) < 0.1 * float(size(near))
  assert d.relative_error <= 1.001 * gap(x, near.full())
  plain = solve('cp_als', x, (2,), key=KEY, max_iters=50)
  better = solve('cp_als', x, (2,), key=KEY, max_iters=50, correct=True)
  assert better.relative_error <= 1.001 * plain.relative_error
  assert better.num_iters == plain.num_iters


def test_a_start_that_needs_no_draw_needs_no_key():
  x = TENSORS['order 3']
  assert solve('cp_als', x, (4,), init='hosvd').relative_error < 1
  with pytest.raises(TypeError):
    solve('cp_als', x, (4,))
