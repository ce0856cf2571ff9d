"""EVBMF against the reference vectors of papers/musco.md, section 5, and its own invariances."""

import math

import numpy as np
import pytest

from tnjax import ranks

# L, M, r, scale, noise, seed; significant values, noise variance, free energy, shrunk values
REFERENCE = [
  (
    (32, 96, 5, 1.0, 0.1, 0),
    (5, 0.00974034, -629.147233, (32.849049, 29.123106, 22.557442)),
  ),
  (
    (64, 576, 10, 0.5, 0.5, 1),
    (10, 0.25177951, 33639.251063, (41.014336, 33.340720, 32.793641)),
  ),
  ((64, 576, 0, 1, 1.0, 2), (0, 1.00683739, 52433.411939, ())),
]


def planted(rows, columns, rank, scale, noise, seed):
  rng = np.random.RandomState(seed)
  signal = 0.0
  if rank:
    signal = scale * rng.randn(rows, rank) @ rng.randn(rank, columns) / math.sqrt(rank)
  return signal + noise * rng.randn(rows, columns)


@pytest.mark.parametrize(('made_by', 'expected'), REFERENCE)
def test_reference_vectors(made_by, expected):
  significant, variance, energy, shrunk = expected
  found = ranks.evbmf(planted(*made_by))
  assert found.significant == significant
  assert found.rank == max(1, significant)
  assert len(found.shrunk) == significant
  # The sheet's variances carry SciPy's default tolerance of 1e-5; the minimum itself lies at
  # 0.00974114 in the first row, with a free energy lower by 4e-6.
  np.testing.assert_allclose(found.noise_variance, variance, rtol=1e-4)
  np.testing.assert_allclose(found.free_energy, energy, rtol=1e-7)
  assert found.free_energy <= energy + 5e-7
  np.testing.assert_allclose(found.shrunk[: len(shrunk)], shrunk, rtol=1e-5)


@pytest.mark.parametrize(('made_by', 'expected'), REFERENCE)
def test_a_transpose_gives_the_same(made_by, expected):
  y = planted(*made_by)
  wide, tall = ranks.evbmf(y), ranks.evbmf(y.T)
  assert wide.significant == tall.significant
  np.testing.assert_allclose(tall.noise_variance, wide.noise_variance, rtol=1e-6)
  np.testing.assert_allclose(tall.shrunk, wide.shrunk, rtol=1e-6)


@pytest.mark.parametrize('scale', [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize(('made_by', 'expected'), REFERENCE)
def test_scale_changes_nothing_but_the_scale(made_by, expected, scale):
  y = planted(*made_by)
  before, after = ranks.evbmf(y), ranks.evbmf(scale * y)
  assert after.significant == before.significant
  np.testing.assert_allclose(after.shrunk / scale, before.shrunk, rtol=1e-6)
  shift = y.size * math.log(scale)  # a density of y / scale
  np.testing.assert_allclose(after.free_energy - shift, before.free_energy, rtol=1e-6)
  if 1e-100 < scale < 1e100:
    np.testing.assert_allclose(after.noise_variance / scale**2, before.noise_variance, rtol=1e-6)


@pytest.mark.parametrize('noise', [1e-3, 1e-5, 1e-7, 0.0])
@pytest.mark.parametrize('shape', [(12, 40, 3), (29, 60, 14), (28, 57, 18), (40, 40, 10)])
def test_weak_noise_hides_no_component(shape, noise):
  # a local minimum explains half of the components as noise
  assert ranks.evbmf(planted(*shape, 1.0, noise, 4)).rank == shape[2]


@pytest.mark.parametrize(('made_by', 'expected'), REFERENCE)
def test_a_known_noise_variance_is_used(made_by, expected):
  y = planted(*made_by)
  found = ranks.evbmf(y, noise_variance=made_by[4] ** 2)
  assert found.noise_variance == pytest.approx(made_by[4] ** 2)
  assert found.significant == expected[0]
  assert found.free_energy >= ranks.evbmf(y).free_energy


def test_zero_and_single_rows():
  zero = ranks.evbmf(np.zeros((4, 6)))
  assert (zero.rank, zero.significant, zero.noise_variance) == (1, 0, 0.0)
  assert zero.free_energy == -math.inf
  assert ranks.evbmf(np.zeros((4, 6)), noise_variance=1.0).free_energy == 12 * math.log(2 * math.pi)
  for shape in ((1, 1), (1, 7), (7, 1), (2, 2)):
    assert ranks.evbmf(np.ones(shape)).rank == 1


@pytest.mark.parametrize(
  ('matrix', 'words'),
  [
    (np.array([[1.0, np.nan]]), 'NaN'),
    (np.array([[1.0, np.inf]]), 'infinite'),
    (np.ones((2, 2), complex), 'complex128'),
    (np.ones(3), r'shape \(3,\)'),
    (np.ones((2, 2, 2)), r'shape \(2, 2, 2\)'),
    (np.ones((0, 3)), r'shape \(0, 3\)'),
  ],
)
def test_bad_input_is_named(matrix, words):
  with pytest.raises(ValueError, match=words):
    ranks.evbmf(matrix)


@pytest.mark.parametrize('variance', [0.0, -1.0, math.nan, math.inf])
def test_bad_noise_variance(variance):
  with pytest.raises(ValueError, match='noise_variance'):
    ranks.evbmf(np.eye(3), noise_variance=variance)
