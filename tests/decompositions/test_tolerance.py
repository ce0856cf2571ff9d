"""A tolerance in place of ranks: guaranteed, capped, and spent as it goes."""

import contextlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnjax as tn
from tnjax.decompositions import _tr_svd, _tt_svd, _tucker

METHODS = {'tt_svd': tn.tt_svd, 'tr_svd': tn.tr_svd, 'hosvd': tn.hosvd}
methods = pytest.mark.parametrize('name', METHODS)


@contextlib.contextmanager
def kernels_on_host():
  """The doors, in double precision, with their kernels on NumPy: nothing is compiled for a rank."""
  with contextlib.ExitStack() as stack:
    stack.enter_context(jax.enable_x64(True))
    for module, name, kernel in (
      (_tt_svd, '_jitted', _tt_svd.tt_svd_kernel),
      (_tr_svd, '_svd_jitted', _tr_svd.tr_svd_kernel),
      (_tucker, '_hosvd_jitted', _tucker.hosvd_kernel),
      (_tucker, '_hooi_jitted', _tucker.hooi_kernel),
    ):
      run = lambda x, *static, kernel=kernel: kernel(np.asarray(x), *static)  # noqa: E731
      stack.enter_context(mock.patch.object(module, name, run))
    yield


def normal(shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape)


def true_error(x, d):
  full = jax.tree.map(np.asarray, d.tensor).full()
  return np.linalg.norm((x - full).ravel()) / np.linalg.norm(x.ravel())


def planted(spectrum, size=12, order=3, dtype='float64', seed=0):
  rng = np.random.RandomState(seed)
  factors = [np.linalg.qr(rng.randn(size, len(spectrum)))[0] for _ in range(order)]
  if np.dtype(dtype).kind == 'c':
    factors = [f * np.exp(1j * rng.rand(*f.shape)) for f in factors]
    factors = [np.linalg.qr(f)[0] for f in factors]
  letters = 'abcdefg'[:order]
  equation = 'r,' + ','.join(x + 'r' for x in letters) + '->' + letters
  return np.einsum(equation, spectrum, *factors).astype(dtype)


@methods
@pytest.mark.parametrize(('tol', 'rank'), [(1.5e-9, 3), (1.5e-6, 2), (1.5e-3, 1)])
def test_a_planted_spectrum_gives_its_ranks(name, tol, rank):
  with kernels_on_host():
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
  x = normal(shape, seed)
  with kernels_on_host():
    d = METHODS[name](x, tol=tol)
  assert true_error(x, d) <= tol * (1 + 1e-5)
  assert d.relative_error <= tol


@methods
def test_the_error_stays_within_the_tolerance_when_compiled(name):
  x = normal((3, 4, 5, 2)).astype('float32')
  for tol in (0.5, 0.2):
    d = METHODS[name](x, tol=tol)
    assert true_error(x, d) <= tol * (1 + 1e-5)
    assert d.relative_error <= tol


COMPILED = {('tt_svd', 'bfloat16'), ('tr_svd', 'complex64'), ('hosvd', 'complex128')}


@methods
@pytest.mark.parametrize('dtype', ['float32', 'float64', 'complex64', 'complex128', 'bfloat16'])
def test_every_dtype(name, dtype):
  with jax.enable_x64(True) if (name, dtype) in COMPILED else kernels_on_host():
    x = planted(0.3 ** np.arange(6), dtype='float32' if dtype == 'bfloat16' else dtype)
    x = x.astype(jnp.dtype(dtype))
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
    d = METHODS[name](x * np.float32(scale), tol=0.1)
    assert d.tensor.ranks == ranks
    assert d.relative_error <= 0.1
  zero = METHODS[name](0 * x, tol=0.1)
  assert set(zero.tensor.ranks) == {1}
  assert zero.relative_error == 0


@methods
def test_a_looser_tolerance_never_stores_more(name):
  x = normal((6, 7, 8, 5))
  with kernels_on_host():
    sizes = [METHODS[name](x, tol=tol).tensor.num_params for tol in (0.05, 0.2, 0.5, 0.8)]
  if name != 'tr_svd':  # a ring's first split may jump
    assert sizes == sorted(sizes, reverse=True)
  assert sizes[-1] < sizes[0]


def test_what_one_cut_leaves_unused_serves_the_next():
  # The last bond needs nothing (rank 1 exactly), so the first may use the whole budget: its tail
  # is above an equal share, tol / sqrt(2), and below tol.
  with kernels_on_host():
    a = np.diag([1.0, 0.09]) @ np.linalg.qr(np.random.RandomState(0).randn(2, 2))[0]
    x = a[:, :, None] * np.ones(4)
    assert tn.tt_svd(x, tol=0.1).tensor.ranks == (1, 1)


def test_partial_tucker_by_tolerance():
  x = normal((3, 3, 16, 16)).astype('float32') * np.float32(0.01)
  x = x + planted([1.0, 0.5], size=16, order=2, dtype='float32')[None, None]
  d = tn.hosvd(x, modes=(2, 3), tol=0.2)
  assert d.tensor.factors[0] is None
  assert d.tensor.ranks == (3, 3, 2, 2)


@methods
def test_refusals(name):
  x = np.ones((3, 4, 5), 'float32')
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
  return x


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
  with kernels_on_host():
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
  with kernels_on_host():
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
  with kernels_on_host():
    assert tn.hosvd(x, modes=(0, 1), tol=0.782).relative_error <= 0.782
    best = tn.hooi(x, (2, 1), modes=(0, 1))
  np.testing.assert_allclose(best.relative_error, (14 / 26) ** 0.5, rtol=1e-4)


def test_a_limit_may_bite_at_the_first_cut_of_a_ring():
  with kernels_on_host():
    d = tn.tr_svd(normal((4, 5, 6)), ranks=(1, 2, 2), tol=0.01)
  assert d.tensor.ranks == (1, 2, 2)


def test_a_tolerance_below_the_rounding_of_the_input_asks_for_no_more_ranks():
  a = normal(12)
  x = np.einsum('i,j,k->ijk', a, a, a).astype(jnp.bfloat16)
  with kernels_on_host():
    assert max(tn.tt_svd(x, tol=1e-5).tensor.ranks) <= 12
    assert tn.tt_svd(x, tol=1e-2).tensor.ranks == (1, 1)
