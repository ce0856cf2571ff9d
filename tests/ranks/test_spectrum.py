"""Ranks from spectra, by their definition."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnjax import ranks
from tnjax.ranks._spectrum import spectrum as of_matrix

SPECTRA = st.lists(st.integers(0, 9), min_size=1, max_size=8).map(lambda s: sorted(s)[::-1])
RULES = [
  lambda s: ranks.tail_rank(s, 1.0),
  lambda s: ranks.energy_rank(s, 0.9),
  lambda s: ranks.tolerance_rank(s, 0.1),
  ranks.tail_energies,
]


def smallest(spectrum, allowed):
  """Smallest rank whose exact squared tail is allowed."""
  tails = [sum(Fraction(s) ** 2 for s in spectrum[r:]) for r in range(len(spectrum) + 1)]
  return max(1, next(r for r, tail in enumerate(tails) if tail <= allowed))


@given(SPECTRA, st.integers(0, 100))
def test_tail_rank_is_the_smallest_that_fits(spectrum, budget):
  rank = ranks.tail_rank(spectrum, budget)
  assert type(rank) is int
  assert rank == smallest(spectrum, budget)


@given(SPECTRA, st.integers(1, 20))
def test_energy_rank_is_the_smallest_that_keeps_the_fraction(spectrum, twentieths):
  kept = Fraction(twentieths, 20)
  total = sum(s * s for s in spectrum)
  assert ranks.energy_rank(spectrum, twentieths / 20) == smallest(spectrum, (1 - kept) * total)


@given(SPECTRA, st.integers(0, 20))
def test_tolerance_rank_is_the_smallest_within_it(spectrum, twentieths):
  tol = Fraction(twentieths, 20)
  total = sum(s * s for s in spectrum)
  assert ranks.tolerance_rank(spectrum, twentieths / 20) == smallest(spectrum, tol**2 * total)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('scale', [1e-30, 1.0, 1e30])
def test_relative_rules_do_not_see_the_scale(dtype, scale):
  s = (scale * np.geomspace(1, 1e-6, 13)).astype(dtype)
  assert ranks.tolerance_rank(s, 2e-3) == 6
  assert ranks.energy_rank(s, 1 - 4e-6) == 6
  assert ranks.energy_rank(s, 1.0) == ranks.tolerance_rank(s, 0.0) == 13
  assert ranks.tolerance_rank(s.astype('float64') * 1e200, 2e-3) == 6


def test_tiny_tails_are_added_from_the_small_end():
  s = np.array([1.0] + [1e-9] * 1000)
  np.testing.assert_allclose(ranks.tail_energies(s)[1], 1e-15, rtol=1e-12)
  assert ranks.tail_rank(s, 5e-16) == 501
  assert ranks.tail_rank(s.astype('float32'), 5e-16) in (500, 501)


def test_energies_are_those_of_the_truncated_matrix():
  a = np.random.default_rng(0).standard_normal((6, 9))
  u, s, vh = np.linalg.svd(a, full_matrices=False)
  errors = [np.sum((a - (u[:, :r] * s[:r]) @ vh[:r]) ** 2) for r in range(7)]
  np.testing.assert_allclose(ranks.tail_energies(s), errors, atol=1e-12)


@pytest.mark.parametrize('rule', RULES[:3])
def test_a_zero_spectrum_has_rank_one(rule):
  assert rule(np.zeros(4)) == rule([0]) == 1


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize(
  ('spectrum', 'words'),
  [
    ([1.0, 2.0], 'descending'),
    ([1.0, -1.0], 'not negative'),
    ([math.nan, 1.0], 'finite'),
    ([1.0, math.nan], 'finite'),
    ([math.inf, 1.0], 'finite'),
    (np.ones((2, 2)), r'shape \(2, 2\)'),
    ([], r'shape \(0,\)'),
    (1.0, r'shape \(\)'),
    (np.ones(2, complex), 'complex128'),
  ],
)
def test_bad_spectra_are_named(rule, spectrum, words):
  with pytest.raises(ValueError, match=words):
    rule(spectrum)


@pytest.mark.parametrize(
  ('rule', 'bad', 'word'),
  [
    (ranks.tail_rank, (-1.0, math.nan), 'budget'),
    (ranks.energy_rank, (0.0, 1.1, math.nan), 'energy'),
    (ranks.tolerance_rank, (-0.1, math.nan), 'tol'),
  ],
)
def test_bad_allowances_are_named(rule, bad, word):
  for value in bad:
    with pytest.raises(ValueError, match=f'{word}='):
      rule([2.0, 1.0], value)


@pytest.mark.parametrize('smallest', [1e-1, 1e-3, 1e-5, 1e-9, 0.0])
@pytest.mark.parametrize('dtype', ['float64', 'complex128'])
def test_the_spectrum_is_that_of_an_svd(dtype, smallest):
  """Also where a Gram matrix could not tell the smallest values."""
  rng = np.random.default_rng(0)
  left, right = (np.linalg.qr(rng.normal(size=(n, 12)).astype(dtype))[0] for n in (30, 12))
  values = np.append(np.geomspace(1e30, 2e30 * max(smallest, 1e-3), 11), 1e30 * smallest)
  matrix = (left * values) @ right.conj().T
  for turned in (matrix, matrix.T):
    np.testing.assert_allclose(of_matrix(turned), -np.sort(-values), rtol=1e-5, atol=1e15)
  np.testing.assert_array_equal(of_matrix(0 * matrix), np.zeros(12))
