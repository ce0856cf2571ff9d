"""Work of the host side by side: while NumPy computes, other threads run."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import jax

from tnjax.ops import one_thread


@contextlib.contextmanager
def threads() -> Iterator[Callable[..., Future]]:
  """Gives `submit(f, *args)`, which runs a function in one of as many threads as there are cores.

  From the first on BLAS is on one thread; each has the precision of this one. An error in the block
  drops what has not begun.
  """
  wide = jax.config.jax_enable_x64  # may be that of this thread alone
  pool = None

  def alike(f: Callable, *args: object) -> object:
    with jax.enable_x64(wide):
      return f(*args)

  with contextlib.ExitStack() as stack:

    def submit(f: Callable, *args: object) -> Future:
      nonlocal pool
      if pool is None:
        stack.enter_context(one_thread())
        pool = stack.enter_context(ThreadPoolExecutor(_cores()))
      return pool.submit(alike, f, *args)

    try:
      yield submit
    except BaseException:
      if pool is not None:
        pool.shutdown(cancel_futures=True)
      raise


def _cores() -> int:
  affinity = getattr(os, 'sched_getaffinity', None)
  return len(affinity(0)) if affinity else os.cpu_count() or 1
