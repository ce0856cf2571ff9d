"""Rank rules, through the schemes that resolve them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tnjax as tn
from tnjax.ranks import Energy, Evbmf, Tolerance

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def decaying(shape=(3, 3, 16, 24)):
  """A kernel whose unfoldings have decaying spectra."""
  x = RNG.normal(size=shape)
  for axis, n in enumerate(shape):
    x *= np.exp(-0.3 * np.arange(n)).reshape([-1 if a == axis else 1 for a in range(len(shape))])
  return x.astype('float32')


@pytest.mark.parametrize('name', ['svd', 'tk', 'tt', 'tr', 'r_tk', 'r_tt', 'shuffled'])
@pytest.mark.parametrize('eps', [0.5, 0.1, 1e-2])
def test_a_tolerance_is_kept(name, eps):
  weight = decaying((3, 3, 8, 6))
  scheme = getattr(tn.schemes, name)(ranks=Tolerance(eps)).resolve(weight, keys=[KEY])
  found = scheme.bind(weight.shape).fit(weight, KEY)
  assert found.relative_error <= eps * (1 + 1e-6)
  if name in ('svd', 'tt'):  # and with the ranks of the door
    p = scheme.bind(weight.shape)
    assert p.ranks == tn.tt_svd(p.fold.fold(jnp.asarray(weight)), tol=eps).tensor.ranks


def test_smaller_tolerances_take_larger_ranks():
  weight = decaying()
  found = [tn.schemes.tk(ranks=Tolerance(eps)).resolve(weight).ranks for eps in (0.5, 0.1, 0.01)]
  assert found[0] < found[1] < found[2]


def test_energy_counts_the_singular_values_of_every_unfolding():
  weight = decaying()
  found = tn.schemes.tk(ranks=Energy(0.9)).resolve(weight).ranks
  for rank, axis in zip(found, (2, 3)):
    s = np.linalg.svd(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1))[1] ** 2
    share = np.cumsum(s) / s.sum()
    assert share[rank - 1] >= 0.9
    assert rank == 1 or share[rank - 2] < 0.9


def noisy(rank, shape=(3, 3, 40, 24)):
  core = RNG.normal(size=(3, 3, rank, rank))
  x = np.einsum('hwab,sa,tb->hwst', core, RNG.normal(size=(40, rank)), RNG.normal(size=(24, rank)))
  return (x + 0.1 * RNG.normal(size=shape)).astype('float32')


@pytest.mark.parametrize('weaken', [0.0, 0.6, 0.8, 1.0])
def test_evbmf_ranks_are_weakened_from_the_channels(weaken):
  weight = noisy(10)
  found = tn.schemes.tk(ranks=Evbmf(weaken)).resolve(weight).ranks
  expected = [int(n - weaken * (n - 10)) for n in (40, 24)]
  assert found == tuple(max(8, r) for r in expected)


def test_evbmf_guards():
  assert tn.schemes.tk(ranks=Evbmf(1.0)).resolve(noisy(3)).ranks == (8, 8)  # never below 8
  small = noisy(3)[:, :, :8]
  assert tn.schemes.tk(ranks=Evbmf(1.0)).resolve(small).ranks == (8, 8)  # 8 channels stay 8
  noise = RNG.normal(size=(30, 50)).astype('float32')
  assert tn.ranks.evbmf(noise).significant == 0
  assert tn.schemes.svd(ranks=Evbmf(1.0)).resolve(noise).ranks == (30,)  # nothing stands out


def test_a_stack_takes_its_largest_ranks():
  low, high = noisy(9), noisy(14)
  rule = tn.schemes.tk(ranks=Evbmf(1.0))
  assert rule.resolve(low, high).ranks == rule.resolve(high).ranks == (14, 14)


def test_where_there_is_no_weight_a_rule_is_refused_by_name():
  scheme = tn.schemes.tk(ranks=Evbmf(weaken=0.5))
  text = r'Evbmf\(weaken=0.5\)'
  with pytest.raises(ValueError, match=text):
    scheme.bind((3, 3, 8, 8))
  with pytest.raises(ValueError, match=text):
    tn.nn.Conv(8, 8, (3, 3), scheme=scheme, rngs=nnx.Rngs(0))
  with pytest.raises(ValueError, match=text):
    jax.jit(lambda w: tn.schemes.svd(ranks=Evbmf(0.5)).resolve(w).rate)(jnp.ones((9, 9)))
  module = tn.nn.to_linen(tn.nn.Linear, 9, 9, scheme=tn.schemes.svd(ranks=Evbmf(weaken=0.5)))
  with pytest.raises(ValueError, match=text):
    module.init(KEY, jnp.ones((1, 9)))


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: tn.schemes.cp(ranks=Tolerance(0.1)), 'cp: ranks=Tolerance.*tk, tr, tt'),
    (lambda: tn.schemes.tr(ranks=Energy(0.9)), 'tr: ranks=Energy.*tk, tt'),
    (lambda: tn.schemes.tt(ranks=Evbmf()), 'tt: ranks=Evbmf.*svd and tk'),
    (lambda: Tolerance(-1), 'eps=-1'),
    (lambda: Energy(1.5), 'share=1.5'),
    (lambda: Evbmf(2), 'weaken=2'),
    (lambda: tn.schemes.svd(ranks=Energy(0.9)).resolve(np.full((4, 4), np.nan)), 'NaN'),
  ],
)
def test_bad_rules_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()


@pytest.mark.parametrize('rule', [Tolerance(0.1), Energy(0.5), Evbmf(0.7)])
def test_rules_are_plain_data(rule):
  import json

  scheme = tn.schemes.tk(ranks=rule)
  assert tn.schemes.Scheme.from_dict(json.loads(json.dumps(scheme.as_dict()))) == scheme
  assert hash(scheme) == hash(tn.schemes.tk(ranks=type(rule)(*vars(rule).values())))
