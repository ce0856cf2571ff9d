"""Splits of a ring: exact where the ranks allow it, never worse with more of them; its starts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax.decompositions import solve
from tnjax.ops import one_thread

KEY = jax.random.key(3)


def normal(shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


def gap(x, d):
  full = jax.tree.map(np.asarray, d.tensor).full()
  return np.linalg.norm((x - full).ravel()) / np.linalg.norm(x.ravel())


def planted(shape, ranks, seed=0):
  sizes = zip(ranks, shape, (*ranks[1:], ranks[0]))
  return tn.TR(tuple(normal(size, seed + i) for i, size in enumerate(sizes))).full()


@pytest.mark.parametrize('shape', [(5, 4, 6), (8, 4, 4), (2, 3, 4, 3), (3, 3, 16, 16), (9, 2)])
def test_exact_wherever_a_train_opened_at_some_bond_is(shape):
  x = normal(shape)
  cases = [tn.ranks.tr_ranks(shape, 100)]
  for n in range(len(shape)):
    train = tn.ranks.tt_ranks((*shape[n:], *shape[:n]), 1000)
    ranks = [0] * len(shape)
    for k, rank in enumerate((1, *train)):
      ranks[(n + k) % len(shape)] = rank
    cases += [tuple(ranks), tuple(min(2 * r, most) for r, most in zip(ranks, cases[0]))]
  for ranks in cases:
    d = solve('tr_svd', x, ranks)
    assert d.tensor.ranks == ranks
    assert gap(x, d) < 1e-14


def test_exact_on_a_train_that_only_the_spectrum_tells():
  for n in range(3):
    x = planted((5, 6, 7), (*(2, 1, 3)[n:], *(2, 1, 3)[:n]))
    for ranks in ((4, 3, 3), (3, 3, 4), (3, 4, 3), (4, 4, 4)):
      assert gap(x, solve('tr_svd', x, ranks)) < 1e-13


@pytest.mark.parametrize('shape', [(5, 4, 6), (8, 4, 4), (3, 4, 3, 5), (3, 3, 16, 16)])
def test_the_error_never_rises_with_the_ranks(shape):
  caps = tn.ranks.tr_ranks(shape, 9)
  grid = itertools.product(*(range(1, cap + 1) for cap in caps))
  grid = [r for r in grid if tn.ranks.tr_ranks(shape, r) == r]
  slack = 1e-12 if len(shape) == 3 else 1e-3  # of three cuts in a row, the first may mislead
  for seed in range(2):
    x = normal(shape, seed) + seed * planted(shape, (3,) * len(shape))
    error = functools.cache(lambda r, x=x: float(solve('tr_svd', x, r).relative_error))
    picked = np.random.default_rng(seed).permutation(len(grid))[: 40 if len(shape) == 3 else 8]
    with one_thread():
      for r in (grid[i] for i in picked):
        for k in range(len(shape)):
          more = tn.ranks.tr_ranks(shape, (*r[:k], r[k] + 1, *r[k + 1 :]))
          assert error(more) <= error(r) + slack, (r, more)


def textbook(x, ranks):
  """Zhao et al. 2016, algorithm 1, with the vectors dealt column by column; r_0 r_1 <= I_1."""
  u, s, vh = np.linalg.svd(x.reshape(x.shape[0], -1), full_matrices=False)
  count = ranks[0] * ranks[1]
  cores = [u[:, :count].reshape(-1, ranks[1], ranks[0]).transpose(2, 0, 1)]
  rest = (s[:count, None] * vh[:count]).reshape(ranks[1], ranks[0], -1).transpose(0, 2, 1)
  bond = ranks[1]
  for size, rank in zip(x.shape[1:-1], ranks[2:]):
    u, s, vh = np.linalg.svd(rest.reshape(bond * size, -1), full_matrices=False)
    cores.append(u[:, :rank].reshape(bond, size, -1))
    rest, bond = s[:rank, None] * vh[:rank], rank
  cores.append(rest.reshape(bond, x.shape[-1], ranks[0]))
  return np.linalg.norm(x - tn.TR(tuple(cores)).full()) / np.linalg.norm(x)


def test_no_worse_than_the_textbook():
  ratios = []
  for seed, (shape, ranks) in enumerate(
    itertools.product(((12, 5, 6), (9, 4, 4, 5)), ((2, 3, 3), (3, 3, 2), (3, 2, 4)))
  ):
    ranks = (*ranks, 3)[: len(shape)]
    for x in (normal(shape, seed), planted(shape, ranks, seed) + 0.1 * normal(shape, seed)):
      ratios.append(solve('tr_svd', x, ranks).relative_error / textbook(x, ranks))
  assert max(ratios) <= 1.001
  assert np.mean(ratios) < 0.95


def test_compiled_splits_are_those_of_the_host():
  x = normal((5, 4, 6))
  for ranks in ((6, 5, 6), (4, 4, 3)):
    d = tn.tr_svd(x.astype('float32'), ranks)
    assert d.tensor.ranks == ranks
    host = solve('tr_svd', x, ranks).relative_error
    np.testing.assert_allclose(gap(x, d), host, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(d.relative_error, host, rtol=1e-4, atol=1e-6)
  traced = jax.jit(lambda x: tn.tr_svd(x, ranks))(x.astype('float32'))
  jax.tree.map(np.testing.assert_array_equal, d, traced)


def test_empty_slots_are_there_for_als():
  x = planted((4, 5, 6), (3, 3, 2))  # nine slots for four vectors
  start = solve('tr_svd', x, (3, 3, 2))
  for core in start.tensor.cores[1:]:
    assert (np.abs(core).max((1, 2)) > 0).all()
  assert solve('tr_als', x, (3, 3, 2), max_iters=200).relative_error < start.relative_error / 3


def test_restarts_recover_a_planted_ring():
  options = {'max_iters': 600, 'tol': 0.0, 'restarts': 5, 'key': KEY}
  for seed, init in enumerate(('svd', 'random')):
    x = planted((6, 4, 5), (2, 3, 2), seed)
    assert solve('tr_als', x, (2, 3, 2), init=init, **options).relative_error < 1e-6
  d = tn.tr_als(x.astype('float32'), (2, 3, 2), max_iters=600, restarts=5, key=KEY, tol=1e-9)
  assert d.relative_error < 1e-3
  assert d.errors.shape == (600,)


def test_als_never_ends_above_tr_svd():
  for seed, ranks in enumerate(((2, 2, 2), (3, 4, 3), (6, 5, 6), (5, 4, 1))):
    x = normal((5, 4, 6), seed)
    floor = solve('tr_svd', x, ranks).relative_error
    for options in ({}, {'init': 'random', 'max_iters': 2}, {'restarts': 2, 'max_iters': 3}):
      d = solve('tr_als', x, ranks, key=KEY, **options)
      assert d.relative_error <= floor * (1 + 1e-12)
      assert abs(d.relative_error - gap(x, d)) < 1e-10


def test_random_starts_need_a_key():
  x = jnp.ones((3, 4, 5))
  for bad in ({'init': 'random'}, {'restarts': 2}):
    with pytest.raises(ValueError, match='key=None'):
      tn.tr_als(x, 2, **bad)
  with pytest.raises(ValueError, match="init='hosvd'.*svd"):
    tn.tr_als(x, 2, init='hosvd')
  with pytest.raises(ValueError, match='restarts=0'):
    tn.tr_als(x, 2, restarts=0)
