"""tltorch's layers on the same cells, at the same number of parameters.

Both of its implementations are timed, `factorized` and `reconstructed`; the better one counts. It
has no counterpart of the other schemes, and its layers are measured for inference alone.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Iterator

from experiments.benchmarks.layer_cells import LayerCell

_FACTORIZATIONS = {'cp': 'cp', 'tk': 'tucker', 'tt': 'tt'}  # of convolutions
IMPLEMENTATIONS = ('factorized', 'reconstructed')


@dataclasses.dataclass(frozen=True)
class PeerLayer:
  """A layer of another library, ready to run.

  Attributes:
    name: as in the report.
    run: one call.
    params: entries of its factors.
  """

  name: str
  run: Callable[[], object]
  params: int


def layers(cell: LayerCell, params: int) -> Iterator[PeerLayer]:
  """tltorch's layers for a cell, nothing where it is not installed or has none.

  Args:
    cell: what is measured.
    params: of tnjax's factors, which theirs are to match.
  """
  name, shape = cell.scheme.name, cell.shape
  conv = len(shape) == 4 and max(shape[:2]) > 1 and cell.strides == 1 and name in _FACTORIZATIONS
  linear = len(shape) == 2 and name == 'r_tt'
  if cell.training or not (conv or linear) or importlib.util.find_spec('tltorch') is None:
    return
  import tltorch
  import torch

  rate = params / (shape[-2] * shape[-1] * (shape[0] * shape[1] if conv else 1))
  for implementation in IMPLEMENTATIONS:
    options = {'rank': rate, 'implementation': implementation}
    if conv:
      layer = tltorch.FactorizedConv(
        shape[2], shape[3], shape[0], order=2, padding=shape[0] // 2, bias=False,
        factorization=_FACTORIZATIONS[name], **options,
      )  # fmt: skip
      x = torch.randn(cell.batch, shape[2], cell.size, cell.size)
    else:
      fold = cell.parametrization.fold
      sizes = dict(fold.axes)
      ins, outs = (tuple(sizes[a] for a in ends) for ends in (fold.inputs, fold.outputs))
      layer = tltorch.FactorizedLinear(ins, outs, bias=False, factorization='blocktt', **options)
      x = torch.randn(cell.batch, shape[0])
    stored = sum(p.numel() for p in layer.parameters())

    def run(layer: Callable = layer, x: object = x) -> object:
      with torch.no_grad():
        return layer(x)

    yield PeerLayer(f'tltorch-{implementation}', run, stored)
