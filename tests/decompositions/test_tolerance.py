"""A tolerance in place of ranks: guaranteed, capped, and spent as it goes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnjax as tn

METHODS = {'tt_svd': tn.tt_svd, 'tr_svd': tn.tr_svd, 'hosvd': tn.hosvd}
methods = pytest.mark.parametrize('name', METHODS)


def planted(spectrum, size=12, order=3, dtype='float64', seed=0):
  rng = np.random.RandomState(seed)
  factors = [np.linalg.qr(rng.randn(size, len(spectrum)))[0] for _ in range(order)]
  if np.dtype(dtype).kind == 'c':
    factors = [f * np.exp(1j * rng.rand(*f.shape)) for f in factors]
    factors = [np.linalg.qr(f)[0] for f in factors]
  letters = 'abcdefg'[:order]
  equation = 'r,' + ','.join(x + 'r' for x in letters) + '->' + letters
  return jnp.asarray(np.einsum(equation, spectrum, *factors).astype(dtype))


@methods
@pytest.mark.parametrize(('tol', 'rank'), [(1.5e-9, 3), (1.5e-6, 2), (1.5e-3, 1)])
def test_a_planted_spectrum_gives_its_ranks(name, tol, rank):
  with jax.enable_x64(True):
    x = planted([1, 1e-3, 1e-6, 1e-9])
    d = METHODS[name](x, tol=tol)
    expected = {
      'tt_svd': (rank, rank),
      'tr_svd': (1, rank, rank),
      'hosvd': (rank, rank, rank),
    }[name]
    assert d.tensor.ranks == expected
    assert d.relative_error <= tol


@methods
@given(
  shape=st.lists(st.integers(1, 6), min_size=1, max_size=5),
  tol=st.sampled_from([0.9, 0.5, 0.2, 0.05]),
  seed=st.integers(0, 99),
)
def test_the_error_stays_within_the_tolerance(name, shape, tol, seed):
  x = jax.random.normal(jax.random.key(seed), tuple(shape))
  d = METHODS[name](x, tol=tol)
  gap = np.linalg.norm(np.asarray(x - d.tensor.full()).ravel()) / np.linalg.norm(x.ravel())
  assert gap <= tol * (1 + 1e-5)
  assert d.relative_error <= tol


@methods
@pytest.mark.parametrize('dtype', ['float32', 'float64', 'complex64', 'complex128', 'bfloat16'])
def test_every_dtype(name, dtype):
  with jax.enable_x64(True):
    x = planted(0.3 ** np.arange(6), dtype='float32' if dtype == 'bfloat16' else dtype)
    x = x.astype(dtype)
    d = METHODS[name](x, tol=0.05)
    assert d.tensor.dtype == x.dtype
    assert d.relative_error <= 0.05
    assert max(d.tensor.ranks) <= 5


@methods
def test_ranks_are_upper_limits(name):
  x = planted(0.5 ** np.arange(8), dtype='float32')
  free = METHODS[name](x, tol=0.01)
  capped = METHODS[name](x, ranks=3, tol=0.01)
  assert max(free.tensor.ranks) > 3
  assert max(capped.tensor.ranks) == 3
  assert capped.relative_error > 0.01
  loose = METHODS[name](x, ranks=30, tol=0.01)
  assert loose.tensor.ranks == free.tensor.ranks


@methods
def test_huge_tiny_and_zero_tensors(name):
  x = planted([1, 1e-2], dtype='float32')
  ranks = METHODS[name](x, tol=0.1).tensor.ranks
  for scale in (1e-30, 1e30):
    d = METHODS[name](x * scale, tol=0.1)
    assert d.tensor.ranks == ranks
    assert d.relative_error <= 0.1
  zero = METHODS[name](0 * x, tol=0.1)
  assert set(zero.tensor.ranks) == {1}
  assert zero.relative_error == 0


@methods
def test_a_looser_tolerance_never_stores_more(name):
  x = jax.random.normal(jax.random.key(0), (6, 7, 8, 5))
  sizes = [METHODS[name](x, tol=tol).tensor.num_params for tol in (0.05, 0.2, 0.5, 0.8)]
  if name != 'tr_svd':  # a ring's first split may jump
    assert sizes == sorted(sizes, reverse=True)
  assert sizes[-1] < sizes[0]


def test_what_one_cut_leaves_unused_serves_the_next():
  # The last bond needs nothing (rank 1 exactly), so the first may use the whole budget: its tail
  # is above an equal share, tol / sqrt(2), and below tol.
  with jax.enable_x64(True):
    a = np.diag([1.0, 0.09]) @ np.linalg.qr(np.random.RandomState(0).randn(2, 2))[0]
    x = jnp.asarray(a[:, :, None] * np.ones(4))
    assert tn.tt_svd(x, tol=0.1).tensor.ranks == (1, 1)


def test_partial_tucker_by_tolerance():
  x = jax.random.normal(jax.random.key(0), (3, 3, 16, 16)) * 0.01
  x = x + planted([1.0, 0.5], size=16, order=2, dtype='float32')[None, None]
  d = tn.hosvd(x, modes=(2, 3), tol=0.2)
  assert d.tensor.factors[0] is None
  assert d.tensor.ranks == (3, 3, 2, 2)


@methods
def test_refusals(name):
  x = jnp.ones((3, 4, 5))
  with pytest.raises(ValueError, match='give ranks=, or tol='):
    METHODS[name](x)
  for tol in (-0.1, float('nan'), 'small', True, jnp.ones(())):
    with pytest.raises(ValueError, match='tol='):
      METHODS[name](x, tol=tol)
  with pytest.raises(ValueError, match='which is traced here'):
    jax.jit(lambda x: METHODS[name](x, tol=0.1).relative_error)(x)


def entries(shape, values):
  x = np.zeros(shape, 'float32')
  for index, value in values.items():
    x[index] = value
  return jnp.asarray(x)


def test_ranks_of_the_second_pass_fit_together():
  small = 0.03**0.5
  x = entries(
    (2, 3, 2, 3),
    {
      (0, 0, 0, 0): 1,
      (0, 1, 0, 1): 1,
      (0, 2, 1, 0): 1,
      (1, 0, 1, 1): 1,
      (1, 1, 0, 2): small,
    },
  )
  assert tn.tt_svd(x, tol=0.1).relative_error <= 0.1
  x = entries(
    (8, 4, 2),
    {
      (0, 0, 0): 10,
      (1, 0, 1): 10,
      (2, 1, 0): 10,
      (3, 1, 1): 10,
      (4, 2, 0): 0.34**0.5,
      (0, 3, 1): 0.3**0.5,
    },
  )
  assert tn.hosvd(x, tol=0.04996).relative_error <= 0.04996


def test_the_tolerance_holds_where_the_kernel_cuts_in_another_order():
  six, five, two = 6**0.5, 5**0.5, 2**0.5
  x = entries(
    (4, 3, 6),
    {
      (0, 0, 0): six,
      (1, 0, 1): six,
      (0, 1, 2): five,
      (1, 1, 3): five,
      (2, 1, 4): two,
      (3, 1, 5): two,
    },
  )
  assert tn.hosvd(x, modes=(0, 1), tol=0.782).relative_error <= 0.782
  best = tn.hooi(x, (2, 1), modes=(0, 1))
  np.testing.assert_allclose(best.relative_error, (14 / 26) ** 0.5, rtol=1e-4)


def test_a_limit_may_bite_at_the_first_cut_of_a_ring():
  x = jax.random.normal(jax.random.key(0), (4, 5, 6))
  assert tn.tr_svd(x, ranks=(1, 2, 2), tol=0.01).tensor.ranks == (1, 2, 2)


def test_a_tolerance_below_the_rounding_of_the_input_asks_for_no_more_ranks():
  a = jax.random.normal(jax.random.key(0), (12,))
  x = jnp.einsum('i,j,k->ijk', a, a, a).astype('bfloat16')
  assert max(tn.tt_svd(x, tol=1e-5).tensor.ranks) <= 12
  assert tn.tt_svd(x, tol=1e-2).tensor.ranks == (1, 1)
