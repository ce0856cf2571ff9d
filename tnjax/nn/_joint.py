"""Convolutions whose kernels are one low-rank tensor: T-Net."""

import dataclasses
import weakref
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors, nnx
from jax import Array
from jax.extend.core import get_opaque_trace_state

from tnjax.contraction import ints
from tnjax.nn._conv import Conv, conv_geometry
from tnjax.nn._factorised import copied, unsupported
from tnjax.ops import integers
from tnjax.schemes import Kernel, Scheme, check_scheme, expand, fit_all, pick, stack_shape

with jax.ensure_compile_time_eval():
  _EAGER = get_opaque_trace_state()


class _Contracted(NamedTuple):
  """The factors of all kernels, and what they were contracted from, in which trace."""

  trace: object
  factors: Mapping[str, Array]
  kernels: Sequence[Mapping[str, Array]]

  def serves(self, factors: Mapping[str, Array], trace: object) -> bool:
    """Whether they are those of these factors, and values of this trace or one around it."""
    around = trace == self.trace or any(isinstance(a, jax.core.Tracer) for a in factors.values())
    return around and all(factors[name] is a for name, a in self.factors.items())


# Of those that the running trace made: a trace's values go with the objects it made.
_contracted: weakref.WeakKeyDictionary['JointKernels', _Contracted] = weakref.WeakKeyDictionary()


class JointKernels(nnx.Module, pytree=False):
  """The kernels of several equally shaped convolutions as one tensor (Kossaifi et al. 2019).

  `JointConv` is a convolution by one of them. In a step that is traced (`nnx.jit`, `nnx.grad`, or
  `nnx.merge` inside `jax.jit`) the architecture's modes are contracted once, forward and backward:
  the first layer that needs its kernel does it for all. Where that could not be kept, as outside of
  any trace or where a function closes over a model made elsewhere, a layer contracts its own part
  of them alone. What `nnx.remat` is given it makes anew, so that each such block contracts for
  itself; a `jax.checkpoint` that closes over layers uses what was contracted before it.

  Layers share this object, which plain JAX would copy for each of them: `jax.tree.map`, `jax.jit`
  and `jax.grad` refuse a model that has one. Give them the state: `nnx.split` and `nnx.merge`.

  Args:
    architecture: sizes of the modes that tell the kernels apart, such as (stacks, depth, pathways,
      convolutions).
    in_features, out_features, kernel_size: of every kernel.
    scheme: `tn.schemes.joint(...)`.
    kernel_std: root mean square of a kernel at the start; default 1 / sqrt(fan_in). It is that of
      all kernels together in every draw, and near it of each.
    param_dtype: of the factors.
    rngs: source of the `params` key; None for shapes in place of arrays.

  Raises:
    ValueError: another scheme, or one that does not fit.

  >>> import tnjax as tn
  >>> rngs, scheme = nnx.Rngs(0), tn.schemes.joint(ranks=(2, 2, 4, 4, 3, 3))
  >>> kernels = JointKernels((3, 2), 8, 8, (3, 3), scheme=scheme, rngs=rngs)
  >>> layers = [JointConv(kernels, (i, j), rngs=rngs) for i in range(3) for j in range(2)]
  >>> x = jnp.ones((1, 5, 5, 8))
  >>> [bool(jnp.allclose(f(x), f.to_dense()(x), atol=1e-5)) for f in layers[:2]]
  [True, True]
  >>> sum(v.size for v in jax.tree.leaves(nnx.state(kernels))), 6 * 8 * 8 * 9
  (668, 3456)
  """

  def __init__(
    self,
    architecture: Sequence[int],
    in_features: int,
    out_features: int,
    kernel_size: Sequence[int],
    *,
    scheme: Scheme,
    kernel_std: float | None = None,
    param_dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs | None,
  ):
    check_scheme(scheme)
    if scheme.name != 'joint':
      raise ValueError(f'scheme={scheme!r} is for one layer; give tn.schemes.joint(...)')
    sizes = integers(architecture, 'architecture')
    kernel_size = ints(kernel_size, 1) or tuple(kernel_size)
    self.scheme = scheme = ordered(scheme, len(sizes))
    self.parametrization = scheme.bind((*sizes, *kernel_size, in_features, out_features))
    self.kernel_size = kernel_size
    self.param_dtype = param_dtype
    if rngs is None:
      self.store(self.parametrization.shapes(param_dtype))
    else:
      self.store(self.parametrization.init(rngs.params(), kernel_std, param_dtype))

  @classmethod
  def abstract(
    cls, architecture: Sequence[int], convs: Mapping[object, nnx.Conv], scheme: Scheme
  ) -> 'JointKernels':
    """For layers, by whatever names, that are dense or factorised: shapes in place of arrays.

    Raises:
      ValueError: kernels of unequal shape or dtype, a grouped or masked convolution, a stack.
    """
    _check_alike(convs)
    first = next(iter(convs.values()))
    kernel = first.in_features, first.out_features, first.kernel_size
    return cls(architecture, *kernel, scheme=scheme, param_dtype=first.param_dtype, rngs=None)

  @property
  def architecture(self) -> tuple[int, ...]:
    """Sizes of the architecture's modes."""
    return stack_shape(self.parametrization)

  @property
  def stacked(self) -> tuple[int, ...]:
    """The further axes of a stack of such objects; () for one."""
    name, shape = next(iter(self.parametrization.network.shapes().items()))
    found = getattr(self, name).shape
    return tuple(found[: len(found) - len(shape)])

  def store(self, factors: Mapping[str, Array]) -> None:
    """Takes other factors."""
    for name, value in factors.items():
      setattr(self, name, nnx.Param(value))

  def factors(self) -> dict[str, Array]:
    """The factors by name."""
    return {name: getattr(self, name)[...] for name in self.parametrization.names}

  def of(self, index: Sequence[int]) -> dict[str, Array]:
    """The factors of one kernel.

    Raises:
      ValueError: this is a stack, such as `nnx.vmap` makes, outside of `nnx.vmap` or `nnx.scan`.
    """
    if self.stacked:
      raise ValueError(
        f'this is a stack {self.stacked} of joint tensors; its layers work in nnx.scan or nnx.vmap'
      )
    factors, trace = self.factors(), get_opaque_trace_state()
    known = _contracted.get(self)
    if known is None or not known.serves(factors, trace):
      if trace == _EAGER or not self._of_this_trace():  # it would outlive what it keeps
        return pick(self.parametrization, factors, index)
      known = _Contracted(trace, factors, expand(self.parametrization, factors))
      _contracted[self] = known
    return known.kernels[int(np.ravel_multi_index(tuple(index), self.architecture))]

  def _of_this_trace(self) -> bool:
    """Whether the trace that runs now made this object, which then goes when it ends."""
    try:
      self.param_dtype = self.param_dtype  # which flax refuses in every other trace
    except errors.TraceContextError:
      return False
    return True


