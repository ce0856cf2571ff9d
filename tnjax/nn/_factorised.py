"""What the factorised layers share: storing factors, conversion, promotion of dtypes."""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from tnjax.contraction import conv_general_dilated
from tnjax.ops import prng_key
from tnjax.schemes import (
  Fit,
  Forecast,
  Held,
  Parametrization,
  Scheme,
  check_scheme,
  fit_all,
  rebuild,
)

_LARGE = 2**20  # entries, whose copy by NumPy and then to the device takes longer than a compiler
_DEFAULT_CALLABLES = {
  'dot_general': (None, lax.dot_general),
  'dot_general_cls': (None,),
  'conv_general_dilated': (lax.conv_general_dilated, conv_general_dilated),
  'promote_dtype': (nnx.nn.dtypes.promote_dtype,),
  'preferred_element_type': (None,),
}


def unsupported(dense: nnx.Module) -> str:
  """Why a dense layer has no factorised form, '' if it has one."""
  if getattr(dense, 'mask', None) is not None:
    return 'its mask is set'
  if any(d not in (None, 1) for d in jax.tree.leaves(getattr(dense, 'input_dilation', None))):
    return f'its input_dilation={dense.input_dilation} is not 1'
  if getattr(dense, 'batch_axis', None):
    return f'its batch_axis={dict(dense.batch_axis)} is not empty'
  for name, defaults in _DEFAULT_CALLABLES.items():
    if not any(getattr(dense, name, default) is default for default in defaults):
      return f'its {name} is not the default'
  return ''


