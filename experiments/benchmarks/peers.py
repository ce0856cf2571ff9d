"""TensorLy and torchTT as sides; imported only where they are asked for and installed."""

import importlib.util
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType

import jax
import numpy as np

import tnjax as tn
from experiments.benchmarks.cells import Cell
from experiments.benchmarks.problems import Input, Side, cp_start

PEERS = ('tensorly', 'torchtt')
BACKENDS = ('numpy', 'pytorch', 'jax')
PACKAGES = ('tensorly', 'torch', 'torchTT')  # as PyPI spells them
OWN_PROCESS = 'tensorly-jax'  # switches 64-bit numbers on for the whole process that imports it


def find(peers: Sequence[str], backends: Sequence[str]) -> tuple[list[str], dict[str, str]]:
  """Names of the sides that can run here, and why others of those asked for cannot.

  Args:
    peers: ('auto',), ('none',) or names out of `PEERS`.
    backends: of TensorLy, out of `BACKENDS`.

  Raises:
    ValueError: an unknown name.

  >>> find(('none',), BACKENDS)
  ([], {})
  """
  names = {'auto': PEERS, 'none': ()}.get(','.join(peers), tuple(peers))
  _known('--peers', names, (*PEERS, 'auto', 'none'))
  _known('--tensorly_backends', backends, BACKENDS)
  needs = {f'tensorly-{b}': ['tensorly', *(['torch'] if b == 'pytorch' else [])] for b in backends}
  if 'tensorly' not in names:
    needs = {}
  if 'torchtt' in names:
    needs['torchtt'] = ['torch', 'torchtt']
  absent = {}
  for side, modules in needs.items():
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
      absent[side] = f'{" and ".join(missing)} not installed'
  return [side for side in needs if side not in absent], absent


def serves(name: str, cell: Cell) -> bool:
  """Whether a side has the cell's method: torchTT rounds, TensorLy does the others."""
  return (name == 'torchtt') == (cell.method == 'tt_round')


def side(name: str, cell: Cell, data: Input) -> Side:
  """The side called `name` on a cell, its input in the library's own arrays."""
  if name == 'torchtt':
    return _torchtt(cell, data)
  return _tensorly(name, cell, data)


def _known(flag: str, given: Sequence[str], known: Sequence[str]) -> None:
  for name in given:
    if name not in known:
      raise ValueError(f'{flag}={name} is unknown; known are {", ".join(known)}')


def _tensorly(name: str, cell: Cell, data: Input) -> Side:
  import tensorly

  backend = name.removeprefix('tensorly-')
  prepare = partial(tensorly.set_backend, backend)
  prepare()
  place = {'device': _torch_device()} if backend == 'pytorch' else {}
  arrays = [tensorly.tensor(x, **place) for x in data]
  one = {'cp_als': _parafac, 'hooi': _partial_tucker, 'tt_svd': _tensor_train}[cell.method]
  jobs = [one(tensorly, cell, x, ranks, place) for x, ranks in zip(arrays, cell.ranks)]

  def run() -> list:
    return _finished(backend, [job() for job in jobs])

  def records(results: list) -> list:
    return [_RECORDS[cell.method](cell, r) for r in results]

  return Side(name, run, records, prepare)


def _parafac(
  tl: ModuleType, cell: Cell, x: object, ranks: tuple[int, ...], place: dict
) -> Callable:
  from tensorly.decomposition import parafac

  rank = ranks[0]
  start = [tl.tensor(f, **place) for f in cp_start(tuple(x.shape), rank)]
  init = (tl.ones(rank, **tl.context(x)), start)
  # A falsy tol neither stops early nor computes the error after every sweep.
  return lambda: parafac(x, rank, n_iter_max=cell.sweeps, init=init, tol=0)


def _partial_tucker(
  tl: ModuleType, cell: Cell, x: object, ranks: tuple[int, ...], place: dict
) -> Callable:
  del tl, place
  from tensorly.decomposition import partial_tucker

  modes = list(range(x.ndim)) if cell.modes is None else list(cell.modes)
  return lambda: partial_tucker(
    x, list(ranks), modes=modes, n_iter_max=cell.sweeps, init='svd', tol=0
  )


def _tensor_train(
  tl: ModuleType, cell: Cell, x: object, ranks: tuple[int, ...], place: dict
) -> Callable:
  del tl, cell, place
  from tensorly.decomposition import tensor_train

  return lambda: tensor_train(x, [1, *ranks, 1])


def _cp_record(cell: Cell, result: object) -> tn.CP:
  del cell
  weights, factors = result
  factors = tuple(_numpy(f) for f in factors)
  return tn.CP(np.ones(factors[0].shape[1], 'float32'), factors)  # all in the factors


def _tucker_record(cell: Cell, result: object) -> tn.Tucker:
  (core, found), _ = result
  factors = [None] * core.ndim
  for mode, f in zip(range(core.ndim) if cell.modes is None else cell.modes, found):
    factors[mode] = _numpy(f)
  return tn.Tucker(_numpy(core), tuple(factors))


def _tt_record(cell: Cell, result: object) -> tn.TT:
  del cell
  return tn.TT(tuple(_numpy(core) for core in result.factors))


_RECORDS = {'cp_als': _cp_record, 'hooi': _tucker_record, 'tt_svd': _tt_record}


def _torchtt(cell: Cell, data: Input) -> Side:
  import torch
  import torchtt

  x = torchtt.TT([torch.from_numpy(core).to(_torch_device()) for core in data])
  ranks = [1, *cell.ranks[0], 1]

  def run() -> object:
    return _finished('pytorch', x.round(eps=0.0, rmax=list(ranks)))

  return Side('torchtt', run, lambda y: [tn.TT(tuple(_numpy(core) for core in y.cores))])


def _torch_device() -> str:
  import torch

  return 'cuda' if jax.default_backend() == 'gpu' and torch.cuda.is_available() else 'cpu'


def _finished(backend: str, result: object) -> object:
  """The result, once the device has computed it."""
  if backend == 'jax':
    jax.block_until_ready([list(r) for r in result])  # TensorLy's records are no pytrees
  if backend == 'pytorch' and _torch_device() == 'cuda':
    import torch

    torch.cuda.synchronize()
  return result


def _numpy(x: object) -> np.ndarray:
  return x.detach().cpu().numpy() if hasattr(x, 'detach') else np.asarray(x)
