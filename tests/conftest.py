"""Strict settings for every test, and the data of the development machine where it is present.

Most of the suite's time is compilation, and it meets the same small programs many times. So programs
are kept in `.pytest_cache/jax`, which every worker and every process a test starts share, and the
backend leaves its expensive passes out. Both are set by environment before jax is imported.
`TNJAX_TEST_FULL=1` (`make test-full`) takes neither shortcut: what is tested then is what users run.
"""

import os
import pathlib
import shutil

PROGRAMS = pathlib.Path(__file__).parent.parent / '.pytest_cache' / 'jax'
SHORTCUTS = {
  'JAX_COMPILATION_CACHE_DIR': str(PROGRAMS),
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
  'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
}
os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=2')
if os.environ.get('TNJAX_TEST_FULL', '0') == '0':
  os.environ.update(SHORTCUTS)
else:
  for name in SHORTCUTS:
    os.environ.pop(name, None)
  os.environ['JAX_ENABLE_COMPILATION_CACHE'] = '0'  # also that of binaries, which name their own

import hypothesis
import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
hypothesis.settings.register_profile('tnjax', derandomize=True, deadline=None, max_examples=8)
hypothesis.settings.load_profile('tnjax')


def pytest_configure(config):
  """Starts afresh with a cache of programs that years of changes have filled."""
  if not hasattr(config, 'workerinput') and PROGRAMS.is_dir():
    if sum(entry.stat().st_size for entry in os.scandir(PROGRAMS)) > 2**30:
      shutil.rmtree(PROGRAMS)


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
