"""HOSVD and HOOI over some modes, and beside classical sweeps."""

import jax
import numpy as np
import pytest

import tnjax as tn
from tests.decompositions.examples import tensor
from tnjax.decompositions import solve


def test_partial_tucker_leaves_modes_alone():
  x = tensor((3, 3, 8, 8))
  for run in (tn.hosvd, tn.hooi):
    d = run(x, (2, 5), modes=(2, 3))
    assert d.tensor.factors[0] is None
    assert d.tensor.ranks == (3, 3, 2, 5)
    assert d.tensor.num_params == 9 * 10 + 16 + 40
  assert tn.hosvd(x, (), modes=()).relative_error < 1e-6
  with pytest.raises(ValueError, match='modes'):
    tn.hosvd(x, 2, modes=(1, 1))


def classical_hooi(x, ranks):
  """||x - model||^2 after 400 textbook sweeps over the last two modes, from the HOSVD."""
  leading = lambda m, r: np.linalg.eigh(m @ m.T)[1][:, -r:]  # noqa: E731
  v = leading(np.moveaxis(x, 3, 0).reshape(x.shape[3], -1), ranks[1])
  for _ in range(400):
    u = leading(np.moveaxis(x @ v, 2, 0).reshape(x.shape[2], -1), ranks[0])
    y = np.einsum('hwst,sr->hwtr', x, u)
    v = leading(np.moveaxis(y, 2, 0).reshape(x.shape[3], -1), ranks[1])
  return np.vdot(x, x) - np.sum(np.einsum('hwtr,tq->hwrq', y, v) ** 2)


@pytest.mark.parametrize(('stage', 'ranks'), [(1, (3, 3)), (1, (7, 7)), (2, (8, 8)), (2, (16, 16))])
def test_hooi_ends_where_classical_sweeps_end(shared_data, stage, ranks):
  weights = np.load(shared_data / 'weights' / 'resnet32.npz')
  for conv in ('2.conv1', '4.conv2'):
    x = weights[f'layer{stage}.{conv}.weight'].transpose(2, 3, 1, 0)
    least = classical_hooi(x.astype('float64'), ranks)
    for d in (
      tn.hooi(x, ranks, modes=(2, 3)),
      solve('hooi', x.astype('float64'), ranks, modes=(2, 3)),
    ):
      assert d.converged
      wide = jax.tree.map(lambda a: np.asarray(a, 'float64'), d.tensor)
      assert np.sum((x - wide.full()) ** 2) <= least * (1 + 1e-6)