def _refuse(kernels: JointKernels) -> NoReturn:
  raise ValueError(
    'JointKernels is shared by layers, and plain JAX (jax.tree.map, jax.jit, jax.grad) on a model '
    'would copy it for each; give it the state, graph, state = nnx.split(model), or take nnx.jit, '
    'nnx.grad'
  )


jax.tree_util.register_pytree_node(JointKernels, _refuse, _refuse)


class JointConv(Conv):
  """`nnx.Conv` whose kernel is one of a `JointKernels`, which all layers of it share.

  Args:
    kernels: what holds the factors.
    position: of this layer's kernel: an index for each mode of the architecture.
    strides, padding, kernel_dilation, use_bias, dtype, precision, bias_init: as in `nnx.Conv`.
    rngs: source of the bias's key; None for shapes in place of arrays.

  Raises:
    ValueError: a position out of range.
  """

  def __init__(
    self,
    kernels: JointKernels,
    position: Sequence[int],
    *,
    strides: int | Sequence[int] | None = 1,
    padding: str | int | Sequence[int | tuple[int, int]] = 'SAME',
    kernel_dilation: int | Sequence[int] | None = 1,
    use_bias: bool = True,
    dtype: jnp.dtype | None = None,
    precision: jax.lax.PrecisionLike = None,
    bias_init: nnx.Initializer = nnx.initializers.zeros_init(),
    rngs: nnx.Rngs | None,
  ):
    sizes, position = kernels.architecture, integers(position, 'position', 0)
    if len(position) != len(sizes) or any(i >= n for i, n in zip(position, sizes)):
      raise ValueError(f'position={position} must be one of each of the architecture modes {sizes}')
    self.kernels = kernels
    self.position = position
    *self.kernel_size, self.in_features, self.out_features = kernels.parametrization.fold.shape[
      len(sizes) :
    ]
    self.kernel_size = tuple(self.kernel_size)
    self.strides = strides
    self.padding = padding
    self.kernel_dilation = kernel_dilation
    self.feature_group_count = 1
    self.use_bias = use_bias
    self.dtype = dtype
    self.param_dtype = kernels.param_dtype
    self.precision = precision
    conv_geometry(self, (max(self.kernel_size),) * len(self.kernel_size))  # names what does not fit
    self.dense_class = self.DENSE
    self.scheme = kernels.scheme
    self.parametrization = Kernel.of(kernels.parametrization)
    self.bias = nnx.data(None)
    if use_bias:
      shape = (self.out_features,)
      made = jax.ShapeDtypeStruct(shape, self.param_dtype)
      self.bias = nnx.Param(
        made if rngs is None else bias_init(rngs.params(), shape, self.param_dtype)
      )

  @classmethod
  def from_dense(
    cls, convs: Mapping[tuple[int, ...], nnx.Conv], scheme: Scheme, key: Array | None = None
  ) -> dict[tuple[int, ...], 'JointConv']:
    """Trained convolutions whose stacked kernels are decomposed as one tensor; biases are copied.

    Args:
      convs: by index, the dense layers; every combination of indices from 0 on. They may differ in
        strides, padding, dilation and bias, not in the kernel's shape and dtype.
      scheme: `tn.schemes.joint(...)`.
      key: PRNG key, for solvers that draw random numbers.

    Raises:
      ValueError: a combination that is missing, kernels of unequal shape, a grouped or masked
        convolution.
    """
    check_scheme(scheme)
    weight = stacked_kernels(convs)
    scheme = ordered(scheme, len(architecture_of(convs)))
    layers = cls.abstract_of(convs, scheme.resolve(weight, keys=[key]))
    kernels = next(iter(layers.values())).kernels
    (fit,) = fit_all(kernels.parametrization, [weight], [key])
    kernels.store(fit.factors)
    for index, layer in layers.items():
      if layer.use_bias:
        layer.bias = nnx.Param(copied(convs[index].bias[...]))
    return layers

  @classmethod
  def abstract_of(
    cls, convs: Mapping[tuple[int, ...], nnx.Conv], scheme: Scheme
  ) -> dict[tuple[int, ...], 'JointConv']:
    """The layers `from_dense` would give, with shapes in place of arrays; nothing is computed."""
    kernels = JointKernels.abstract(architecture_of(convs), convs, scheme)
    return {index: cls.instead_of(conv, kernels, index) for index, conv in convs.items()}

  @classmethod
  def instead_of(
    cls, conv: nnx.Conv, kernels: JointKernels, position: Sequence[int]
  ) -> 'JointConv':
    """A layer like another, with its kernel from `kernels` and a shape for its bias."""
    shared = [n for n in cls.SHARED if n not in _OF_KERNELS]
    layer = cls(kernels, position, **{name: getattr(conv, name) for name in shared}, rngs=None)
    layer.dense_class = getattr(conv, 'dense_class', type(conv))
    return layer

  @property
  def num_params(self) -> int:
    """Entries of the factors, which all layers of the tensor share."""
    return self.kernels.parametrization.num_params

  def variables(self) -> dict[tuple[str, ...], nnx.Variable]:
    """Those of the factors, which all layers of the tensor share."""
    held = self.kernels
    return {('kernels', n): getattr(held, n) for n in held.parametrization.network.names}

  @property
  def stacked(self) -> tuple[int, ...]:
    """The further axes of a stack of networks; () for one layer."""
    return self.kernels.stacked

  def _load(self) -> dict[str, Array]:
    return self.kernels.of(self.position)


