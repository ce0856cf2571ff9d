"""Every door refuses what is no setting by one ValueError that names the argument."""

import math
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from tnjax import compression, decompositions, formats, ops, ranks
from tnjax.schemes import Solver

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(4, 5, 6)).astype('float32')
S = [3.0, 2.0, 1.0]
CP = tn.CP(np.ones(2, 'float32'), tuple(np.ones((n, 2), 'float32') for n in X.shape))
TT = formats.random(tn.TT, KEY, X.shape, 2)
MODEL = nnx.Linear(8, 8, rngs=nnx.Rngs(0))
SVD = tn.schemes.svd(ranks=2)
SHUFFLED = tn.schemes.shuffled(ranks=2)

# A setting of a door, and the argument's name.
NO_NUMBER = (math.nan, math.inf, -math.inf, True, np.True_, '0.1', b'1', 1j, (0.1,), np.nan,
             np.float32('inf'), object(), 10**400)  # fmt: skip
NUMBERS = {
  'tt_svd tol': lambda v: tn.tt_svd(X, tol=v),
  'tr_svd tol': lambda v: tn.tr_svd(X, tol=v),
  'hosvd tol': lambda v: tn.hosvd(X, tol=v),
  'tt_round tol': lambda v: tn.tt_round(TT, tol=v),
  'hooi tol': lambda v: tn.hooi(X, 2, tol=v),
  'cp_als tol': lambda v: tn.cp_als(X, 2, KEY, tol=v),
  'tr_als tol': lambda v: tn.tr_als(X, 2, tol=v),
  'cp_correct slack': lambda v: decompositions.cp_correct(X, CP, slack=v),
  'tolerance_rank tol': lambda v: ranks.tolerance_rank(S, v),
  'energy_rank energy': lambda v: ranks.energy_rank(S, v),
  'tail_rank budget': lambda v: ranks.tail_rank(S, v),
  'evbmf noise_variance': lambda v: ranks.evbmf(X[0], noise_variance=v),
  'Tolerance eps': ranks.Tolerance,
  'Energy share': ranks.Energy,
  'Evbmf weaken': ranks.Evbmf,
  'Solver tol': lambda v: Solver('hooi', tol=v),
  'scheme rate': lambda v: tn.schemes.tk(rate=v),
  'budget params_ratio': lambda v: compression.budget(MODEL, SVD, params_ratio=v),
  'budget macs_ratio': lambda v: compression.budget(MODEL, SVD, macs_ratio=v, input_shape=(8,)),
}
NO_INT = (2.5, 2.0, '2', b'2', True, np.True_, 0, -1, (2.5,), np.float32(2), math.nan, object())
INTS = {
  'hooi max_iters': lambda v: tn.hooi(X, 2, max_iters=v),
  'cp_als max_iters': lambda v: tn.cp_als(X, 2, KEY, max_iters=v),
  'tr_als max_iters': lambda v: tn.tr_als(X, 2, max_iters=v),
  'cp_correct max_iters': lambda v: decompositions.cp_correct(X, CP, max_iters=v),
  'cp_als restarts': lambda v: tn.cp_als(X, 2, KEY, restarts=v),
  'cp_als rank': lambda v: tn.cp_als(X, v, KEY),
  'Solver max_iters': lambda v: Solver('hooi', max_iters=v),
  'Solver restarts': lambda v: Solver('cp_als', restarts=v),
  'scheme order': lambda v: tn.schemes.r_tt(rate=0.1, order=v),
  'truncated_svd rank': lambda v: ops.truncated_svd(jnp.ones((3, 3)), v),
  'budget params': lambda v: compression.budget(MODEL, SVD, params=v),
}
SEQUENCES = {
  'tt_svd ranks': lambda v: tn.tt_svd(X, v),
  'tr_svd ranks': lambda v: tn.tr_svd(X, v),
  'hosvd ranks': lambda v: tn.hosvd(X, v),
  'hooi ranks': lambda v: tn.hooi(X, v),
  'tr_als ranks': lambda v: tn.tr_als(X, v),
  'tt_round ranks': lambda v: tn.tt_round(TT, v),
  'random ranks': lambda v: formats.random(tn.TT, KEY, X.shape, v),
  'random shape': lambda v: formats.random(tn.TT, KEY, v, 2),
  'shuffled shape': lambda v: tn.shuffled(X, tn.tt_svd, KEY, shape=v, ranks=2),
  'scheme ranks': lambda v: tn.schemes.tt(ranks=v),
  'scheme in_modes': lambda v: tn.schemes.r_tt(rate=0.1, in_modes=v, out_modes=(2, 4)),
  'scheme shape': lambda v: tn.schemes.shuffled(rate=0.1, shape=v),
  'compress input_shape': lambda v: tn.compress(MODEL, (('.*', SVD),), input_shape=v),
}
NO_KEY = (0, '0', 0.0, np.zeros(2), np.zeros(7, 'uint32'), np.random.default_rng(0), nnx.Rngs(0),
          jax.random.split(KEY, 3), True)  # fmt: skip