class Factorised(nnx.Module):
  """Base of the layers: one `nnx.Param` per factor, under the names the format gives.

  A shuffle's index, and the data of the key that draws it, are plain `nnx.Variable`s. Subclasses
  name their dense counterpart in `DENSE`, its weight in `WEIGHT` and the constructor arguments they
  share with it in `SHARED`; what a layer rebuilds is a `dense_class`, by default that counterpart.

  A stack of layers, such as `nnx.vmap` makes for `nnx.scan`, has further axes in front of every
  array (out_axes=0); `from_dense` decomposes all its weights as one batch.
  """

  DENSE: type[nnx.Module]
  SHARED: tuple[str, ...]
  WEIGHT = 'kernel'
  dense_class: type[nnx.Module]

  @classmethod
  def weight_shape(cls, layer: nnx.Module) -> tuple[int, ...]:
    """Shape (in, out) or (*kernel_size, in, out) that a scheme sees, of a dense layer or ours."""
    raise NotImplementedError

  @classmethod
  def array_shape(cls, layer: nnx.Module) -> tuple[int, ...]:
    """Shape in which flax stores that weight."""
    return cls.weight_shape(layer)

  @classmethod
  def macs(
    cls, layer: nnx.Module, parametrization: Parametrization | None, call: Sequence[int]
  ) -> int:
    """Multiply-adds of one call with an input of shape `call`; dense where no parametrization."""
    shape = cls.weight_shape(layer)
    each = math.prod(shape) if parametrization is None else parametrization.macs()
    return math.prod(call) // shape[0] * each

  @classmethod
  def forecast(
    cls, layer: nnx.Module, parametrization: Parametrization, call: Sequence[int]
  ) -> Forecast:
    """What calls with a batch of 32 such inputs are expected to do on this device."""
    rows = math.prod(call) // cls.weight_shape(layer)[0]
    return parametrization.forecast(rows, dtype=compute_dtype(layer))

  @classmethod
  def stack_shape(cls, dense: nnx.Module) -> tuple[int, ...]:
    """Axes in front of the weight of a stack of layers, dense or ours; () for one layer."""
    if isinstance(dense, Factorised):
      return dense.stacked
    shape, one = tuple(getattr(dense, cls.WEIGHT).shape), tuple(cls.array_shape(dense))
    stack = shape[: len(shape) - len(one)]
    bias = getattr(dense, 'bias', None)
    if shape != (*stack, *one) or (bias is not None and tuple(bias.shape[: len(stack)]) != stack):
      raise ValueError(
        f'{cls.WEIGHT} has shape {shape}; a stack of {type(dense).__name__} must have its own axes '
        f'in front of {one} (nnx.vmap with out_axes=0), in the bias too'
      )
    return stack

  def _setup(
    self,
    scheme: Scheme,
    std: float | None,
    bias_init: nnx.Initializer,
    bias_shape: tuple[int, ...],
    rngs: nnx.Rngs | None,
  ) -> None:
    """Binds the scheme to the weight's shape and draws factors and bias.

    Without `rngs` shapes take the place of arrays.
    """
    check_scheme(scheme)
    self.dense_class = self.DENSE
    self.scheme = scheme
    self.parametrization = scheme.bind(self.weight_shape(self))
    self.bias = nnx.data(None)
    if rngs is None:
      self._store(self.parametrization.shapes(self.param_dtype))
      if self.use_bias:
        self.bias = nnx.Param(jax.ShapeDtypeStruct(bias_shape, self.param_dtype))
      return
    self._store(self.parametrization.init(rngs.params(), std, self.param_dtype))
    if self.use_bias:
      bias = bias_init(rngs.params(), (math.prod(bias_shape),), self.param_dtype)
      self.bias = nnx.Param(bias.reshape(bias_shape))

  @classmethod
  def from_dense(cls, dense: nnx.Module, scheme: Scheme, key: Array | None = None) -> 'Factorised':
    """A trained dense layer with its weight decomposed and its bias copied.

    Args:
      dense: the flax layer of the same name, or a registered subclass; it is left unchanged. A
        factorised layer is decomposed again, its core alone where the scheme is of the same fold
        and format (see `tn.schemes.Held`).
      scheme: how to decompose the weight.
      key: PRNG key, for schemes that draw random numbers (CP, shuffled).

    Raises:
      ValueError: another kind of layer, a masked or input-dilated convolution, a layer with
        callables of its own, no scheme, or one that does not fit the weight.
    """
    check_scheme(scheme)
    if not isinstance(dense, cls.DENSE | cls):
      raise ValueError(
        f'dense is a {type(dense).__name__}; {cls.__name__}.from_dense takes an '
        f'nnx.{cls.DENSE.__name__}'
      )
    weights, keys = cls.weights(dense), cls.keys(dense, key)
    layer = cls.abstract(dense, scheme.resolve(*weights, keys=keys))
    layer.fill(dense, fit_all(layer.parametrization, weights, keys))
    return layer

  @classmethod
  def weights(cls, dense: nnx.Module) -> list[Array | Held]:
    """The weights of a layer as a scheme sees them: one, which may be factors, or a stack's."""
    if isinstance(dense, Factorised) and not dense.stacked:
      return [Held(dense.parametrization, dense._load())]
    stored = getattr(dense, cls.WEIGHT)[...]
    stored = jax.device_put(stored) if isinstance(stored, np.ndarray) else stored
    shape = cls.weight_shape(dense)
    if not cls.stack_shape(dense):
      return [stored.reshape(shape)]
    return list(stored.reshape(-1, *shape))

  @classmethod
  def keys(cls, dense: nnx.Module, key: Array | None) -> list[Array | None]:
    """The PRNG keys that go with `weights`."""
    count = math.prod(cls.stack_shape(dense))
    if key is not None:
      prng_key(key)
    if key is None or not cls.stack_shape(dense):
      return [key] * count
    return list(jax.random.split(key, count))

  def fill(self, dense: nnx.Module, found: Sequence[Fit]) -> None:
    """Gives an `abstract` layer the factors of `weights(dense)`, and the bias."""
    stack = self.stack_shape(dense)
    factors = [fit.factors for fit in found]
    if stack:
      stacked = jax.tree.map(lambda *a: jnp.stack(a).reshape(*stack, *a[0].shape), *factors)
      self._store(stacked)
    else:
      self._store(factors[0])
    if getattr(dense, 'use_bias', False):
      self.bias = nnx.Param(copied(dense.bias[...]))

  def share_factors(self, other: 'Factorised') -> None:
    """Takes the very Variables of a layer with the same parametrization."""
    for name in self.parametrization.names:
      setattr(self, name, getattr(other, name))

  @classmethod
  def abstract(cls, dense: nnx.Module, scheme: Scheme) -> 'Factorised':
    """The layer `from_dense` would give, with shapes in place of arrays; nothing is computed."""
    if reason := unsupported(dense):
      raise ValueError(f'dense: {type(dense).__name__} has no factorised form: {reason}')
    options = {name: getattr(dense, name) for name in cls.SHARED}
    layer = cls(**options, scheme=scheme, rngs=None)
    layer.dense_class = getattr(dense, 'dense_class', type(dense))
    if stack := cls.stack_shape(dense):
      for name in (*layer.parametrization.names, 'bias'):
        one = getattr(layer, name)
        if one is not None:
          shape = jax.ShapeDtypeStruct((*stack, *one.shape), one.dtype)
          setattr(layer, name, type(one)(shape))
    return layer

  def to_dense(self, weight: nnx.Param | None = None) -> nnx.Module:
    """The dense flax layer with the rebuilt weight, or with one that was rebuilt before."""
    options = {name: getattr(self, name) for name in self.SHARED}
    dense = nnx.eval_shape(lambda: self.dense_class(**options, rngs=nnx.Rngs(0)))
    setattr(dense, self.WEIGHT, nnx.Param(self.kernel) if weight is None else weight)
    if self.bias is not None:
      dense.bias = nnx.Param(copied(self.bias[...]))
    return dense

  @property
  def kernel(self) -> Array:
    """The rebuilt dense weight, in the shape in which flax stores it."""
    p, stack, factors = self.parametrization, self.stacked, self._load()
    if not stack:
      return rebuild(p, factors).reshape(self.array_shape(self))
    flat = {n: a.reshape(-1, *a.shape[len(stack) :]) for n, a in factors.items()}
    return jax.vmap(p.dense)(flat).reshape(*stack, *self.array_shape(self))

  @property
  def num_params(self) -> int:
    """Entries of the factors, of one layer of a stack."""
    return self.parametrization.num_params

  def variables(self) -> dict[tuple[str, ...], nnx.Variable]:
    """Those of the factors, by their paths in the layer."""
    return {(name,): getattr(self, name) for name in self.parametrization.network.names}

  @property
  def stacked(self) -> tuple[int, ...]:
    """The further axes of a stack of layers; () for one layer."""
    name, shape = next(iter(self.parametrization.network.shapes().items()))
    found = getattr(self, name).shape
    return tuple(found[: len(found) - len(shape)])

  def _store(self, factors: Mapping[str, Array]) -> None:
    for name, value in factors.items():
      kind = nnx.Variable if name.startswith('index') else nnx.Param
      setattr(self, name, kind(value))

  def _load(self) -> dict[str, Array]:
    return {name: getattr(self, name)[...] for name in self.parametrization.names}

  def _promoted(self, inputs: Array) -> tuple[Array, dict[str, Array], Array | None]:
    """Inputs, factors and bias in the layer's compute dtype, by flax's promotion rule."""
    if self.stacked:
      raise ValueError(f'this is a stack {self.stacked} of layers; call it in nnx.scan or nnx.vmap')
    factors = self._load()
    index = {k: factors.pop(k) for k in ('index', 'index_key') if k in factors}
    bias = None if self.bias is None else self.bias[...]
    inputs, bias, *values = nnx.nn.dtypes.promote_dtype(
      (inputs, bias, *factors.values()), dtype=self.dtype
    )
    return inputs, dict(zip(factors, values)) | index, bias


