"""One kernel out of a tensor of many, against the dense tensor."""

import functools

import jax
import numpy as np
import pytest

import tnjax as tn
from tnjax.contraction import contract, select

# Kernels stacked along two modes (which, depth), as T-Net stacks those of a whole network.
MODES = (('which',), ('depth',), ('s1',), ('t1',), ('h', 'w'))
SIZES = {'which': 4, 'depth': 3, 's1': 5, 't1': 6, 'h': 2, 'w': 3}
SHAPE = (4, 3, 5, 6, 6)


@functools.cache
def stacked(kind, ranks):
  draw = jax.jit(lambda key: tn.formats.random(kind, key, SHAPE, ranks))
  record = draw(jax.random.key(0))
  net = kind.network(MODES, SIZES, ranks)
  dense = np.asarray(jax.jit(kind.full)(record)).reshape(4, 3, 5, 6, 2, 3)
  return net, dict(zip(net.names, record.arrays)), dense


FORMATS = [(tn.TT, (2, 3, 4, 3)), (tn.Tucker, (3, 2, 4, 4, 5)), (tn.TR, (2, 2, 3, 2, 2))]


def largest_intermediate(f, *args):
  jaxpr = jax.make_jaxpr(f)(*args)
  sizes = [0]

  def visit(jaxpr):
    for eqn in jaxpr.eqns:
      sizes.extend(v.aval.size for v in eqn.outvars)
      for value in eqn.params.values():
        if hasattr(value, 'jaxpr'):
          visit(value.jaxpr)

  visit(jaxpr.jaxpr)
  return max(sizes)


@pytest.mark.parametrize(('kind', 'ranks'), FORMATS, ids=lambda v: getattr(v, '__name__', ''))
def test_one_kernel_without_the_tensor(kind, ranks):
  net, arrays, dense = stacked(kind, ranks)

  def kernel(arrays):
    part, cut = select(net, arrays, {'which': 2, 'depth': -1})
    return contract(part, cut, ('h', 'w', 's1', 't1'))

  np.testing.assert_allclose(jax.jit(kernel)(arrays), dense[2, -1].transpose(2, 3, 0, 1), atol=1e-5)
  assert largest_intermediate(kernel, arrays) < dense.size // 4


@pytest.mark.parametrize(('kind', 'ranks'), FORMATS, ids=lambda v: getattr(v, '__name__', ''))
def test_several_kernels_traced_and_differentiated(kind, ranks):
  net, arrays, dense = stacked(kind, ranks)
  which, depth = np.array([3, 0, 3]), np.array([1, 2, 0])

  def kernels(arrays, which, depth):
    part, cut = select(net, arrays, {'which': which, 'depth': depth})
    return contract(part, cut, ('batch', 's1', 't1', 'h', 'w'))

  def total(arrays):
    found = kernels(arrays, which, depth)
    return found.sum(), found

  gradient, found = jax.jit(jax.grad(total, has_aux=True))(arrays)
  np.testing.assert_allclose(found, dense[which, depth], atol=1e-5)
  assert all(np.abs(g).max() > 0 for g in gradient.values())


def test_what_does_not_fit_is_named():
  net, arrays, _ = stacked(tn.TT, (2, 3, 4, 3))
  for at, message in [
    ({'stack': 0}, "'stack'.*which, depth"),
    ({'which': 4}, r"at\['which'\]=4 is out of range; its size is 4"),
    ({'which': 0.5}, 'integers'),
    ({'which': np.arange(2), 'depth': np.arange(3)}, r'\(2,\), \(3,\)'),
  ]:
    with pytest.raises(ValueError, match=message):
      select(net, arrays, at)
