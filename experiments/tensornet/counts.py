"""What the paper's networks store: by the paper's capping of ranks, and by this library's."""

from collections.abc import Iterator, Mapping, Sequence

from experiments.tensornet import paper, shapes
from experiments.tensornet.config import Config
from experiments.tensornet.lab import Lab
from experiments.tensornet.shapes import FIGURE1, HIDDEN, MATRIX_RANK, Train

RANKS = range(1, 21)
_CONV = 79_328  # kernels and biases of the quick network's convolutions
_QUICK = _CONV + 65_600 + 650
_MIB = 2**20 / 4  # float32


def cells(config: Config) -> list[tuple[str, None]]:
  """Matrices and networks."""
  del config
  return [(found['cell'], None) for found in rows()]


def row(lab: Lab, cell: str, rank: None, seed: None) -> dict:
  """The counts of a cell; see `rows`."""
  del lab, rank, seed
  return next(found for found in rows() if found['cell'] == cell)


def rows() -> Iterator[dict]:
  """One row a matrix or network: its `weights` at `ranks`, `weights_left_capped`, and the paper's,
  None where they are not known; and its other facts.
  """
  for name in FIGURE1:
    trains = [shapes.figure1(name, rank) for rank in RANKS]
    yield _row(name, RANKS, [(t,) for t in trains], 0, _paper(name))
  sizes = [2 * HIDDEN * rank for rank in RANKS]
  yield _lists(MATRIX_RANK, RANKS, sizes, sizes, _paper(MATRIX_RANK))
  pairs = [shapes.mnist_pair(rank) for rank in (8, 6)]
  yield _row('MNIST, both layers', (8, 6), pairs, HIDDEN + 10, paper.MNIST_BOTH_PARAMS)
  yield from _quick()
  found = {rank: sum(both) for rank, both in paper.WIDE_WEIGHTS.items()}
  ranks = sorted({*found, *paper.WIDE})
  yield _row('wide', ranks, [shapes.wide_pair(rank) for rank in ranks], 0, found)
  yield _memory()


def table(found: Sequence[Mapping]) -> str:
  """Figure 1's counts as text: left-capped / ours where they differ."""
  lines = [['weights at rank', *map(str, paper.RANKS)]]
  for row in found:
    if row['cell'] in (*FIGURE1, MATRIX_RANK):
      at = [row['ranks'].index(rank) for rank in paper.RANKS]
      pairs = [(row['weights_left_capped'][i], row['weights'][i]) for i in at]
      lines.append([row['cell'], *(f'{a}' if a == b else f'{a}/{b}' for a, b in pairs)])
  widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
  return '\n'.join('  '.join(c.rjust(w) for c, w in zip(line, widths)) for line in lines)


def _quick() -> Iterator[dict]:
  """Both variants of CIFAR-10's quick network: dense layers' weights, and the whole network."""
  first, second = shapes.quick_pair()
  hidden = first.shape[1]
  networks = {  # trains, weights of the dense layers they replace, all other parameters
    'first': ((first,), 65_536, _CONV + hidden + 10 * hidden + 10),
    'both': ((first, second), 65_536 + 640, _CONV + hidden + 10),
  }
  for name, (trains, dense, rest) in networks.items():
    row = _row(f'quick, {name}', (8,), [trains], 0, {8: 4_160} if name == 'first' else {})
    (ours,), (capped,) = row['weights'], row['weights_left_capped']
    yield row | {
      'network_params': rest + ours,
      'network_ratio': _QUICK / (rest + ours),
      'network_ratio_left_capped': _QUICK / (rest + capped),
      'network_ratio_paper': paper.QUICK_NET_RATIO[name],
      'dense_ratio': dense / ours,
      'dense_ratio_left_capped': dense / capped,
      'dense_ratio_paper': paper.QUICK_DENSE_RATIO if name == 'both' else None,
    }


def _memory() -> dict:
  layer = shapes.vgg_first()
  return _row('VGG, first dense layer', (4,), [(layer,)], 0, {4: 2_016}) | {
    'dense_mib': layer.shape[0] * layer.shape[1] / _MIB,
    'dense_mib_paper': paper.MEBIBYTES['dense'].value,
    'tt_mib': shapes.largest_left_to_right(layer) / _MIB,
    'tt_mib_paper': paper.MEBIBYTES['tt'].value,
  }


def _row(
  cell: str,
  ranks: Sequence[int],
  trains: Sequence[Sequence[Train]],
  rest: int,
  printed: Mapping[int, int],
) -> dict:
  """The weights of some trains for every rank, and `rest` others."""
  ours = [rest + sum(t.weights for t in each) for each in trains]
  capped = [rest + sum(t.weights_left_capped for t in each) for each in trains]
  return _lists(cell, ranks, ours, capped, printed)


def _lists(
  cell: str,
  ranks: Sequence[int],
  ours: Sequence[int],
  capped: Sequence[int],
  printed: Mapping[int, int],
) -> dict:
  return {
    'cell': cell,
    'ranks': list(ranks),
    'weights': list(ours),
    'weights_left_capped': list(capped),
    'weights_paper': [printed.get(rank) for rank in ranks],
  }


def _paper(name: str) -> dict[int, int]:
  return dict(zip(paper.RANKS, paper.FIGURE1_WEIGHTS[name]))
