"""The dtype to compute in."""

import jax.numpy as jnp


def working_dtype(dtype: jnp.dtype) -> jnp.dtype:
  """float32 for the 16-bit floats, which have no QR; other dtypes stay.

  >>> working_dtype('bfloat16').name, working_dtype('complex64').name
  ('float32', 'complex64')
  """
  dtype = jnp.dtype(dtype)
  return jnp.dtype('float32') if dtype.itemsize < 4 else dtype
