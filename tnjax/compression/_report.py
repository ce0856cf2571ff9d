"""What a compression did, layer by layer, and in sum."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class LayerReport:
  """One layer.

  Attributes:
    path: '/'-joined NNX path.
    shape: of the dense kernel.
    scheme: name of the scheme, None for a layer left dense.
    ranks: of the factors, () for a layer left dense.
    params, dense_params: stored kernel entries after and before (bias not counted).
    macs, dense_macs: multiply-adds for one input, None where the input's shape was not given. On
      the line of a joint tensor's first layer stand its parameters, and the contraction of the
      architecture's modes, once for all its layers; so with seconds.
    squared_error, squared_norm: ||W - W'||^2 and ||W||^2; 0 error where nothing was done, None in a
      plan.
    reason: why the layer stays as it is, '' if it does not.
    was: name of the scheme it was stored by before, None if it was dense. Everything called dense
      here is then as it was stored.
    num_iters: sweeps of the solver, the most of a stack; 0 of a direct one, None in a plan.
    converged: whether its stopping rule was met, in all of a stack; None in a plan.
    rebuilt: whether the planner, on this device and for a batch of 32, would rebuild the weight at
      every call, so that the work is dense whatever `macs` says; None where this is not known.
    seconds, dense_seconds: of the layer's calls with a batch of 32 after and before, by the
      planner's model of this device; None where not known (no input shape, a look-up, an open
      number of calls) and of a layer that stays as it is.
    measured_seconds, measured_dense_seconds: the same, timed; None where that was not asked for.
  """

  path: str
  shape: tuple[int, ...]
  scheme: str | None
  ranks: tuple[int, ...]
  params: int
  dense_params: int
  macs: int | None
  dense_macs: int | None
  squared_error: float | None
  squared_norm: float | None
  reason: str = ''
  was: str | None = None
  num_iters: int | None = None
  converged: bool | None = None
  rebuilt: bool | None = None
  seconds: float | None = None
  dense_seconds: float | None = None
  measured_seconds: float | None = None
  measured_dense_seconds: float | None = None

  @property
  def raised(self) -> bool:
    """Whether the factorised layer does more multiply-adds, by its formula, than it did before."""
    return bool(self.scheme and self.macs is not None and self.macs > self.dense_macs)

  @property
  def times(self) -> tuple[float, float] | None:
    """Seconds after and before: measured where they were, else expected, None if neither."""
    if self.measured_seconds is not None:
      return self.measured_seconds, self.measured_dense_seconds
    return None if self.seconds is None else (self.seconds, self.dense_seconds)

  @property
  def time_ratio(self) -> float | None:
    """The first of `times` over the second."""
    return self.times and self.times[0] / self.times[1]

  @property
  def slower(self) -> bool:
    """Whether the factorised layer takes longer than the layer did before."""
    return self.time_ratio is not None and self.time_ratio > 1

  @property
  def relative_error(self) -> float | None:
    """||W - W'|| / ||W||, None in a plan."""
    return _relative(self.squared_error, self.squared_norm)


