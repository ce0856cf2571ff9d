"""What the factorised layers share: storing factors, conversion, promotion of dtypes."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

from tnjax.schemes import Scheme

_DEFAULT_CALLABLES = {
  'dot_general': lax.dot_general,
  'conv_general_dilated': lax.conv_general_dilated,
  'promote_dtype': nnx.nn.dtypes.promote_dtype,
  'preferred_element_type': None,
}


def unsupported(dense: nnx.Module) -> str:
  """Why a dense layer has no factorised form, '' if it has one."""
  if getattr(dense, 'mask', None) is not None:
    return 'its mask is set'
  if any(d not in (None, 1) for d in jax.tree.leaves(getattr(dense, 'input_dilation', None))):
    return f'its input_dilation={dense.input_dilation} is not 1'
  for name, default in _DEFAULT_CALLABLES.items():
    if getattr(dense, name, default) is not default:
      return f'its {name} is not the default'
  return ''


class Factorised(nnx.Module):
  """Base of the layers: one `nnx.Param` per factor, under the names the format gives.

  A shuffle's index is a plain `nnx.Variable`. Subclasses name their dense counterpart in `DENSE`
  and the constructor arguments they share with it in `SHARED`.
  """

  DENSE: type[nnx.Module]
  SHARED: tuple[str, ...]

  def _setup(
    self,
    shape: tuple[int, ...],
    scheme: Scheme,
    kernel_std: float | None,
    bias_init: nnx.Initializer,
    rngs: nnx.Rngs,
  ) -> None:
    """Binds the scheme to the kernel's shape and draws factors and bias."""
    self.scheme = scheme
    self.parametrization = scheme.bind(shape)
    self._store(self.parametrization.init(rngs.params(), kernel_std, self.param_dtype))
    self.bias = nnx.data(None)
    if self.use_bias:
      self.bias = nnx.Param(bias_init(rngs.params(), (self.out_features,), self.param_dtype))

  @classmethod
  def from_dense(cls, dense: nnx.Module, scheme: Scheme, key: Array | None = None) -> 'Factorised':
    """A trained dense layer with its kernel decomposed and its bias copied.

    Args:
      dense: `nnx.Linear` or `nnx.Conv`, as the class; it is left unchanged.
      scheme: how to decompose the kernel.
      key: PRNG key, for schemes that draw random numbers (CP, shuffled).

    Raises:
      ValueError: a masked or input-dilated convolution, a layer with callables of its own, or a
        scheme that does not fit the kernel.
    """
    layer = cls.abstract(dense, scheme)
    layer._store(layer.parametrization.decompose(dense.kernel[...], key))
    if dense.use_bias:
      layer.bias = nnx.Param(jnp.copy(dense.bias[...]))
    return layer

  @classmethod
  def abstract(cls, dense: nnx.Module, scheme: Scheme) -> 'Factorised':
    """The layer `from_dense` would give, with shapes in place of arrays; nothing is computed."""
    if reason := unsupported(dense):
      raise ValueError(f'dense: {type(dense).__name__} has no factorised form: {reason}')
    options = {name: getattr(dense, name) for name in cls.SHARED}
    return nnx.eval_shape(lambda: cls(**options, scheme=scheme, rngs=nnx.Rngs(0)))

  def to_dense(self) -> nnx.Module:
    """The dense flax layer with the rebuilt kernel."""
    options = {name: getattr(self, name) for name in self.SHARED}
    dense = nnx.eval_shape(lambda: self.DENSE(**options, rngs=nnx.Rngs(0)))
    dense.kernel = nnx.Param(self.kernel)
    if self.use_bias:
      dense.bias = nnx.Param(jnp.copy(self.bias[...]))
    return dense

  @property
  def kernel(self) -> Array:
    """The rebuilt dense kernel."""
    return self.parametrization.dense(self._load())

  def _store(self, factors: Mapping[str, Array]) -> None:
    for name, value in factors.items():
      setattr(self, name, nnx.Variable(value) if name == 'index' else nnx.Param(value))

  def _load(self) -> dict[str, Array]:
    return {name: getattr(self, name)[...] for name in self.parametrization.names}

  def _promoted(self, inputs: Array) -> tuple[Array, dict[str, Array], Array | None]:
    """Inputs, factors and bias in the layer's compute dtype, by flax's promotion rule."""
    if inputs.ndim == 0 or inputs.shape[-1] != self.in_features:
      raise ValueError(
        f'inputs has shape {inputs.shape}; this layer needs {self.in_features} channels last'
      )
    factors = self._load()
    index = {k: factors.pop(k) for k in ('index',) if k in factors}
    bias = None if self.bias is None else self.bias[...]
    inputs, bias, *values = nnx.nn.dtypes.promote_dtype(
      (inputs, bias, *factors.values()), dtype=self.dtype
    )
    return inputs, dict(zip(factors, values)) | index, bias


def add_bias(y: Array, bias: Array | None) -> Array:
  """Adds a bias (channels,) to the last axis, if there is one."""
  return y if bias is None else y + bias.reshape((1,) * (y.ndim - 1) + (bias.size,))
