"""Seeded weights, rebuilding and comparing, for the tests of the schemes."""

import functools

import jax
import numpy as np

KEY = jax.random.key(0)
# The tests share these shapes and a rate of 0.3, so that they share compiled programs too.
KERNEL = (3, 3, 8, 12)


def normal(shape, dtype='float32', seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@functools.partial(jax.jit, static_argnums=0)
def dense(p, factors):
  return p.dense(factors)


def close(a, b, tolerance):
  a, b = np.asarray(a), np.asarray(b)
  return np.linalg.norm((a - b).ravel()) <= tolerance * np.linalg.norm(b.ravel())
