"""Multi-stage compression: a group of layers, fine-tuning, the next group, and again (MUSCO)."""

import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from tnjax.compression._compress import compress
from tnjax.compression._report import LayerReport, Report
from tnjax.compression._rules import check_ready, make_jobs
from tnjax.compression._save import describe, load, save
from tnjax.compression._schedule import Schedule, Step
from tnjax.compression._trace import input_shapes
from tnjax.compression._walk import walk


@dataclasses.dataclass(frozen=True)
class StepReport:
  """One step of `iterate`.

  Attributes:
    step: which one, with the layers that it compressed.
    report: of the whole model, these layers' changes in this step; () where none changed.
    accuracy_before, accuracy_compressed, accuracy: as `evaluate` told it, before the step, once
      compressed, and of the model that goes on.
    tuned: whether that is the fine-tuned one; it is not where fine-tuning did harm.
  """

  step: Step
  report: Report
  accuracy_before: float
  accuracy_compressed: float
  accuracy: float
  tuned: bool


@dataclasses.dataclass(frozen=True)
class Iteration:
  """What `iterate` did.

  Attributes:
    model: the last one.
    accuracy: of the model before any step.
    steps: in order.
  """

  model: nnx.Module
  accuracy: float
  steps: tuple[StepReport, ...]

  def __str__(self) -> str:
    """A table, a line a step."""
    head = ('pass', 'group', 'layers', 'params', 'MACs', 'before', 'compressed', 'accuracy')
    rows = [head] + [_cells(row) for row in self.steps]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ['  '.join(c.rjust(w) for c, w in zip(row, widths)) for row in rows]
    return '\n'.join([lines[0], '-' * len(lines[0]), *lines[1:]])

  def plot(self, axes: Any = None) -> Any:
    """The path: accuracy against parameters, of every step compressed and then fine-tuned.

    Args:
      axes: of matplotlib, to draw on; None for new ones.

    Returns:
      The axes, for titles and `axes.figure.savefig`.

    Raises:
      ModuleNotFoundError: there is no matplotlib.
    """
    if axes is None:
      import matplotlib.pyplot as plt

      axes = plt.subplots(layout='constrained')[1]
    points = [(row.report.dense_params, row.accuracy_before) for row in self.steps[:1]]
    for row in self.steps:
      points += [(row.report.params, row.accuracy_compressed), (row.report.params, row.accuracy)]
    axes.plot(*zip(*points), 'o-', markersize=3)
    axes.set(xlabel='parameters', ylabel='accuracy')
    axes.invert_xaxis()
    return axes


def iterate(
  model: nnx.Module,
  schedule: Schedule,
  fine_tune: Callable[[nnx.Module, Step], nnx.Module],
  evaluate: Callable[[nnx.Module], float],
  key: Array | None = None,
  *,
  input_shape: Sequence[int] | None = None,
  checkpoint: str | os.PathLike | None = None,
  on_step: Callable[[StepReport], object] | None = None,
) -> Iteration:
  """Compresses a trained model step by step, fine-tuning after each.

  A layer that is factorised already is compressed again by its core, which takes in the old outer
  factors: it never becomes a chain of more factors, and its dense weight is not rebuilt (but where
  the core has more than 2^22 entries, or the layer is a stack or part of a joint tensor). Of the
  fine-tuned model and the one before fine-tuning the more accurate goes on.

  Source: Gusak et al. 2019 (arXiv 1903.09973, MUSCO).

  Args:
    model: any NNX model that `compress` takes; left unchanged.
    schedule: which layers when, and how.
    fine_tune: (model, step) -> the trained model; it may train the model it is given, in place or
      not. Not called for a step that changes no layer.
    evaluate: accuracy on validation data, larger is better; a float.
    key: PRNG key, for schemes that draw; every step folds in its index.
    input_shape: of one input without batch; with it reports count multiply-adds.
    checkpoint: file for the model and all that is known of the steps, replaced as a whole after
      each. Called again with it, the same schedule goes on after the last whole step; `tn.load` and
      `tn.compression.describe` read it too.
    on_step: called with a `StepReport` after each.

  Raises:
    ValueError: a group that names no layer, a checkpoint of another schedule, model or key, or a
      damaged one; what fine_tune returns has other variables than what it was given; all that
      `compress` refuses.
    FloatingPointError: fine_tune's model, or an accuracy, is not finite; the steps before are kept.

  >>> import tnjax as tn
  >>> model = nnx.Sequential(*(nnx.Linear(16, 16, rngs=nnx.Rngs(i)) for i in range(2)))
  >>> halves = Schedule(('layers/1', 'layers/0'), passes=2, matrix=tn.schemes.svd(rate=0.5))
  >>> done = iterate(model, halves, lambda model, step: model, lambda model: 1.0)
  >>> [row.report.kernel_params for row in done.steps]
  [128, 128, 64, 64]
  """
  schedule.check(model)
  about = {'schedule': schedule.as_dict(), 'model': _digest(model)}
  about |= {'key': None if key is None else _data(key)}
  if checkpoint is not None and pathlib.Path(checkpoint).exists():
    current, accuracy, steps = _resumed(checkpoint, about, model)
  else:
    _try_first(model, schedule, key, input_shape)
    current, accuracy, steps = model, _accuracy(evaluate, model, 'before the first step'), []
  for step in schedule.steps[len(steps) :]:
    before = steps[-1].accuracy if steps else accuracy
    current, row = _step(current, schedule, step, fine_tune, evaluate, key, input_shape, before)
    steps.append(row)
    if checkpoint is not None:
      rows = [dataclasses.asdict(row) | {'step': row.step._asdict()} for row in steps]
      save(checkpoint, current, notes={'iterate': about, 'accuracy': accuracy, 'steps': rows})
    if on_step is not None:
      on_step(row)
  return Iteration(current, accuracy, tuple(steps))


