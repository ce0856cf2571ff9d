"""The dtype to compute in."""

import jax.numpy as jnp


def working_dtype(dtype: jnp.dtype) -> jnp.dtype:
  """float32 for the 16-bit floats, which have no QR; other dtypes stay.

  >>> working_dtype('bfloat16').name, working_dtype('complex64').name
  ('float32', 'complex64')
  """
  dtype = jnp.dtype(dtype)
  return jnp.dtype('float32') if dtype.itemsize < 4 else dtype


def inexact_dtype(dtype: jnp.dtype) -> jnp.dtype:
  """A floating or complex dtype.

  Raises:
    ValueError: what is none, or of another kind.

  >>> inexact_dtype('float32')
  dtype('float32')
  """
  try:
    found = None if dtype is None else jnp.dtype(dtype)
  except TypeError:
    found = None
  if found is None or not jnp.issubdtype(found, jnp.inexact):
    raise ValueError(f'dtype={dtype} must be floating or complex, such as float32')
  return found
