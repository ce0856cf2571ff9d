"""Binaries run by the tests keep their compiled programs in pytest's cache, not in the user's."""

import os

import pytest


@pytest.fixture(autouse=True, scope='session')
def _compile_cache(request):
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('XDG_CACHE_HOME', str(request.config.cache.mkdir('home')))
    yield


@pytest.fixture(scope='session')
def one_device():
  """Environment of a subprocess: the first conftest gives this process two devices."""
  return {k: v for k, v in os.environ.items() if k != 'JAX_NUM_CPU_DEVICES'}
