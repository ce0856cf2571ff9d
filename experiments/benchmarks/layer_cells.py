"""The layers that are measured: a weight, a scheme, an input, with or without gradients."""

import dataclasses
import re
from collections.abc import Iterator

import tnjax as tn
from tnjax.contraction import Geometry, Problem
from tnjax.schemes import Parametrization, Scheme, spatial_labels


@dataclasses.dataclass(frozen=True)
class LayerCell:
  """One row of the benchmark.

  Attributes:
    name: `weight_scheme_batch_pass`.
    shape: (in, out) or (h, w, in, out).
    scheme: of the factorised layer.
    batch: inputs.
    size: height and width of the input, where it has them; padding is 'SAME'.
    strides: of the kernel.
    training: gradients by factors and input too.
  """

  name: str
  shape: tuple[int, ...]
  scheme: Scheme
  batch: int
  size: int = 0
  strides: int = 1
  training: bool = False

  @property
  def parametrization(self) -> Parametrization:
    """The scheme bound to the weight."""
    return self.scheme.bind(self.shape)

  @property
  def geometry(self) -> Geometry:
    """How the kernel slides; empty for a matrix."""
    kernel = self.shape[:-2]
    if not kernel:
      return Geometry()
    size = (self.size,) * len(kernel)
    return Geometry.resolve(spatial_labels(self.shape), kernel, self.strides, 'SAME', 1, size)

  @property
  def layer(self) -> Problem:
    """What the planner sees; of a shuffled weight there is nothing to plan."""
    p = self.parametrization
    spatial = (self.size,) * (len(self.shape) - 2)
    return Problem(p.network, p.fold.inputs, p.fold.outputs, self.geometry, self.batch, spatial)


def _pair(weight: str, method: str, batch: int, **options: object) -> Iterator[LayerCell]:
  for training in (False, True):
    end = 'train' if training else 'infer'
    yield LayerCell(f'{weight}_{method}_b{batch}_{end}', batch=batch, training=training, **options)


def _rated(
  weight: str, shape: tuple[int, ...], names: tuple[str, ...], rates: tuple[float, ...],
  batches: tuple[int, ...], size: int = 0, strides: int = 1,
) -> Iterator[LayerCell]:  # fmt: skip
  for name in names:
    for rate in rates:
      for batch in batches:
        scheme = tn.schemes.by_name(name, rate)
        options = {'shape': shape, 'scheme': scheme, 'size': size, 'strides': strides}
        yield from _pair(weight, f'{name}{rate:.0%}', batch, **options)


def _sample() -> Iterator[LayerCell]:
  main = tn.schemes.NAMES
  yield from _rated('conv64_8', (3, 3, 64, 64), main, (0.1, 0.4), (128,), 8)
  few = ('cp', 'tk')
  yield from _rated('conv16_32', (3, 3, 16, 16), few, (0.1,), (128,), 32)
  yield from _rated('conv16to32_32', (3, 3, 16, 32), few, (0.1,), (128,), 32, 2)
  yield from _rated('conv32_16', (3, 3, 32, 32), few, (0.1,), (128,), 16)
  yield from _rated('vgg512_14', (3, 3, 512, 512), ('tk',), (0.1,), (1, 32), 14)
  yield from _rated('resnet50_128_28', (3, 3, 128, 128), ('tk',), (0.1,), (1, 32), 28)
  yield from _rated('resnet50_1x1_14', (1, 1, 1024, 256), ('svd',), (0.1,), (1, 32), 14)
  yield from _rated('linear1024', (1024, 1024), ('svd', 'r_tt'), (0.1,), (1, 128))
  yield from _rated('linear4096', (4096, 4096), ('svd',), (0.1,), (1, 128))
  for rank in (1, 2, 4, 8):
    scheme = tn.schemes.r_tt(ranks=rank, in_modes=(2, 7, 8, 8, 7, 4), out_modes=(4,) * 6)
    yield LayerCell(f'fc6_tt{rank}_b1_infer', (25088, 4096), scheme, 1)
  scheme = tn.schemes.r_tt(ranks=4, in_modes=(4,) * 6, out_modes=(4,) * 6)
  for batch in (1, 128):
    yield LayerCell(f'fc7_tt4_b{batch}_infer', (4096, 4096), scheme, batch)


def _others() -> Iterator[LayerCell]:
  names, rates = tn.schemes.NAMES, (0.1, 0.4)
  yield from _rated('conv16_32', (3, 3, 16, 16), names, rates, (1, 128), 32)
  yield from _rated('conv16to32_32', (3, 3, 16, 32), names, rates, (1, 128), 32, 2)
  yield from _rated('conv32_16', (3, 3, 32, 32), names, rates, (1, 128), 16)
  yield from _rated('conv32to64_16', (3, 3, 32, 64), names, rates, (1, 128), 16, 2)
  yield from _rated('conv64_8', (3, 3, 64, 64), names, rates, (1,), 8)
  yield from _rated('vgg256_56', (3, 3, 256, 256), names, rates, (1,), 56)
  yield from _rated('vgg512_14', (3, 3, 512, 512), names, rates, (1, 32), 14)
  yield from _rated('resnet50_128_28', (3, 3, 128, 128), names, rates, (1, 32), 28)
  yield from _rated('linear1024', (1024, 1024), names, rates, (1, 128))


def select(pattern: str, full: bool) -> list[LayerCell]:
  """Cells whose whole name matches, of the sample or of all.

  Raises:
    ValueError: no regular expression, or none matches.

  >>> [c.batch for c in select('fc7_.*', full=False)]
  [1, 128]
  """
  cells = {c.name: c for c in [*_sample(), *(_others() if full else ())]}
  try:
    compiled = re.compile(pattern)
  except re.error as error:
    raise ValueError(f'--cells={pattern} is no regular expression: {error}') from None
  found = [c for name, c in cells.items() if compiled.fullmatch(name)]
  if not found:
    raise ValueError(f'--cells={pattern} matches none of {", ".join(cells)}')
  return found
