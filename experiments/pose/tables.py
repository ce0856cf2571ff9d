"""Tables 2, 3 and 4 of T-Net, counted: what the hourglass network stores in every row.

    python -m experiments.pose.tables

Kossaifi, Bulat, Tzimiropoulos, Pantic, T-Net: Parametrizing Fully Convolutional Nets with a Single
High-Order Tensor, CVPR 2019, arXiv 1904.02698. Its ratios are of whole networks, and what is around
the tensor is not in the paper: `tn.models.hourglass` says what we take. The columns of accuracies
need MPII and 300W. Nothing is computed here but sizes.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from absl import app, flags

from experiments.common import results
from experiments.pose import counts


@dataclasses.dataclass(frozen=True)
class Row:
  """A row of the paper.

  Attributes:
    table: its number.
    method, setting: as the paper writes them.
    printed: its ratio, to the digits that are printed.
    size: counts ours; None for a row that is there for reference only.
  """

  table: int
  method: str
  setting: str
  printed: str
  size: Callable[[], counts.Size] | None


def _single(setting: str, printed: str, **cut: int) -> Row:
  """Of Table 2: some modes cut, the others whole."""
  whole = dict(zip(counts.MODES, counts.SHAPE))
  return Row(
    2, 'Tucker T-Net', setting, printed, partial(counts.tucker, (*(whole | cut).values(),))
  )


def _ranked(table: int, method: str, count: Callable, printed: str, *ranks: int) -> Row:
  setting = f'({",".join(map(str, ranks))})'
  return Row(table, method, setting, printed, partial(count, ranks))


def _trimmed(setting: str, printed: str, **arguments: int) -> Row:
  return Row(3, 'trimmed', setting, printed, partial(counts.dense, **arguments))


def _tucker(printed: str, *ranks: int) -> Row:
  return _ranked(3, 'Tucker T-Net', counts.tucker, printed, *ranks)


def _layerwise(printed: str, *ranks: int) -> Row:
  return _ranked(3, 'layer-wise Tucker', counts.layerwise, printed, *ranks)


ROWS = (
  Row(2, 'original', '', '1.0', counts.dense),
  _single('#hg 3', '1.28', hourglass=3),
  _single('#hg 2', '1.82', hourglass=2),
  _single('#hg 1', '3.03', hourglass=1),
  _single('hg_depth 3', '1.28', depth=3),
  _single('hg_depth 2', '1.82', depth=2),
  _single('hg_depth 1', '3.03', depth=1),
  _single('hg_subnet 2', '1.43', pathway=2),
  _single('hg_subnet 1', '2.50', pathway=1),
  _single('b_depth 1', '1.82', convolution=1),
  _single('f_in, f_out 96', '1.64', input=96, output=96),
  _single('f_in, f_out 32', '6.25', input=32, output=32),
  _single('h, w 2', '1.98', row=2, column=2),
  Row(3, 'uncompressed', 'f=128', '1', counts.dense),
  _trimmed('f=112', '1.3', features=112),
  _trimmed('f=92', '2', features=92),
  _trimmed('f=64', '4', features=64),
  _trimmed('hg_depth=3', '1.3', depth=3),
  _trimmed('hg_depth=2', '1.8', depth=2),
  _trimmed('hg_depth=1', '3.0', depth=1),
  Row(3, 'MobileNet', 'f=194', '3.6', None),  # another network, and not described
  Row(3, 'MobileNet', 'f=160', '5.4', None),
  _layerwise('1.4', 128, 128, 2, 2),
  _layerwise('1.3', 96, 96, 3, 3),
  _layerwise('2.3', 64, 64, 3, 3),
  _layerwise('6.9', 16, 16, 3, 3),
  _tucker('1.7', 4, 3, 3, 2, 110, 110, 3, 3),
  _tucker('1.8', 4, 4, 2, 2, 110, 110, 3, 3),
  _tucker('3.67', 3, 3, 3, 2, 110, 110, 2, 2),  # of the text; the table has 3.7
  _tucker('5.2', 2, 2, 2, 2, 96, 96, 3, 3),
  _ranked(3, 'MPS T-Net', counts.mps, '7.4', 1, 4, 4, 12, 24, 110, 9, 3, 1),
  Row(4, 'uncompressed', 'f=128', '1', counts.dense),
  _ranked(4, 'Tucker T-Net', counts.tucker, '6.94', 2, 2, 2, 2, 64, 64, 3, 3),
)


_OURS = ('tensor_params', 'tensor_ratio', 'params', 'ratio', 'difference', 'beyond_rounding')


def table() -> list[dict]:
  """Every row with our figures; None for those where we count nothing."""
  whole, out = counts.dense(), []
  for row in ROWS:
    ours = compared(row.size(), whole, row.printed) if row.size else dict.fromkeys(_OURS)
    out.append({
      'table': row.table,
      'method': row.method,
      'setting': row.setting,
      'ratio_paper': row.printed,
      **ours,
    })  # fmt: skip
  return out


def compared(size: counts.Size, whole: counts.Size, printed: str) -> dict[str, float]:
  """How many times smaller than `whole`, and how far that is from a printed ratio.

  `difference` is our ratio over the printed one, less 1. `beyond_rounding` is what is left of it
  (no sign) to the nearest number that is printed with these digits.

  >>> found = compared(counts.Size(150, 80), counts.Size(240, 170), '1.5')  # 1.55 prints so
  >>> round(found['difference'], 3), round(found['beyond_rounding'], 3)
  (0.067, 0.033)
  """
  paper, half = float(printed), 10.0 ** -len(printed.partition('.')[2]) / 2
  ratio = whole.network / size.network
  beyond = max(0.0, abs(ratio - paper) - half) / paper
  figures = (
    size.tensor,
    whole.tensor / size.tensor,
    size.network,
    ratio,
    ratio / paper - 1,
    beyond,
  )
  return dict(zip(_OURS, figures))


def text(rows: Sequence[Mapping]) -> str:
  """A table for the terminal."""
  head = ('method', 'setting', 'tensor', 'alone', 'network', 'ratio', 'paper', 'difference',
          'beyond rounding')  # fmt: skip
  lines = [head]
  for row in rows:
    formats = ('{:,}', '{:.2f}', '{:,}', '{:.3f}', '{:+.1%}', '{:.1%}')
    ours = [
      '-' if row[name] is None else shown.format(row[name]) for name, shown in zip(_OURS, formats)
    ]
    lines.append((row['method'], row['setting'], *ours[:4], row['ratio_paper'], *ours[4:]))
  widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
  return '\n'.join(
    '  '.join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))
    for line in lines
  )


def main(output: str | None) -> None:
  """Prints the tables, and writes them where that is asked for."""
  rows, whole = table(), counts.dense()
  print(
    f'The network has {whole.network:,} parameters: {whole.tensor:,} in the tensor, '
    f'{whole.network - whole.tensor:,} around it.'
  )
  print('tensor, network: entries stored. alone, ratio: how many times less than uncompressed.')
  print('MobileNet, -: printed for reference, not counted.')
  for number in (2, 3, 4):
    print(f'\nTable {number}')
    print(text([row for row in rows if row['table'] == number]))
  if output:
    command = ' '.join(['python', '-m', 'experiments.pose.tables', *sys.argv[1:]])
    about = {'command': command, 'versions': results.versions(), 'git': results.git()}
    results.write_json(pathlib.Path(output), about | {'rows': rows})


if __name__ == '__main__':
  to = flags.DEFINE_string('output', None, 'Report to write.')
  app.run(lambda _: main(to.value))
