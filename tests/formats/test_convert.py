"""Orthogonal trains and conversions: structure, ranks and degenerate input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tnjax as tn
from tnjax import formats

SHAPE, RANKS = (2, 3, 4, 3), (5, 4, 6)


orthogonalize = jax.jit(formats.orthogonalize, static_argnums=1)
full = jax.jit(lambda x: x.full())


def train(dtype='float32', ranks=RANKS, seed=0):
  rng = np.random.default_rng(seed)
  bonds = (1, *ranks, 1)
  draws = [rng.normal(size=(2, bonds[k], n, bonds[k + 1])) for k, n in enumerate(SHAPE)]
  kind = jnp.dtype(dtype).kind
  cores = [(re + 1j * im) / 2**0.5 if kind == 'c' else re for re, im in draws]
  return tn.TT(tuple(jnp.asarray(c.astype(dtype)) for c in cores))


def gap(x, reference):
  x, reference = np.asarray(x), np.asarray(reference)
  return np.linalg.norm((x - reference).ravel()) / np.linalg.norm(reference.ravel())


def distance_to_orthonormal(columns):
  columns = np.asarray(columns)
  return np.abs(columns.conj().T @ columns - np.eye(columns.shape[1])).max()


def assert_orthogonal(tt, center, tol):
  for k, core in enumerate(map(np.asarray, tt.cores)):
    if k < center:
      assert distance_to_orthonormal(core.reshape(-1, core.shape[2])) < tol
    elif k > center:
      assert distance_to_orthonormal(core.reshape(core.shape[0], -1).T) < tol


@pytest.mark.parametrize('center', [0, 1, 2, 3, -1])
def test_orthogonalize(center, precision):
  dtype, eps = precision
  x = train(jnp.result_type(dtype, 'complex64') if center % 2 else dtype)
  y, dense = orthogonalize(x, center), np.asarray(full(x))
  assert_orthogonal(y, center % 4, 20 * eps)
  assert y.dtype == x.dtype
  assert gap(full(y), dense) < 20 * eps
  size = np.linalg.norm(np.asarray(y.cores[center]).ravel())
  np.testing.assert_allclose(size, np.linalg.norm(dense.ravel()), rtol=20 * eps)


@pytest.mark.parametrize(
  ('center', 'ranks'), [(0, (5, 4, 3)), (1, (2, 4, 3)), (2, (2, 4, 3)), (3, (2, 4, 6))]
)
def test_orthogonalize_cuts_ranks_only_to_what_a_side_carries(center, ranks):
  found = jax.eval_shape(lambda x: formats.orthogonalize(x, center), train())
  assert found.ranks == ranks


def test_orthogonalize_zero_and_deficient_cores():
  x = train()
  for y in (x - x, jax.tree.map(jnp.zeros_like, x), x + x, train(ranks=(9, 9, 9))):
    z = orthogonalize(y, 2)
    assert_orthogonal(z, 2, 1e-5)
    np.testing.assert_allclose(full(z), full(y), atol=1e-4)


def test_gradient_through_orthogonalize_is_that_of_the_tensor():
  with jax.enable_x64(True):
    full_rank = train('complex128')
    doubled = full_rank + full_rank  # every unfolding of its cores is rank-deficient
    for x in (full_rank, doubled):

      def loss(x, center):
        y = x if center is None else formats.orthogonalize(x, center)
        return jnp.sum(jnp.sin(y.full().real)) + jnp.sum(jnp.cos(y.full().imag))

      gradient = jax.jit(jax.grad(loss), static_argnums=1)
      for g, h in zip(gradient(x, 2).cores, gradient(x, None).cores):
        np.testing.assert_allclose(g, h, atol=1e-10)


def test_orthogonalize_under_jit_and_vmap():
  x = train()
  eager, traced = (
    formats.orthogonalize(x, 2),
    orthogonalize(x, 2),
  )
  jax.tree.map(np.testing.assert_array_equal, eager, traced)
  batch = jax.tree.map(lambda c: jnp.asarray(np.stack([c, 2 * np.asarray(c)])), x)
  together = jax.jit(jax.vmap(lambda x: formats.orthogonalize(x, 2).full()))(batch)
  dense = np.asarray(full(x))
  assert gap(together, np.stack([dense, 16 * dense])) < 1e-5


def test_orthogonalize_errors():
  with pytest.raises(ValueError, match=r'center=4.*\(2, 3, 4, 3\) needs -4\.\.3'):
    formats.orthogonalize(train(), 4)
  with pytest.raises(ValueError, match='tt is a TR; this needs one of: TT'):
    formats.orthogonalize(formats.to_tr(train()), 0)


SOURCES = {  # record, ranks as TT, as TR, as Tucker
  'TT': ((tn.TT, (2, 3, 2)), (2, 3, 2), (1, 2, 3, 2), (2, 3, 4, 2)),
  'TR': ((tn.TR, (2, 1, 2, 1)), (2, 4, 2), (2, 1, 2, 1), (2, 2, 2, 2)),
  'CP': ((tn.CP, 3), (3, 3, 3), (1, 3, 3, 3), (2, 3, 3, 3)),
  'Tucker': ((tn.Tucker, (2, 2, 3, 1)), (2, 3, 1), (1, 2, 3, 1), (2, 2, 3, 1)),
  'partial Tucker': ((tn.Tucker, (1, None, 2, None)), (1, 3, 3), (1, 1, 3, 3), (1, 3, 2, 3)),
}


@pytest.mark.parametrize('name', SOURCES)
def test_ranks_of_conversions(name):
  (kind, ranks), *expected = SOURCES[name]
  x = formats.random(kind, jax.random.key(0), SHAPE, ranks)
  converted = formats.to_tt(x), formats.to_tr(x), formats.to_tucker(x)
  dense = full(x)
  assert [type(y) for y in converted] == [tn.TT, tn.TR, tn.Tucker]
  assert [y.ranks for y in converted] == expected
  for y in converted:
    assert gap(full(y), dense) < 1e-5
    assert y is x or type(y) is not type(x)  # its own format comes back untouched


@pytest.mark.parametrize('name', ['TT', 'TR', 'CP'])
@pytest.mark.parametrize('dtype', ['float32', 'complex64'])
def test_to_tucker_has_orthonormal_factors(name, dtype):
  kind, ranks = SOURCES[name][0]
  x = formats.random(kind, jax.random.key(0), SHAPE, ranks, dtype)
  for y in (x, x + x, x - x):
    factors = jax.jit(formats.to_tucker)(y).factors
    assert all(distance_to_orthonormal(f) < 1e-5 for f in factors)
