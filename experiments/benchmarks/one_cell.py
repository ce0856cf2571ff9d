"""One cell of the benchmark: all its sides, first to the same error, then in turns on the clock."""

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.benchmarks import bounds, measure, peers, problems, reference, report, same_error
from experiments.benchmarks.cells import Cell

MODULE = 'experiments.benchmarks.decompositions'  # what a new process runs, with --peak_of


@dataclasses.dataclass(frozen=True)
class Settings:
  """How cells are measured.

  Attributes:
    repeats: timed runs of every side.
    side_seconds: a side is not run again once its runs have taken this long in all.
    peaks: measure peak memory, in a new process for every side.
    float64_reference: add the error of tnjax's run in double precision.
  """

  repeats: int
  side_seconds: float
  peaks: bool
  float64_reference: bool


def measured(
  cell: Cell, peer_names: Sequence[str], settings: Settings, rates: Mapping, note: measure.Note
) -> dict:
  """Everything that the report says of a cell.

  Args:
    cell: what is measured.
    peer_names: sides that can run here.
    settings: of the benchmark.
    rates: of the machine, `gemm_gflops` and `copy_gbytes_per_s`.
    note: called with what is going on.
  """
  note('making the input')
  data = problems.inputs(cell)
  names = ['tnjax', *(['tnjax-qr'] if cell.method == 'tt_round' else [])]
  names += [name for name in peer_names if peers.serves(name, cell)]
  out: dict[str, dict] = {name: {} for name in names}
  here = [name for name in names if name != peers.OWN_PROCESS]
  target = same_error.climb(cell, here, data, note, out) if cell.sweeps else None
  copies = _timed(cell, here, data, settings, note, out)
  if settings.float64_reference:
    note('reference in double precision')
    own = cell.at(out['tnjax'].get('sweeps'))
    out['tnjax']['float64_relative_error'] = reference.float64_error(own, data)
  for name in names:
    _in_new_process(cell, name, settings, target, note, out)
  note('rates of its products')
  skinny = {shape: measure.product_gflops(*shape) for shape in dict.fromkeys(bounds.skinny(cell))}
  rates = {**rates, 'skinny_gflops': [skinny[shape] for shape in bounds.skinny(cell)]}
  return report.result(cell, out, copies, rates, target)


def _timed(
  cell: Cell,
  names: Sequence[str],
  data: problems.Input,
  settings: Settings,
  note: measure.Note,
  out: Mapping,
) -> dict[str, list[float]]:
  """Times all sides into `out`, each at its sweeps; returns the seconds of the copies."""
  copies = measure.copy_sides(sum(x.size for x in data))
  sides = []
  for name in names:
    if 'failed' not in out[name]:
      note(f'{name}, compiling or importing')
      with same_error.peer_failures(name, out[name]):
        sides.append(measure.make_side(name, cell.at(out[name].get('sweeps')), data))

  def inspect(side: measure.Side, result: object) -> None:
    if side.name in out and not cell.sweeps:
      note(f'{side.name}, error')
      with same_error.peer_failures(side.name, out[side.name]):
        error = problems.relative_error(cell, data, side.records(result))
        out[side.name]['relative_error'] = error

  timed = measure.rounds([*copies, *sides], settings.repeats, settings.side_seconds, note, inspect)
  for side in sides:
    compiled = side.compile_seconds
    out[side.name] |= {} if compiled is None else {'compile_seconds': compiled}
    out[side.name] |= _if_reached(cell, out[side.name], timed[side.name])
  return {side.name: timed[side.name]['seconds'] for side in copies}


def _if_reached(cell: Cell, side: Mapping, timed: Mapping) -> Mapping:
  """What was timed; of a side that does not reach the target it is no time to the same error."""
  if not cell.sweeps or side['sweeps'] is not None or 'failed' in timed:
    return timed
  return {'median_seconds': None, 'most_sweeps_seconds': timed['median_seconds']}


def _in_new_process(
  cell: Cell,
  name: str,
  settings: Settings,
  target: float | None,
  note: measure.Note,
  out: Mapping,
) -> None:
  """Adds a side's peak memory; of one that needs a process of its own, all the rest too."""
  alone = name == peers.OWN_PROCESS
  if 'failed' in out[name] or not (settings.peaks or alone):
    return
  note(f'{name}, in a new process')
  if not alone:
    fresh = measure.in_new_process(cell.at(out[name].get('sweeps')), name, MODULE)
    out[name]['peak_bytes'] = fresh.get('peak_bytes')
    out[name] |= {'peak_failed': fresh['failed']} if 'failed' in fresh else {}
    return
  # The same algorithm as TensorLy's other back ends, up to rounding, and too slow to search.
  others = [s['sweeps'] for k, s in out.items() if k.startswith('tensorly-') and s.get('sweeps')]
  fresh = measure.in_new_process(cell.at(min(others, default=None)), name, MODULE)
  if target is not None and 'failed' not in fresh:
    reached = fresh['relative_error'] <= target
    out[name]['sweeps'] = min(others, default=cell.sweeps) if reached else None
    fresh = {**fresh, **_if_reached(cell, out[name], fresh)}
  out[name] |= fresh