def copied(x: Array) -> Array:
  """A buffer of its own, without a program compiled for the copy of every small shape."""
  if isinstance(x, jax.core.Tracer | jax.ShapeDtypeStruct):
    return x
  if not isinstance(x, jax.Array):  # NumPy's, as a restored checkpoint has them
    return jax.device_put(np.array(x))
  if jnp.issubdtype(x.dtype, jax.dtypes.extended):  # a PRNG key
    return jnp.copy(x)
  if x.committed:
    return jax.device_put(x, x.sharding, may_alias=False)
  # Uncommitted as before: a step that is given both kinds is compiled twice.
  with jax.default_device(min(x.devices(), key=lambda d: d.id)):
    return jnp.copy(x) if x.size > _LARGE else jax.device_put(np.array(x))


def compute_dtype(layer: nnx.Module) -> str:
  """Name of the dtype in which a layer computes, for inputs of its parameters' dtype."""
  return jnp.dtype(layer.dtype or layer.param_dtype).name


def check_channels(inputs: Array, channels: int) -> None:
  """The last axis of a layer's input."""
  if inputs.ndim == 0 or inputs.shape[-1] != channels:
    raise ValueError(f'inputs has shape {inputs.shape}; this layer needs {channels} channels last')


def finish(y: Array, bias: Array | None, out_sharding: object) -> Array:
  """Adds a bias to the last axes and places the result, where these are given."""
  if bias is not None:
    y = y + bias.reshape((1,) * (y.ndim - bias.ndim) + bias.shape)
  return y if out_sharding is None else jax.sharding.reshard(y, out_sharding)