KEYS = {
  'cp_als': lambda v: tn.cp_als(X, 2, v),
  'shuffled': lambda v: tn.shuffled(X, tn.tt_svd, v, ranks=2),
  'random': lambda v: formats.random(tn.TT, v, X.shape, 2),
  'init': lambda v: SVD.bind((8, 8)).init(v),
  'fit': lambda v: SHUFFLED.bind((8, 8)).fit(np.ones((8, 8), 'float32'), v),
  'resolve': lambda v: tn.schemes.shuffled(ranks=ranks.Tolerance(0.1)).resolve(X[0], keys=[v]),
  'from_dense': lambda v: tn.nn.Linear.from_dense(MODEL, SHUFFLED, v),
  'compress': lambda v: tn.compress(MODEL, (('.*', SHUFFLED),), key=v),
  'plan': lambda v: compression.plan(MODEL, (('.*', SHUFFLED),), key=v),
  'budget': lambda v: compression.budget(MODEL, SHUFFLED, params_ratio=0.5, key=v),
}
NO_ARRAY = ('text', [['a', 'b']], [[1.0, 2.0], [3.0]], object(), np.array([None, 1.0]))
ARRAYS = {
  'tt_svd x': lambda x: tn.tt_svd(x, 2),
  'hooi x': lambda x: tn.hooi(x, 2),
  'cp_als x': lambda x: tn.cp_als(x, 2, KEY),
  'evbmf matrix': ranks.evbmf,
  'tail_energies singular_values': ranks.tail_energies,
  'energy_rank singular_values': lambda x: ranks.energy_rank(x, 0.5),
  'fit weight': SVD.bind((8, 8)).fit,
  'take index': lambda x: formats.take(TT, x, 0),
  'mode_product matrix': lambda x: formats.mode_product(TT, x, 0),
  'allocate costs[0]': lambda x: compression.allocate([x], [[1.0]], 1),
  'allocate errors[0]': lambda x: compression.allocate([[1]], [x], 1),
}


def refuses(door, name, value):
  with pytest.raises(ValueError, match=rf'(^|: ){re.escape(name)}[= ]'):
    door(value)


def table(doors):
  return pytest.mark.parametrize(('door', 'name'), [(f, n.split()[-1]) for n, f in doors.items()],
                                 ids=doors)  # fmt: skip


@table(NUMBERS)
def test_what_is_no_number_is_refused(door, name):
  for value in (*NO_NUMBER, -0.5):
    refuses(door, name, value)


@table({**INTS, **SEQUENCES})
def test_what_is_no_int_is_refused(door, name):
  for value in NO_INT:
    refuses(door, name, value)


@table(SEQUENCES)
def test_sequences_with_other_things_inside_are_refused(door, name):
  for value in ((2, True), (2, '2'), '22', b'22', (2, None), {2: 2, 3: 3}, (2, 0)):
    refuses(door, name, value)


@pytest.mark.parametrize('door', KEYS.values(), ids=KEYS)
def test_what_is_no_key_is_refused(door):
  for value in NO_KEY:
    refuses(door, 'key', value)


