"""A model as a program in one file, weights inside, that runs without this library."""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from tnjax import contraction
from tnjax.compression import _file
from tnjax.compression._walk import walk
from tnjax.ops import integers

_PLATFORMS = ('cpu', 'cuda', 'tpu')


def export(
  model: nnx.Module,
  path: str | os.PathLike,
  input_shape: Sequence[int],
  dtype: Any = jnp.float32,
) -> None:
  """Writes the function that a model is, for inputs of any batch size.

  As it evaluates: dropout off, batch statistics fixed. The suffix of `path` says the format:

  - `.stablehlo`, for CUDA, TPU and CPU alike; any process that has jax runs it by
    `jax.export.deserialize(bytearray(file's bytes)).call(x)`. Later versions of jax read it for at
    least six months; to keep a model, `tn.save` it.
  - `.onnx`, for ONNX Runtime and others, needs `pip install 'tnjax[onnx]'`. Its input is called
    'x', with channels last as in the model. What jax2onnx wrote is run once beside the model, and
    refused if it differs. It knows no 3-D convolutions, factorised embeddings or padded pools.

  Layers are exported as they are, factorised ones in the order of contraction that is the fastest
  here for a batch of 32; of a shuffled one the file holds the permutation too, which takes as much
  as the dense weight. The file is replaced as a whole or not at all.

  Args:
    model: any NNX model that is called with one array, factorised or not; it is left unchanged.
    path: file that ends in `.stablehlo` or `.onnx`; its folder is made.
    input_shape: of one input, without the batch.
    dtype: of the input; an embedding takes integers.

  Raises:
    ValueError: another suffix, an abstract model, an input that does not fit it, a batch size that
      cannot be left open; of ONNX, jax2onnx missing, 64 bits, or what it cannot translate.

  >>> import tempfile, tnjax as tn
  >>> net = tn.models.cifar_resnet(8, widths=(4, 8, 8), rngs=nnx.Rngs(0))
  >>> small, _ = tn.compress(net, (('stages/.*', tn.schemes.tk(rate=0.5)),))
  >>> with tempfile.TemporaryDirectory() as folder:
  ...   export(small, f'{folder}/small.stablehlo', (8, 8, 3))
  ...   written = pathlib.Path(f'{folder}/small.stablehlo').read_bytes()
  >>> function = jax.export.deserialize(bytearray(written))
  >>> x = jnp.ones((2, 8, 8, 3))
  >>> bool(jnp.allclose(function.call(x), small(x), atol=1e-5))
  True
  """
  path = pathlib.Path(path)
  write = _FORMATS.get(path.suffix)
  if write is None:
    raise ValueError(f'path={str(path)!r} must end in {" or ".join(_FORMATS)}')
  shape, dtype = integers(input_shape, 'input_shape'), jnp.dtype(dtype)
  function = _evaluated(model)
  (batch,) = jax.export.symbolic_shape('batch')
  one, many = (jax.ShapeDtypeStruct((n, *shape), dtype) for n in (1, batch))
  try:
    jax.eval_shape(function, one)
  except (TypeError, ValueError) as error:
    raise ValueError(f'input_shape={shape} of {dtype} does not fit the model: {error}') from error
  try:
    jax.eval_shape(function, many)
  except (TypeError, ValueError, jax.errors.InconclusiveDimensionOperation) as error:
    raise ValueError(f'the model does not take batches of any size: {error}') from error
  _file.write_atomically(path, write(function, many))


def _evaluated(model: nnx.Module) -> Callable[[Array], Any]:
  """What the model does when it evaluates, as a function of its input alone."""
  walk(model)  # refuses what is no model
  if not callable(model):
    raise ValueError(f'model is a {type(model).__name__}, which cannot be called with an input')
  if any(isinstance(a, jax.ShapeDtypeStruct) for a in jax.tree.leaves(nnx.state(model))):
    raise ValueError('the model is abstract, of shapes without values; fill it first')
  still = nnx.clone(model)
  still.eval()
  graphdef, state = nnx.split(still)
  return lambda x: nnx.merge(graphdef, state, copy=True)(x)


def _stablehlo(function: Callable, x: jax.ShapeDtypeStruct) -> bytes:
  return jax.export.export(jax.jit(function), platforms=_PLATFORMS)(x).serialize()


def _onnx(function: Callable, x: jax.ShapeDtypeStruct) -> bytes:
  try:
    import onnx_ir
    import onnxruntime
    from jax2onnx import to_onnx
  except ImportError as error:
    raise ValueError(
      f"writing .onnx needs the package {error.name}; pip install 'tnjax[onnx]'"
    ) from error
  if jax.config.jax_enable_x64:  # jax2onnx would set it, and not back where it is set for a thread
    raise ValueError('writing .onnx needs JAX set to 32 bits, without jax_enable_x64')
  given = np.random.default_rng(0).uniform(size=(2, *x.shape[1:])).astype(x.dtype)
  try:
    with contraction.lax_only(True):
      model = to_onnx(function, [x], input_names=['x'], return_mode='ir')
    for value in (value for node in model.graph for value in node.outputs):
      if not value.is_graph_output():  # notes of shapes, some of them wrong; readers find their own
        value.shape = value.type = None
    content = onnx_ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=['CPUExecutionProvider'])
    found = session.run(None, {'x': given})
  except Exception as error:  # what its many rules raise shares no base
    raise ValueError(f'jax2onnx makes no valid ONNX of this model: {error}') from error
  expected = jax.tree.leaves(function(jnp.asarray(given)))  # a jit would fold its weights, long
  if not all(map(_alike, found, expected)):  # of a padded pool, for one, it makes one without
    raise ValueError('jax2onnx makes a program of this model that computes something else')
  return content


def _alike(found: np.ndarray, expected: Array) -> bool:
  """Up to the rounding of any device, TF32 included."""
  expected = np.asarray(expected)
  if found.shape != expected.shape:
    return False
  scale = np.abs(expected).max(initial=0)
  return np.allclose(found, expected, rtol=0, atol=1e-2 * scale, equal_nan=True)


_FORMATS = {'.stablehlo': _stablehlo, '.onnx': _onnx}
