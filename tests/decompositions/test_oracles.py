"""Errors no worse than those of TensorLy, pyttb and torchTT, where these are installed."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn

SHAPE = (12, 10, 8)
KEY = jax.random.key(0)


def peer(name):
  """The module, or a skip; what it warns of while it is imported is its own business."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    return pytest.importorskip(name)


@pytest.fixture(autouse=True)
def _peers_may_warn():
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    yield


def problem(seed, order=3):
  """Rank 6 and a tenth of noise."""
  rng = np.random.RandomState(seed)
  shape = (*SHAPE, 6)[:order]
  factors = tuple(jnp.asarray(rng.randn(n, 6)) for n in shape)
  x = np.asarray(tn.CP(jnp.ones(6), factors).full())
  noise = rng.randn(*shape)
  return x + 0.1 * np.linalg.norm(x) / np.linalg.norm(noise) * noise


def gap(x, y):
  return np.linalg.norm((x - np.asarray(y)).ravel()) / np.linalg.norm(x.ravel())


@pytest.mark.parametrize('seed', range(3))
def test_tensorly(seed):
  tl = peer('tensorly')
  decomposition = peer('tensorly.decomposition')
  with jax.enable_x64(True):
    x = problem(seed)
    theirs = decomposition.tensor_train(x, [1, 5, 4, 1])
    assert tn.tt_svd(x, (5, 4)).relative_error <= gap(x, tl.tt_to_tensor(theirs)) * 1.001
    theirs = decomposition.tucker(x, rank=[4, 4, 4], init='svd', n_iter_max=50, tol=1e-10)
    ours = tn.hooi(x, 4, max_iters=200, tol=1e-12)
    assert ours.relative_error <= gap(x, tl.tucker_to_tensor(theirs)) * 1.001
    theirs = decomposition.parafac(x, 6, init='svd', n_iter_max=500, tol=1e-10, random_state=seed)
    ours = tn.cp_als(x, 6, KEY, init='hosvd', max_iters=500, tol=1e-10, restarts=3)
    assert ours.relative_error <= gap(x, tl.cp_to_tensor(theirs)) * 1.001
    theirs = decomposition.tensor_ring(x, [2, 4, 3, 2])
    ours = tn.tr_svd(x, (2, 4, 3))
    assert ours.relative_error <= gap(x, tl.tr_to_tensor(theirs)) * 1.01


@pytest.mark.parametrize('seed', range(3))
def test_pyttb(seed):
  ttb = peer('pyttb')
  with jax.enable_x64(True):
    x = problem(seed)
    theirs = ttb.hosvd(ttb.tensor(x), 0.2, verbosity=0).full().double()
    ours = tn.hosvd(x, tol=0.2)
    assert ours.relative_error <= 0.2
    sizes = ttb.hosvd(ttb.tensor(x), 0.2, verbosity=0)
    assert ours.tensor.num_params <= sizes.core.data.size + sum(
      u.size for u in sizes.factor_matrices
    )
    assert gap(x, theirs) <= 0.2
    theirs, _, _ = ttb.tucker_als(ttb.tensor(x), [4, 4, 4], printitn=0, stoptol=1e-10)
    ours = tn.hooi(x, 4, max_iters=200, tol=1e-12)
    assert ours.relative_error <= gap(x, theirs.full().double()) * 1.001
    theirs, _, _ = ttb.cp_als(ttb.tensor(x), 6, init='nvecs', printitn=0, maxiters=500)
    ours = tn.cp_als(x, 6, KEY, init='hosvd', max_iters=500, tol=1e-10, restarts=3)
    assert ours.relative_error <= gap(x, theirs.full().double()) * 1.001


@pytest.mark.parametrize('seed', range(3))
def test_torchtt(seed):
  torch, torchtt = peer('torch'), peer('torchtt')
  with jax.enable_x64(True):
    x = problem(seed, 4)
    theirs = torchtt.TT(torch.tensor(x), rmax=4)
    assert tn.tt_svd(x, 4).relative_error <= gap(x, theirs.full().numpy()) * 1.001
    double = theirs + torchtt.TT(torch.tensor(problem(seed + 9, 4)), rmax=3)
    whole = double.full().numpy()
    ours = tn.TT(tuple(jnp.asarray(core.numpy()) for core in double.cores))
    for rank in (2, 4):
      rounded = double.round(rmax=rank).full().numpy()
      assert tn.tt_round(ours, rank).relative_error <= gap(whole, rounded) * 1.001