_OF_KERNELS = ('in_features', 'out_features', 'kernel_size', 'feature_group_count', 'param_dtype')


def ordered(scheme: Scheme, count: int) -> Scheme:
  """The scheme for so many modes of the architecture, or an error if it says another number."""
  if scheme.order not in (None, count):
    raise ValueError(f'{scheme!r} has order={scheme.order}; the architecture has {count} modes')
  return dataclasses.replace(scheme, order=count)


def architecture_of(convs: Mapping[tuple[int, ...], nnx.Conv]) -> tuple[int, ...]:
  """Sizes of the modes of indices that count all layers, which fit together.

  Raises:
    ValueError: as `JointConv.from_dense`.
  """
  lengths = {len(index) if isinstance(index, tuple) else 0 for index in convs}
  if len(lengths) != 1 or 0 in lengths:
    raise ValueError(f'convs has the indices {list(convs)}; it needs tuples of one length')
  sizes = tuple(max(numbers) + 1 for numbers in zip(*convs))
  for index in np.ndindex(sizes):
    if index not in convs:
      raise ValueError(f'convs has no layer {index}; of modes {sizes} it needs every combination')
  _check_alike(convs)
  return sizes


def _check_alike(convs: Mapping[object, nnx.Conv]) -> None:
  """That layers, by index or path, can have kernels of one tensor."""
  for index, conv in convs.items():
    if not isinstance(conv, nnx.Conv | Conv):
      raise ValueError(f'layer {index} is a {type(conv).__name__}; a joint tensor is of nnx.Conv')
    if Conv.stack_shape(conv):
      raise ValueError(f'layer {index} is a stack; a joint tensor is of single layers')
  first = _kernel(next(iter(convs.values())))
  for index, conv in convs.items():
    if reason := unsupported(conv) or (conv.feature_group_count > 1 and 'it has feature groups'):
      raise ValueError(f'layer {index} cannot be part of a joint tensor: {reason}')
    if _kernel(conv) != first:
      raise ValueError(
        f'layer {index} has a kernel {_kernel(conv)}; a joint tensor needs equal ones, and the '
        f'first is {first}'
      )


def _kernel(conv: nnx.Conv | Conv) -> str:
  """dtype and shape of the kernel, factorised or not, with values or not."""
  dtype = conv.param_dtype if isinstance(conv, Conv) else conv.kernel.dtype
  return f'{jnp.dtype(dtype).name}{Conv.weight_shape(conv)}'


def stacked_kernels(convs: Mapping[tuple[int, ...], nnx.Conv]) -> Array:
  """Their kernels as one tensor (*architecture, *kernel_size, in, out)."""
  sizes = architecture_of(convs)
  kernels = jnp.stack([convs[index].kernel[...] for index in np.ndindex(sizes)])
  return kernels.reshape(*sizes, *kernels.shape[1:])
