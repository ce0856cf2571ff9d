"""Strict settings for every test, and the data of the development machine where it is present."""

import os
import pathlib

os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=2')

import hypothesis
import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
hypothesis.settings.register_profile('tnjax', derandomize=True, deadline=None, max_examples=8)
hypothesis.settings.load_profile('tnjax')


@pytest.fixture(autouse=True, scope='module')
def _programs_of_one_module():
  """Drops compiled programs: thousands of them would exceed the kernel's limit of mappings."""
  yield
  jax.clear_caches()


@pytest.fixture(params=['float32', 'float64'])
def precision(request):
  """Runs a test in both precisions; yields (dtype name, rounding unit)."""
  with jax.enable_x64(request.param == 'float64'):
    yield request.param, float(jax.numpy.finfo(request.param).eps)


@pytest.fixture(scope='session')
def shared_data():
  """Folder of development data, `TNJAX_DATA` or ../shared/data."""
  folder = pathlib.Path(os.environ.get('TNJAX_DATA', '../shared/data'))
  if not folder.is_dir():
    pytest.skip(f'no development data at {folder} (set TNJAX_DATA)')
  return folder