def _resumed(
  path: str | os.PathLike, about: dict, model: nnx.Module
) -> tuple[nnx.Module, float, list[StepReport]]:
  """The model, the first accuracy and the steps so far."""
  notes = describe(path)['notes']
  if 'iterate' not in notes:
    raise ValueError(f'checkpoint={str(path)!r} is a model that iterate did not write')
  for name, value in about.items():
    before = notes['iterate'][name]
    late = name == 'key' and before is None  # no step so far has drawn
    if not late and before != json.loads(json.dumps(value)):
      raise ValueError(f'checkpoint={str(path)!r} has {name} {before}; this call has {value}')
  steps = [
    StepReport(**row | {'step': _made(Step, row['step']), 'report': _report(row['report'])})
    for row in notes['steps']
  ]
  return load(path, model=model), notes['accuracy'], steps


def _report(fields: dict) -> Report:
  return Report(**fields | {'layers': tuple(_made(LayerReport, row) for row in fields['layers'])})


def _made(kind: type, fields: dict) -> object:
  """A record with tuples where JSON has lists."""
  return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def _digest(model: nnx.Module) -> str:
  """sha256 of all parameters and batch statistics."""
  found = hashlib.sha256()
  for path, variable in nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))):
    found.update('/'.join(map(str, path)).encode() + np.asarray(variable[...]).tobytes())
  return found.hexdigest()


def _data(key: Array) -> list[int]:
  return np.asarray(jax.random.key_data(key)).tolist()


def _step(
  model: nnx.Module,
  schedule: Schedule,
  step: Step,
  fine_tune: Callable[[nnx.Module, Step], nnx.Module],
  evaluate: Callable[[nnx.Module], float],
  key: Array | None,
  input_shape: Sequence[int] | None,
  before: float,
) -> tuple[nnx.Module, StepReport]:
  """The model after one step, and what it did."""
  own = None if key is None else jax.random.fold_in(key, step.index)
  rules = schedule.rules_of(model, step)
  small, report = compress(model, rules, own, input_shape=input_shape)
  step = step._replace(paths=tuple(row.path for row in report.compressed))
  where = f'step {step.index} (pass {step.repetition}, group {step.group!r})'
  if not step.paths:
    return small, StepReport(step, report, before, before, before, False)
  compressed = _accuracy(evaluate, small, f'{where}, compressed')
  tuned = fine_tune(nnx.clone(small, arrays=True), step)
  _check_tuned(small, tuned, where)
  accuracy = _accuracy(evaluate, tuned, f'{where}, fine-tuned')
  better = accuracy >= compressed
  row = StepReport(step, report, before, compressed, max(accuracy, compressed), better)
  return (tuned if better else small), row


def _try_first(
  model: nnx.Module, schedule: Schedule, key: Array | None, input_shape: Sequence[int] | None
) -> None:
  """Makes the jobs of the first pass on the model as it is, for errors before any long work."""
  calls = input_shapes(model, input_shape)
  if schedule.rules is None:
    for step in schedule.steps[: len(schedule.groups)]:
      check_ready(make_jobs(model, schedule.rules_of(model, step), key, calls)[0])


def _check_tuned(given: nnx.Module, tuned: object, where: str) -> None:
  """The same variables with finite values."""
  if not isinstance(tuned, nnx.Module):
    raise ValueError(f'{where}: fine_tune returned a {type(tuned).__name__}, no NNX model')
  wanted, found = (
    {'/'.join(map(str, path)): np.shape(v[...]) for path, v in nnx.to_flat_state(nnx.state(m))}
    for m in (given, tuned)
  )
  for path in sorted({*wanted, *found}):
    if wanted.get(path) != found.get(path):
      raise ValueError(
        f'{where}: fine_tune returned another model: {path} has shape {found.get(path)}, where it '
        f'was given {wanted.get(path)}'
      )
  places = walk(tuned)
  if any(place.factorised != places[path].factorised for path, place in walk(given).items()):
    raise ValueError(f'{where}: fine_tune returned a model with other layers')
  for path, variable in nnx.to_flat_state(nnx.state(tuned)):
    value = variable[...]
    floats = jnp.issubdtype(getattr(value, 'dtype', int), jnp.inexact)
    if floats and not np.isfinite(np.asarray(value)).all():
      name = '/'.join(map(str, path))
      raise FloatingPointError(f'{where}: after fine_tune {name} has NaN or infinities')


def _accuracy(evaluate: Callable[[nnx.Module], float], model: nnx.Module, where: str) -> float:
  found = float(evaluate(model))
  if not jnp.isfinite(found):
    raise FloatingPointError(f'{where}: evaluate gave {found}')
  return found


def _cells(row: StepReport) -> tuple[str, ...]:
  macs = row.report.macs
  return (
    str(row.step.repetition + 1),
    row.step.group,
    str(len(row.step.paths)),
    f'{row.report.params:,}',
    '-' if macs is None else f'{macs:,}',
    f'{row.accuracy_before:.4f}',
    f'{row.accuracy_compressed:.4f}',
    f'{row.accuracy:.4f}{"" if row.tuned else " (not tuned)"}',
  )
