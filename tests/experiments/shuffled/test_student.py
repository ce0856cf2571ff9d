"""Low-rank networks drawn anew, their sizes, and the spectra of kernels."""

import math

import jax
import numpy as np
import pytest

import tnjax as tn
from experiments.classifier import network
from experiments.shuffled import spectra, student
from experiments.shuffled.config import FORMATS, Config
from experiments.shuffled.study import reachable

KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def eight():
  return network.build('resnet8', 'digits', 0)


def test_td_and_rstd_start_from_the_same_factors_at_the_scale_of_the_dense_kernel(eight):
  made = {
    entries: student.fresh(eight, Config().resolved().rules('tt', entries, 10.0), KEY)
    for entries in ('td', 'rstd', 'rstd_shared')
  }
  layers = {k: tn.compression.walk(m) for k, m in made.items()}
  indices = {'rstd': [], 'rstd_shared': []}
  for path, place in layers['td'].items():
    if not place.factorised:
      continue
    kernel = np.asarray(tn.compression.walk(eight)[path].weights[0])
    for entries, held in indices.items():
      other = layers[entries][path].layer
      for name in place.layer.parametrization.network.names:
        np.testing.assert_array_equal(getattr(other, name)[...], getattr(place.layer, name)[...])
      index = np.asarray(other.index[...])
      np.testing.assert_array_equal(
        np.asarray(other.kernel).ravel(), np.asarray(place.layer.kernel).ravel()[index]
      )
      held.append(index)
    rebuilt = np.asarray(place.layer.kernel)
    np.testing.assert_allclose(np.sqrt(np.mean(rebuilt**2)), np.sqrt(np.mean(kernel**2)), rtol=1e-3)
  assert len({i.tobytes() for i in indices['rstd']}) == 6
  assert len({i.tobytes() for i in indices['rstd_shared']}) == 1
  assert not tn.compression.walk(eight)['stages/0/0/conv1'].factorised  # it is left unchanged


def test_sizes_with_and_without_the_index(eight):
  """A kernel of 9,216 entries at 10: TT 685, and 14 bits for every entry of an index."""
  for entries, indices in (('td', 0), ('rstd', 6), ('rstd_shared', 1)):
    rules = Config().resolved().rules('tt', entries, 10.0)
    found = student.size(tn.compression.plan(eight, rules), entries, rules[0][0])
    assert found['kernel_params'] == 6 * 685
    assert found['realised_ratio'] == 9216 / 685
    assert found['index_bits'] == indices * 9216 * 14
    whole = 6 * 685 * 32 + indices * 9216 * 14
    assert found['ratio_with_index'] == pytest.approx(6 * 9216 * 32 / whole)
    assert found['left_dense'] == {}
    assert set(found['ranks']) == {f'stages/{i}/0/conv{k}' for i in range(3) for k in (1, 2)}


@pytest.mark.parametrize('format', FORMATS)
def test_a_rank_of_zero_is_out_of_reach(eight, format):
  """Rank 1 of CP, TT and TR on (3, 3, 32, 32) has 70 parameters, of Tucker-2 9 + 64 = 73."""
  least = 9216 / (73 if format == 'tk' else 70)

  def plan(ratio):
    return tn.compression.plan(eight, Config().resolved().rules(format, 'rstd', ratio))

  assert student.out_of_reach(plan(least), least) == []
  assert len(student.out_of_reach(plan(least + 0.1), least + 0.1)) == 6


def test_points_out_of_reach_are_skipped_and_named(eight):
  config = Config(formats=('tt', 'tk'), ratios=(2.0, 130.0), studies=('grid',)).resolved()

  def plan(row):
    return tn.compression.plan(eight, config.rules(row['format'], row['entries'], row['ratio']))

  kept, missing = reachable(config.settings(), plan)
  assert [(m['format'], m['ratio'], len(m['layers'])) for m in missing] == [('tk', 130.0, 6)]
  assert len(config.settings()) - len(kept) == 4  # TD and RsTD, two modes
  with pytest.raises(ValueError, match='--ratios: from 200 on, even rank 1'):
    reachable(Config(ratios=(200.0,), studies=('grid',)).resolved().settings(), plan)


def test_spectra_see_structure_and_that_shuffling_removes_it():
  rng = np.random.default_rng(0)
  kernel = np.einsum('h,w,s,t->hwst', *(rng.normal(size=n) for n in (3, 3, 8, 8)))
  found = spectra.spectra([kernel, 2 * kernel], KEY)
  assert [one['unfolding'] for one in found] == list(spectra.UNFOLDINGS) * 2
  for one in found:
    values = np.array(one['values'])
    np.testing.assert_allclose(np.sum(values**2), 1, rtol=1e-3)  # rearranging keeps the norm
    assert (values[0] > 0.999) == (not one['shuffled'])
  assert [one['rank'] for one in found[:3]] == [1 / 3, 1 / 9, 1 / 8]
  assert min(one['rank'] for one in found[3:]) > 0.5
  assert math.isfinite(spectra.decay(np.zeros((3, 3, 2, 2)), 1).sum())
