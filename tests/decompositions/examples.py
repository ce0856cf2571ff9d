"""Seeded tensors, and comparisons by NumPy, for the tests of the decompositions."""

import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(7)
SHAPE = (4, 5, 6)


def dense(tensor):
  """By NumPy, so that nothing is compiled for it."""
  return jax.tree.map(np.asarray, tensor).full()


def gap(x, d):
  x = np.asarray(x)
  return np.linalg.norm((x - dense(d.tensor)).ravel()) / (np.linalg.norm(x.ravel()) or 1)


def tensor(shape=SHAPE, dtype='float32', seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(jnp.dtype(dtype))


def complex_tensor(shape, dtype, seed):
  real, imaginary = (tensor(shape, seed=seed + i, dtype='float64') for i in (0, 1))
  return (real + 1j * imaginary).astype(dtype)