@pytest.mark.parametrize('door', [KEYS[n] for n in KEYS if n != 'plan'])
def test_a_missing_key_is_named(door):
  refuses(door, 'key', None)


@table(ARRAYS)
def test_text_and_objects_are_no_arrays(door, name):
  for value in NO_ARRAY:
    refuses(door, name, value)


WIDTHS = ['int8', 'uint8', 'int16', 'uint32', 'int64', 'uint64']


def test_numpy_ints_of_any_width_are_ints():
  expected = tn.hooi(X, 2, max_iters=3, tol=0.0)
  for width in WIDTHS:
    n = np.dtype(width).type
    assert tn.hooi(X, n(2), max_iters=n(3), tol=n(0)) == expected
    assert tn.hooi(X, np.array([2, 2, 2], width), np.array([0, 1, 2], width), n(3), 0) == expected
    assert formats.random(tn.TT, KEY, np.array(X.shape, width), n(2)) == TT
    assert Solver('cp_als', restarts=n(3)) == Solver('cp_als', restarts=3)
    assert tn.schemes.r_tt(rate=0.1, order=n(2)) == tn.schemes.r_tt(rate=0.1, order=2)
    assert tn.schemes.tt(ranks=[n(2)] * 3) == tn.schemes.tt(ranks=(2, 2, 2))
    assert formats.take(TT, n(1), n(0)) == formats.take(TT, 1, 0)


def test_real_scalars_of_any_width_are_numbers():
  kinds = (np.float16, np.float32, np.float64, np.longdouble, jnp.bfloat16.dtype.type, Fraction)
  for kind in kinds:
    half = kind(0.5)
    assert tn.tt_svd(X, tol=half) == tn.tt_svd(X, tol=0.5)
    assert tn.hooi(X, 2, tol=half) == tn.hooi(X, 2, tol=0.5)
    assert ranks.tolerance_rank(S, half) == ranks.tolerance_rank(S, 0.5)
    assert Solver('hooi', tol=half) == Solver('hooi', tol=0.5)
    assert tn.schemes.tk(rate=half) == tn.schemes.tk(rate=0.5)
    for rule in (ranks.Tolerance, ranks.Energy, ranks.Evbmf):
      assert rule(half) == rule(0.5)
      assert type(next(iter(vars(rule(half)).values()))) is float


def test_a_huge_tolerance_allows_anything():
  for tol in (1.0, 1e30, 1e200):
    assert ranks.tolerance_rank(S, tol) == 1
    assert tn.tt_round(TT, tol=max(tol, 2.0)).tensor.ranks == (1, 1)
  assert tn.hosvd(X, tol=1e200).tensor.ranks == (1, 1, 1)


def test_keys_of_both_kinds_are_keys():
  typed, older = (
    formats.random(tn.TT, k(0), X.shape, 2) for k in (jax.random.key, jax.random.PRNGKey)
  )
  assert typed == older
  drawn = jax.eval_shape(
    jax.vmap(lambda k: formats.random(tn.TT, k, X.shape, 2)), jax.random.split(KEY)
  )
  assert drawn.cores[0].shape == (2, 1, 4, 2)


def test_traced_settings_are_refused():
  for run in (lambda v: tn.hooi(X, 2, tol=v), lambda v: tn.tt_svd(X, tol=v)):
    with pytest.raises(ValueError, match=r'tol=.* not traced'):
      jax.eval_shape(run, 1e-3)
  with pytest.raises(ValueError, match='ranks='):
    jax.eval_shape(lambda v: tn.tt_svd(X, v), 2)


def test_words():
  for run, name in ((lambda v: tn.tt_round(TT, 2, method=v), 'method'),
                    (lambda v: Solver('cp_als', init=v), 'init'),
                    (lambda v: ops.truncated_svd(jnp.ones((3, 3)), 1, v), 'method')):  # fmt: skip
    for value in ('other', 1, b'gram', ('gram',)):
      refuses(run, name, value)
