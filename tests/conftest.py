"""Strict settings for every test, and the data of the development machine where it is present.

Most of the suite's time is compilation, and the same small programs are met again and again. So
they are kept in `.pytest_cache/jax`, shared by all workers and by processes that tests start, and
the backend leaves its expensive passes out. With `TNJAX_TEST_FULL=1` (`make test-full`) no
shortcut is taken: what is tested then is what users run.
"""

import gc
import os
import pathlib
import shutil

import jaxlib

os.environ.setdefault('JAX_NUM_CPU_DEVICES', '2')
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')  # the workers would wait for one another's
os.environ.update(  # before jax is imported, and inherited by every process a test starts
  {
    'JAX_COMPILATION_CACHE_DIR': str(pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES': '-1',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'JAX_TRACEBACK_IN_LOCATIONS_LIMIT': '1',  # of the hundred frames that pytest stands on
    # The older emitters of fusions, on one thread, compile in less than half the time. Later
    # releases know them no longer, and end at a flag that they do not know.
    'XLA_FLAGS': '--xla_cpu_parallel_codegen_split_count=1 '
    + '--xla_cpu_use_fusion_emitters=false' * jaxlib.__version__.startswith('0.10.'),
  }
  if os.environ.get('TNJAX_TEST_FULL', '0') == '0'
  else {'JAX_ENABLE_COMPILATION_CACHE': '0', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '0'}
)

import hypothesis
import jax
import pytest

jax.config.update('jax_numpy_rank_promotion', 'raise')
hypothesis.settings.register_profile('tnjax', derandomize=True, deadline=None, max_examples=8)
hypothesis.settings.load_profile('tnjax')


def pytest_configure(config):
  """Starts the cache of programs afresh once changes have filled it with a gigabyte."""
  programs = pathlib.Path(__file__).parents[1] / '.pytest_cache' / 'jax'
  if hasattr(config, 'workerinput'):
    return
  if sum(file.stat().st_size for file in programs.glob('*')) > 2**30:
    shutil.rmtree(programs)


def pytest_collection_finish(session):
  """What was imported stays: a tenth of the time went into looking through it for garbage."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(100_000, 50, 100)


@pytest.fixture(autouse=True, scope='module')
def _programs_of_one_module():
  """Drops compiled programs before there are so many that they exceed Linux's limit of mappings,
  65,530; others are kept, as the next module may meet them again.
  """
  yield
  maps = pathlib.Path('/proc/self/maps')
  if not maps.exists() or maps.read_bytes().count(b'\n') > 25_000:
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
