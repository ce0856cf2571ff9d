"""One side of one cell of the cold-start benchmark, in the fresh process that this module is.

    python -m experiments.benchmarks.cold_side '{"cell": "tk", "side": "tnjax"}'

Prints JSON. The clock starts when everything is imported, the back end is up and, where there are
weights to read, they are read.
"""

import json
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tnjax as tn

RATE = 0.1
MACS_RATIO = 0.6  # of the cell whose every layer has ranks of its own
SCHEMES = ('tk', 'cp', 'tr', 'r_cp', 'svd', 'tt', 'r_tk', 'r_tt')
CELLS = ('build', *SCHEMES, 'budget')
_LAYERS = 'stages/.*'


def main(about: dict) -> dict:
  """Seconds of one cold call, and the relative error of what it found."""
  depth = 20 if about['cell'] == 'budget' else 32
  jax.block_until_ready(jnp.zeros(3) + 1)
  if about['cell'] == 'build':
    seconds, _ = _timed(lambda: nnx.state(tn.models.cifar_resnet(depth, rngs=nnx.Rngs(0))))
    return {'seconds': seconds, 'relative_error': None}
  net = tn.models.cifar_resnet(depth, rngs=nnx.Rngs(0))
  if about.get('weights'):
    tn.models.import_torch(net, tn.models.read_weights(about['weights']))
  rules = _rules(net, about['cell'])
  if about['side'] == 'tnjax':
    return _tnjax(net, rules)
  return _tensorly(net, rules, about['side'].removeprefix('tensorly-'))


def _rules(net: nnx.Module, cell: str) -> tuple:
  if cell != 'budget':
    return ((_LAYERS, tn.schemes.by_name(cell, RATE)),)
  rules = ((_LAYERS, tn.schemes.tk(rate=RATE)),)
  return tn.compression.budget(net, rules, macs_ratio=MACS_RATIO, input_shape=(32, 32, 3))[0]


def _timed(f: Callable) -> tuple[float, object]:
  start = time.perf_counter()
  result = jax.block_until_ready(f())
  return time.perf_counter() - start, result


def _tnjax(net: nnx.Module, rules: tuple) -> dict:
  report = None

  def run() -> nnx.State:
    nonlocal report
    small, report = tn.compress(net, rules, jax.random.key(0))
    return nnx.state(small)

  seconds, _ = _timed(run)
  return {'seconds': seconds, 'relative_error': report.relative_error}


def _tensorly(net: nnx.Module, rules: tuple, backend: str) -> dict:
  """The same folded kernels at the same ranks, sweeps and tolerances."""
  import tensorly as tl
  from tensorly import decomposition

  tl.set_backend(backend)
  jobs = []
  for row in tn.compression.plan(net, rules).compressed:
    layer = net
    for part in row.path.split('/'):
      layer = layer[int(part)] if part.isdigit() else getattr(layer, part)
    scheme = next(s for pattern, s in rules if _matches(pattern, row.path))
    p = scheme.bind(row.shape)
    x = np.ascontiguousarray(p.fold.fold(np.asarray(layer.kernel[...])))
    options = {'n_iter_max': 100 if p.format == 'cp' else 50, 'tol': 1e-6}
    run = {
      'cp': lambda x, p=p, o=options: decomposition.parafac(x, p.ranks[0], **o, random_state=0),
      'tk': lambda x, p=p, o=options: decomposition.partial_tucker(
        x, list(p.ranks), list(p.free), **o
      )[0],
      'tr': lambda x, p=p: decomposition.tensor_ring(x, [*p.ranks, p.ranks[0]]),
      'tt': lambda x, p=p: decomposition.tensor_train(x, [1, *p.ranks, 1]),
    }[p.format]
    full = {
      'cp': tl.cp_to_tensor,
      'tk': lambda found, p=p: tl.tenalg.multi_mode_dot(*found, modes=list(p.free)),
      'tr': tl.tr_to_tensor,
      'tt': tl.tt_to_tensor,
    }[p.format]
    jobs.append((tl.tensor(x), run, full))
  start = time.perf_counter()
  found = [run(x) for x, run, _ in jobs]
  seconds = time.perf_counter() - start
  pairs = [(tl.to_numpy(x), tl.to_numpy(full(tensor))) for (x, _, full), tensor in zip(jobs, found)]
  lost = sum(float(np.sum((x - y) ** 2)) for x, y in pairs)
  return {
    'seconds': seconds,
    'relative_error': (lost / sum(float(np.sum(x**2)) for x, _ in pairs)) ** 0.5,
  }


def _matches(pattern: str, path: str) -> bool:
  import re

  return re.fullmatch(pattern, path) is not None


if __name__ == '__main__':
  print(json.dumps(main(json.loads(sys.argv[1]))))
