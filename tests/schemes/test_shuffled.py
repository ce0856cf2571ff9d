"""Shuffled weights beside the same decomposition of entries left in place."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import tnjax as tn
from tests.schemes.examples import KERNEL, KEY, close, dense, normal
from tnjax.contraction import Geometry


def test_identity_shuffle_is_the_plain_decomposition():
  p = tn.schemes.shuffled(ranks=3).bind((3, 3, 4, 6))
  factors = p.init(KEY) | {'index': jnp.arange(216)}
  cores = (
    np.asarray(factors[f'core_{k}']).reshape(s)
    for k, s in enumerate([(1, 3, 3), (3, 3, 3), (3, 4, 3), (3, 6, 1)])
  )
  plain = np.einsum('zap,pbq,qcr,rdy->abcd', *cores)
  np.testing.assert_allclose(dense(p, factors), plain, rtol=1e-5, atol=1e-7)


FORMATS = pytest.mark.parametrize('format', ['cp', 'tk', 'tr', 'tt'])


def permuted(format, permutation, rate=0.3):
  keep = (0, 1) if format == 'tk' else ()
  return tn.schemes.shuffled(rate, format=format, keep=keep, permutation=permutation).bind(KERNEL)


def without_index(factors):
  return {n: np.asarray(a) for n, a in factors.items() if not n.startswith('index')}


@FORMATS
def test_the_permutation_is_the_only_difference(format):
  """RsTD of a weight is TD of the weight with its entries moved, to the bit; so are the starts."""
  plain, drawn = permuted(format, 'identity'), permuted(format, 'key')
  assert (plain.ranks, plain.num_params) == (drawn.ranks, drawn.num_params)
  weight, start = normal(KERNEL), drawn.init(KEY)
  jax.tree.map(np.testing.assert_array_equal, without_index(start), plain.init(KEY))
  index = np.asarray(start['index'])
  moved = np.empty_like(weight.ravel())
  moved[index] = weight.ravel()
  td, rstd = plain.fit(moved.reshape(KERNEL), KEY), drawn.fit(weight, KEY)
  jax.tree.map(np.testing.assert_array_equal, without_index(rstd.factors), td.factors)
  assert rstd.relative_error == td.relative_error
  identity = td.factors | {'index': jnp.arange(weight.size), 'index_key': rstd.factors['index_key']}
  both = np.asarray(dense(drawn, identity)), np.asarray(dense(plain, td.factors))
  np.testing.assert_array_equal(*both)
  np.testing.assert_array_equal(dense(drawn, rstd.factors).ravel(), both[1].ravel()[index])


def test_a_seed_is_one_permutation_for_all_weights_of_a_size():
  seeded = permuted('tt', 7)
  first, other = (seeded.init(jax.random.key(k)) for k in (0, 1))
  np.testing.assert_array_equal(first['index'], other['index'])
  assert not np.array_equal(first['core_0'], other['core_0'])
  assert not np.array_equal(first['index'], permuted('tt', 8).init(KEY)['index'])
  assert not seeded.needs_key
  found = seeded.fit(normal(KERNEL))
  np.testing.assert_array_equal(found.factors['index'], first['index'])
  again = tn.schemes.draw_index(found.factors['index_key'], math.prod(KERNEL))
  np.testing.assert_array_equal(again, first['index'])


def test_a_folded_weight_is_rebuilt_and_counts_as_dense():
  p = permuted('tk', 'identity')
  g = Geometry.resolve('hw', (3, 3), 1, 1)
  assert p.macs(g, (5, 4)) == math.prod(KERNEL) * 20
  assert p.forecast(20, g, (5, 4)).rebuilds
  x, factors = normal((2, 5, 4, 8)), p.init(KEY)
  expected = lax.conv_general_dilated(
    x, p.dense(factors), (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  assert close(p.apply(factors, x, g), expected, 1e-6)


def test_gradient_through_the_permutation_is_that_of_the_dense_kernel_moved():
  p, target = permuted('tt', 'key'), normal(KERNEL)
  factors = p.init(KEY)
  index = factors.pop('index'), factors.pop('index_key')

  def loss(cores, moved, index):
    whole = dict(zip(('index', 'index_key'), index)) | cores
    kernel = p.dense(whole)
    return jnp.vdot(kernel, target) if moved is None else jnp.vdot(plain.dense(cores), moved)

  plain = permuted('tt', 'identity')
  scattered = np.empty_like(target.ravel())
  scattered[np.asarray(index[0])] = target.ravel()  # g_X[pi[i]] = g_K[i]
  grad = jax.jit(jax.grad(loss))
  found, expected = grad(factors, None, index), grad(factors, scattered.reshape(KERNEL), index)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