@dataclasses.dataclass(frozen=True)
class Report:
  """Rows for every layer that carries a kernel, and counts of the whole model.

  Attributes:
    layers: one row per layer, in the model's order.
    params, dense_params: trainable entries of the whole model after and before.
  """

  layers: tuple[LayerReport, ...]
  params: int
  dense_params: int

  @property
  def compressed(self) -> tuple[LayerReport, ...]:
    """The rows of layers that were factorised."""
    return tuple(row for row in self.layers if row.scheme is not None)

  @property
  def kernel_params(self) -> int:
    """Stored entries of the compressed kernels."""
    return sum(row.params for row in self.compressed)

  @property
  def kernel_params_ratio(self) -> float:
    """Compressed over original entries, of the compressed kernels alone."""
    return _ratio(self.kernel_params, sum(row.dense_params for row in self.compressed))

  @property
  def params_ratio(self) -> float:
    """Compressed over original trainable entries of the whole model."""
    return _ratio(self.params, self.dense_params)

  @property
  def macs(self) -> int | None:
    """Multiply-adds of all layers for one input, None where its shape was not given."""
    return _sum(row.macs for row in self.layers)

  @property
  def dense_macs(self) -> int | None:
    """The same before compression."""
    return _sum(row.dense_macs for row in self.layers)

  @property
  def kernel_macs_ratio(self) -> float | None:
    """Compressed over original multiply-adds, of the compressed kernels alone."""
    before = _sum(row.dense_macs for row in self.compressed)
    return None if before is None else _ratio(_sum(row.macs for row in self.compressed), before)

  @property
  def macs_ratio(self) -> float | None:
    """Compressed over original multiply-adds of the whole model."""
    return None if self.dense_macs is None else _ratio(self.macs, self.dense_macs)

  @property
  def relative_error(self) -> float | None:
    """sqrt(sum ||W - W'||^2 / sum ||W||^2) over the compressed kernels, None in a plan."""
    error = _sum(row.squared_error for row in self.compressed)
    return _relative(error, _sum(row.squared_norm for row in self.compressed))

  def __str__(self) -> str:
    """A table for the terminal; what needs a look is marked by ! and listed below it."""
    head = ('layer', 'shape', 'scheme', 'ranks', 'params', 'ratio', 'MACs', 'ratio', 'time',
            'error', 'sweeps')  # fmt: skip
    rows = [head, *map(_cells, self.layers), _totals(self)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
      '  '.join(c.ljust(w) if i < 4 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths)))
      for row in rows
    ]
    lines = [lines[0], '-' * len(lines[0]), *lines[1:]]
    for note, rows in (
      ('! not converged', [row for row in self.compressed if row.converged is False]),
      ('! more multiply-adds than before', [row for row in self.compressed if row.raised]),
      (
        '! slower than before, measured here with a batch of 32',
        [row for row in self.compressed if row.slower and row.measured_seconds is not None],
      ),
      (
        '! slower than before, expected here with a batch of 32',
        [row for row in self.compressed if row.slower and row.measured_seconds is None],
      ),
    ):
      if rows:
        lines.append(f'{note}: {", ".join(row.path for row in rows)}')
    if any(row.rebuilt for row in self.layers):
      lines.append('* rebuilt at every call (here, for a batch of 32), and then applied as dense')
    return '\n'.join(line.rstrip() for line in lines)


def _cells(row: LayerReport) -> tuple[str, ...]:
  return (
    row.path,
    'x'.join(map(str, row.shape)),
    _method(row),
    ','.join(map(str, row.ranks)),
    f'{row.params:,}',
    f'{_ratio(row.params, row.dense_params):.3f}',
    '-' if row.macs is None else f'{row.macs:,}',
    '-' if row.macs is None else _work(row),
    '-' if row.time_ratio is None else f'{row.time_ratio:.2f}{" !" * row.slower}',
    f'{row.relative_error:.4f}' if row.scheme and row.squared_norm else '-',
    '-' if not row.num_iters else f'{row.num_iters}{"" if row.converged else " !"}',
  )


def _work(row: LayerReport) -> str:
  marks = f'{" !" * row.raised}{" *" * bool(row.rebuilt)}'
  return f'{_ratio(row.macs, row.dense_macs):.3f}{marks}'


def _method(row: LayerReport) -> str:
  if row.scheme is None:
    return f'{row.was or "dense"}: {row.reason}'
  notes = [row.reason, f'was {row.was}' if row.was else '']
  return row.scheme + ''.join(f' ({note})' for note in notes if note)


def _totals(report: Report) -> tuple[str, ...]:
  macs = report.macs
  error = report.relative_error
  return (
    'whole model',
    '',
    f'{len(report.compressed)} of {len(report.layers)} layers',
    '',
    f'{report.params:,}',
    f'{report.params_ratio:.3f}',
    '-' if macs is None else f'{macs:,}',
    '-' if macs is None else f'{report.macs_ratio:.3f}',
    '',
    '-' if error is None else f'{error:.4f}',
    '',
  )


def _sum(values: object) -> float | int | None:
  values = list(values)
  return None if any(v is None for v in values) else sum(values)


def _ratio(after: float, before: float) -> float:
  return after / before if before else 1.0


def _relative(error: float | None, norm: float | None) -> float | None:
  if error is None or norm is None:
    return None
  return math.sqrt(error / norm) if norm else 0.0
