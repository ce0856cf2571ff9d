"""How a layer keeps its factors: one `nnx.Param` each; a shuffle's index is a plain Variable."""

from collections.abc import Mapping

from flax import nnx
from jax import Array

from tnjax.schemes import Parametrization


def names(parametrization: Parametrization) -> tuple[str, ...]:
  """Attribute names of the factors."""
  index = ('index',) if parametrization.fold.shuffled else ()
  return (*parametrization.network.names, *index)


def store(layer: nnx.Module, factors: Mapping[str, Array]) -> None:
  """Sets the factors as attributes of the layer."""
  for name, value in factors.items():
    setattr(layer, name, nnx.Variable(value) if name == 'index' else nnx.Param(value))


def load(layer: nnx.Module) -> dict[str, Array]:
  """The factors' arrays, by name."""
  return {name: getattr(layer, name)[...] for name in names(layer.parametrization)}


def promoted(layer: nnx.Module, inputs: Array) -> tuple[Array, dict[str, Array], Array | None]:
  """Inputs, factors and bias in the layer's compute dtype, by flax's promotion rule."""
  factors = load(layer)
  index = {k: factors.pop(k) for k in ('index',) if k in factors}
  bias = None if layer.bias is None else layer.bias[...]
  inputs, bias, *values = nnx.nn.dtypes.promote_dtype(
    (inputs, bias, *factors.values()), dtype=layer.dtype
  )
  return inputs, dict(zip(factors, values)) | index, bias


def bias_param(
  use_bias: bool, bias_init: nnx.Initializer, size: int, dtype: object, rngs: nnx.Rngs
) -> nnx.Param | None:
  """Bias as flax keeps it: a Param, or a data slot that holds None."""
  return nnx.Param(bias_init(rngs.params(), (size,), dtype)) if use_bias else nnx.data(None)


def check_features(layer: nnx.Module, inputs: Array) -> None:
  """The last axis must hold `in_features`."""
  if inputs.ndim == 0 or inputs.shape[-1] != layer.in_features:
    raise ValueError(
      f'inputs has shape {inputs.shape}; this layer needs {layer.in_features} channels last'
    )
