"""A model cut into stages: running them, and which parameters belong to which."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

Stage = Callable[[nnx.Module, Array], Array]


def run(model: nnx.Module, stages: Sequence[Stage], x: Array) -> Array:
  """The output of the last stage, each given that of the one before."""
  for stage in stages:
    x = stage(model, x)
  return x


def own_params(
  student: nnx.Module, teacher: nnx.Module, stages: Sequence[Stage], inputs: Array
) -> list[tuple[tuple, ...]]:
  """Paths of the student's parameters that each stage uses, and no stage before it.

  Nothing is computed; both models are traced.

  Raises:
    ValueError: models, weights or stages that cannot be trained or taught; see `reconstruct`.
  """
  for name, model in (('student', student), ('teacher', teacher)):
    _check_model(name, model)
  if not stages or not all(map(callable, stages)):
    raise ValueError(f'stages={stages!r} must be functions stage(model, x), at least one')
  seen, found = set(), []
  x = y = jax.ShapeDtypeStruct(inputs.shape, jax.dtypes.canonicalize_dtype(inputs.dtype))
  for index, stage in enumerate(stages):
    used, x = _traced(student, stage, x)
    _, y = _traced(teacher, stage, y)
    _check_outputs(index, x, y)
    own = tuple(path for path in used if path not in seen)
    if not own:
      raise ValueError(
        f'stages[{index}] uses no parameter of the student that no stage before it uses: there is '
        'nothing to train in it'
      )
    seen.update(own)
    found.append(own)
  return found


def _traced(model: nnx.Module, stage: Stage, x: jax.ShapeDtypeStruct) -> tuple[list[tuple], object]:
  """Paths of the parameters that a stage uses, and the shape of its output."""
  graph, params, rest = nnx.split(model, nnx.Param, ...)
  paths, values = zip(*nnx.to_flat_state(params)) if jax.tree.leaves(params) else ((), ())

  def call(values: tuple, rest: nnx.State, x: Array) -> Array:
    params = nnx.from_flat_state(list(zip(paths, values)))
    return stage(nnx.merge(graph, params, rest, copy=True), x)

  program, out = jax.make_jaxpr(call, return_shape=True)(values, rest, x)
  used = {id(v) for step in program.jaxpr.eqns for v in step.invars}
  return [path for path, v in zip(paths, program.jaxpr.invars) if id(v) in used], out


def _check_model(name: str, model: object) -> None:
  if not isinstance(model, nnx.Module):
    raise ValueError(f'{name} is a {type(model).__name__}; it must be an NNX model')
  for path, variable in nnx.to_flat_state(nnx.state(model)):
    held = variable[...]
    where = f'{name}: {"/".join(map(str, path))}'
    if isinstance(held, jax.ShapeDtypeStruct):
      raise ValueError(f'{where} is abstract; give a model with values')
    if jnp.issubdtype(held.dtype, jnp.inexact) and not np.isfinite(held).all():
      raise ValueError(f'{where}, of shape {held.shape}, has NaN or infinities')


def _check_outputs(index: int, student: object, teacher: object) -> None:
  """One array of floats, of one shape and dtype for both."""
  for name, out in (('student', student), ('teacher', teacher)):
    if not (hasattr(out, 'dtype') and jnp.issubdtype(out.dtype, jnp.floating)):
      raise ValueError(
        f'stages[{index}] of the {name} gives {out}; it must give one array of floats'
      )
  if (student.shape, student.dtype) != (teacher.shape, teacher.dtype):
    raise ValueError(
      f'stages[{index}] gives {student.dtype}{student.shape} for the student and '
      f'{teacher.dtype}{teacher.shape} for the teacher; they must agree'
    )
