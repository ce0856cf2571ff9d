"""Table 2 of the paper, counted: what VGG stores when dense layers are trains or of low rank.

    python -m experiments.vgg.table2

Novikov, Podoprikhin, Osokin, Vetrov, Tensorizing Neural Networks, NIPS 2015, arXiv 1509.06569. The
columns of errors need ImageNet. Nothing is computed here but shapes.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping, Sequence

from absl import app, flags
from flax import nnx

import tnjax as tn
from experiments.common import results
from experiments.tensornet import shapes

_LAYERS = ('classifier/0', 'classifier/3', 'classifier/6')


@dataclasses.dataclass(frozen=True)
class Row:
  """An architecture of the table.

  Attributes:
    name: of the three dense layers, in order, as the paper writes it.
    schemes: of these layers, None for one that stays dense.
    layers, vgg16, vgg19: printed compression of the layers that are trains or of low rank, and of
      the networks.
  """

  name: str
  schemes: tuple[tn.schemes.Scheme | None, ...]
  layers: float
  vgg16: float
  vgg19: float

  @property
  def rules(self) -> tuple[tuple[str, tn.schemes.Scheme], ...]:
    """For `tn.compress`."""
    return tuple(pair for pair in zip(_LAYERS, self.schemes) if pair[1] is not None)


_TT4, _TT2 = (shapes.vgg_first(rank).scheme for rank in (4, 2))  # of 25088 -> 4096
_SECOND = shapes.Train((4,) * 6, (4,) * 6, 4).scheme  # of 4096 -> 4096
ROWS = (
  Row('FC FC FC', (None, None, None), 1, 1, 1),
  Row('TT4 FC FC', (_TT4, None, None), 50_972, 3.9, 3.5),
  Row('TT2 FC FC', (_TT2, None, None), 194_622, 3.9, 3.5),
  Row('TT4 TT4 FC', (_TT4, _SECOND, None), 37_732, 7.4, 6),
  Row('MR1 FC FC', (tn.schemes.svd(ranks=1), None, None), 3_521, 3.9, 3.5),
  Row('MR50 FC FC', (tn.schemes.svd(ranks=50), None, None), 70, 3.7, 3.4),
)


def count(row: Row, depth: int) -> dict[str, float]:
  """Our figures of a row, for VGG of 16 or 19 layers.

  >>> found = count(ROWS[1], 16)
  >>> found['layer_params'], round(found['layers_ratio']), round(found['network_ratio'], 1)
  (2016, 50972, 3.9)
  """
  net = nnx.eval_shape(lambda: tn.models.vgg(depth, rngs=nnx.Rngs(0)))
  found = tn.compression.plan(net, row.rules)
  return {
    'layer_params': found.kernel_params,
    'layers_ratio': 1 / found.kernel_params_ratio,
    'params': found.params,
    'network_ratio': 1 / found.params_ratio,
  }


def table() -> list[dict]:
  """Every row with our figures beside the printed ones."""
  out = []
  for row in ROWS:
    ours = {depth: count(row, depth) for depth in (16, 19)}
    out.append({
      'name': row.name,
      'layers_ratio': ours[16]['layers_ratio'],
      'layers_ratio_paper': row.layers,
      **{f'vgg{d}_params': ours[d]['params'] for d in ours},
      **{f'vgg{d}_ratio': ours[d]['network_ratio'] for d in ours},
      'vgg16_ratio_paper': row.vgg16,
      'vgg19_ratio_paper': row.vgg19,
    })  # fmt: skip
  return out


def text(rows: Sequence[Mapping]) -> str:
  """The table for the terminal: ours, and the paper's in brackets."""
  head = ('dense layers', 'of these layers', 'vgg-16', 'vgg-19', 'vgg-16 stores', 'vgg-19 stores')
  lines = [head]
  for row in rows:
    lines.append((
      row['name'],
      f'{row["layers_ratio"]:,.1f} ({row["layers_ratio_paper"]:,})',
      f'{row["vgg16_ratio"]:.2f} ({row["vgg16_ratio_paper"]})',
      f'{row["vgg19_ratio"]:.2f} ({row["vgg19_ratio_paper"]})',
      f'{row["vgg16_params"]:,}',
      f'{row["vgg19_params"]:,}',
    ))  # fmt: skip
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  return '\n'.join('  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines)


def main(output: str | None) -> None:
  """Prints the table, and writes it where that is asked for."""
  rows = table()
  print('Compression, ours and (printed in the paper):')
  print(text(rows))
  if output:
    command = ' '.join(['python', '-m', 'experiments.vgg.table2', *sys.argv[1:]])
    about = {'command': command, 'versions': results.versions(), 'git': results.git()}
    results.write_json(pathlib.Path(output), about | {'rows': rows})


if __name__ == '__main__':
  to = flags.DEFINE_string('output', None, 'Report to write.')
  app.run(lambda _: main(to.value))
