"""Solvers: what a scheme says of how its factors are found reaches the decomposition."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax.schemes import Scheme, Solver

KEY = jax.random.key(0)
SHAPE = (3, 3, 12, 10)
WEIGHT = np.random.default_rng(0).normal(size=SHAPE).astype('float32')

SOLVERS = [
  tn.schemes.svd(ranks=4, solver=Solver('tt_svd')),
  tn.schemes.tk(ranks=4, solver=Solver('hosvd')),
  tn.schemes.tk(ranks=4, solver=Solver('hooi', max_iters=3, tol=0.0)),
  tn.schemes.tr(ranks=2, solver=Solver('tr_svd')),
  tn.schemes.tr(ranks=2, solver=Solver('tr_als', max_iters=4)),
  tn.schemes.tr(ranks=2, solver=Solver('tr_als', max_iters=4, init='random', restarts=2)),
  tn.schemes.cp(ranks=6, solver=Solver('cp_als', max_iters=7, tol=0.0, init='random', restarts=2)),
  tn.schemes.shuffled(ranks=3, format='tk', solver=Solver('hosvd')),
]


@pytest.mark.parametrize('scheme', SOLVERS, ids=repr)
def test_the_host_and_a_compiled_program_agree(scheme):
  """Small concrete weights are decomposed by NumPy, traced ones by XLA."""
  p = scheme.bind(SHAPE)
  host, traced = p.fit(WEIGHT, KEY), jax.jit(p.fit)(WEIGHT, KEY)
  np.testing.assert_allclose(host.relative_error, traced.relative_error, rtol=1e-4)
  assert host.num_iters == traced.num_iters
  assert host.converged == traced.converged
  a, b = p.dense(host.factors), p.dense(traced.factors)
  assert jnp.linalg.norm(a - b) < 1e-3 * jnp.linalg.norm(a)
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), p.shapes())
  assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), host.factors)


@pytest.mark.parametrize('scheme', SOLVERS, ids=repr)
def test_facts_are_true(scheme):
  p = scheme.bind(SHAPE)
  found = p.fit(WEIGHT, KEY)
  gap = np.linalg.norm(p.dense(found.factors) - WEIGHT) / np.linalg.norm(WEIGHT)
  np.testing.assert_allclose(found.relative_error, gap, rtol=1e-2)
  limit = p.solver.max_iters
  assert found.num_iters <= (limit or 100)
  if limit and p.solver.tol == 0.0:
    assert found.num_iters == limit


def test_too_few_sweeps_are_no_convergence():
  p = tn.schemes.tk(ranks=4, solver=Solver('hooi', max_iters=2, tol=1e-12)).bind(SHAPE)
  assert not p.fit(WEIGHT).converged
  assert not jax.jit(p.fit)(WEIGHT).converged
  assert tn.schemes.tk(ranks=4).bind(SHAPE).fit(WEIGHT).converged


def test_fields_left_out_keep_the_default_of_the_scheme():
  p = tn.schemes.cp(ranks=6, solver=Solver('cp_als', restarts=3)).bind(SHAPE)
  assert p.solver == Solver('cp_als', init='hosvd', restarts=3)
  assert tn.schemes.cp(ranks=6).bind(SHAPE).solver == Solver('cp_als', init='hosvd')
  assert tn.schemes.tk(ranks=4, solver=Solver('hosvd')).bind(SHAPE).solver == Solver('hosvd')
  matrix = tn.schemes.cp(ranks=2, solver=Solver('cp_als', restarts=3)).bind((8, 8))
  assert matrix.solver == Solver('tt_svd')  # a matrix is that of svd


def test_restarts_find_no_worse_a_tensor():
  def error(restarts):
    solver = Solver('cp_als', init='random', restarts=restarts)
    return tn.schemes.cp(ranks=12, solver=solver).bind(SHAPE).fit(WEIGHT, KEY).relative_error

  assert error(4) < error(1)


def test_a_ring_needs_a_key_for_random_starts_only():
  weight = WEIGHT[..., :4, :4]
  for options, needed in (({}, False), ({'init': 'random'}, True), ({'restarts': 2}, True)):
    p = tn.schemes.tr(ranks=2, solver=Solver('tr_als', **options)).bind(weight.shape)
    assert p.needs_key == needed
    if needed:
      with pytest.raises(ValueError, match='key=None'):
        p.fit(weight)
    else:
      assert p.fit(weight).relative_error < 1


def test_correction_lowers_the_sensitivity_at_the_same_error():
  weight = np.random.default_rng(0).normal(size=(3, 3, 6, 6)).astype('float32')

  def fit(correct):
    solver = Solver('cp_als', max_iters=600, tol=0.0, correct=correct)
    p = tn.schemes.cp(ranks=8, solver=solver).bind(weight.shape)
    found = jax.jit(p.fit)(weight, KEY)  # the correction is compiled anyway; its start now too
    factors = tuple(f.reshape(-1, 8) for f in found.factors.values())
    return tn.decompositions.sensitivity(tn.CP(jnp.ones(8), factors)), found.relative_error

  (plain, error), (corrected, bounded) = fit(False), fit(True)
  assert bounded <= 1.0011 * error
  assert corrected < plain / 4


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: Solver('svd'), "unknown solver 'svd'.*tt_svd"),
    (lambda: Solver('hooi', restarts=2), "'hooi' takes max_iters, tol; restarts=2"),
    (lambda: Solver('tt_svd', tol=0.1), "'tt_svd' takes no options; tol=0.1"),
    (lambda: Solver('cp_als', max_iters=0), 'max_iters=0'),
    (lambda: Solver('cp_als', tol=-1.0), 'tol=-1.0'),
    (lambda: Solver('cp_als', init='svd'), "init='svd'"),
    (lambda: Solver('tr_als', init='hosvd'), "init='hosvd'.*svd"),
    (lambda: tn.schemes.tk(rate=0.1, solver=Solver('cp_als')), 'tk: .*cp_als.*Tucker.*hosvd, hooi'),
    (lambda: Scheme.from_dict({'name': 'tk', 'rat': 0.1}), 'describes no scheme'),
  ],
)
def test_bad_solvers_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('scheme', SOLVERS, ids=repr)
def test_schemes_with_solvers_are_plain_data(scheme):
  assert Scheme.from_dict(json.loads(json.dumps(scheme.as_dict()))) == scheme
  assert hash(Scheme.from_dict(scheme.as_dict())) == hash(scheme)


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32'])
def test_errors_at_full_rank_are_those_of_the_rounded_factors(dtype):
  weight = jax.random.normal(KEY, (12, 10)).astype(dtype)
  p = tn.schemes.svd(ranks=10).bind(weight.shape)
  for found in (p.fit(weight), jax.jit(p.fit)(weight)):
    factors = {n: np.asarray(a, 'float64') for n, a in found.factors.items()}
    wide = np.asarray(weight, 'float64')
    gap = np.linalg.norm(p.dense(factors) - wide) / np.linalg.norm(wide)
    rounding = float(jnp.finfo('float32').eps)  # of the residual, which XLA takes in float32
    np.testing.assert_allclose(found.relative_error, gap, rtol=0.02, atol=rounding)
