"""One side of one cell of the cold-start benchmark, in the fresh process that this module is.

    python -m experiments.benchmarks.cold_side '{"cell": "tk", "side": "tnjax"}'

Prints JSON. The clock starts when everything is imported, the back end is up and the network has
its weights.
"""

import dataclasses
import json
import re
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tnjax as tn
from experiments.benchmarks.measure import Peak

RATE = 0.1
MACS_RATIO = 0.6  # of the cell whose every layer has ranks of its own
SCHEMES = ('tk', 'cp', 'tr', 'r_cp', 'svd', 'tt', 'r_tk', 'r_tt')
VGG = ('vgg16_convs', 'vgg16')
CELLS = ('build', *SCHEMES, 'budget', *VGG)
_LAYERS = 'stages/.*'
_FC = tuple(
  (layer, tn.schemes.r_tt(ranks=4, in_modes=modes, out_modes=(4,) * 6))
  for layer, modes in (('classifier/0', (2, 7, 8, 8, 7, 4)), ('classifier/3', (4,) * 6))
)
_NOISE = 0.5  # of VGG's planted kernels, over their standard deviation


def main(about: dict) -> dict:
  """Seconds of a cold and a warm call, memory, and the relative error of what they found.

  `peak_bytes` is the most that both calls held beyond what the process, with the network, had
  before; `process_bytes` is the sum of both. Null where that cannot be told.
  """
  depth = 20 if about['cell'] == 'budget' else 32
  jax.block_until_ready(jnp.zeros(3) + 1)
  if about['cell'] == 'build':
    return _measured('tnjax', lambda: nnx.state(tn.models.cifar_resnet(depth, rngs=nnx.Rngs(0))))
  if about['cell'] in VGG:
    net = planted_vgg()
  else:
    net = tn.models.cifar_resnet(depth, rngs=nnx.Rngs(0))
    if about.get('weights'):
      tn.models.import_torch(net, tn.models.read_weights(about['weights']))
  rules = _rules(net, about['cell'])
  if about['side'] == 'tnjax':
    return _tnjax(net, rules)
  return _tensorly(net, rules, about['side'].removeprefix('tensorly-'))


def _rules(net: nnx.Module, cell: str) -> tuple:
  if cell in VGG:
    convs = (('features/0', None), ('features/.*', tn.schemes.tk(ranks=tn.ranks.Evbmf(1.0))))
    return convs if cell == 'vgg16_convs' else (*convs, *_FC)
  if cell != 'budget':
    return ((_LAYERS, tn.schemes.by_name(cell, RATE)),)
  rules = ((_LAYERS, tn.schemes.tk(rate=RATE)),)
  return tn.compression.budget(net, rules, macs_ratio=MACS_RATIO, input_shape=(32, 32, 3))[0]


def planted_vgg() -> nnx.Module:
  """VGG-16 whose kernels are Tucker-2 of a quarter of the channels, plus noise."""
  net, rng = tn.models.vgg(16, rngs=nnx.Rngs(0)), np.random.default_rng(0)
  for path, place in tn.compression.walk(net).items():
    if path.startswith('features/'):
      *taps, s, t = place.shape
      quarters = [max(1, n // 4) for n in (s, t)]
      factors = [rng.standard_normal((n, r), 'float32') for n, r in zip((s, t), quarters)]
      core = rng.standard_normal((*taps, *quarters), 'float32')
      kernel = np.einsum('hwpq,sp,tq->hwst', core, *factors, optimize=True)
      kernel += _NOISE * kernel.std() * rng.standard_normal(place.shape, 'float32')
      kernel *= np.sqrt(2 / np.prod(place.shape[:-1])) / kernel.std()
      place.layer.kernel[...] = jnp.asarray(kernel)
  return net


def _measured(side: str, f: Callable, error: Callable = lambda: None) -> dict:
  peak, seconds = Peak(side), []
  for _ in range(2):
    start = time.perf_counter()
    jax.block_until_ready(f())
    seconds.append(time.perf_counter() - start)
  cold, warm = seconds
  beyond = peak.stop()
  memory = {'peak_bytes': beyond, 'process_bytes': beyond and peak.start + beyond}
  return {'seconds': cold, 'warm_seconds': warm, **memory, 'relative_error': error()}


def _tnjax(net: nnx.Module, rules: tuple) -> dict:
  report = None

  def run() -> nnx.State:
    nonlocal report
    small, report = tn.compress(net, rules, jax.random.key(0))
    return nnx.state(small)

  return _measured('tnjax', run, lambda: report.relative_error)


def _tensorly(net: nnx.Module, rules: tuple, backend: str) -> dict:
  """The same folded kernels at the same ranks, sweeps and tolerances."""
  import tensorly as tl
  from tensorly import decomposition

  tl.set_backend(backend)
  jobs, places = [], tn.compression.walk(net)
  for row in tn.compression.plan(net, rules).compressed:
    scheme = next(s for pattern, s in rules if re.fullmatch(pattern, row.path))
    p = dataclasses.replace(scheme, rate=None, ranks=row.ranks).bind(row.shape)
    x = np.ascontiguousarray(p.fold.fold(np.asarray(places[row.path].layer.kernel[...])))
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
  found = []

  def run_all() -> None:
    found.clear()  # so that two calls hold no more than one
    found[:] = [run(x) for x, run, _ in jobs]

  def error() -> float:
    pairs = [
      (tl.to_numpy(x), tl.to_numpy(full(tensor))) for (x, _, full), tensor in zip(jobs, found)
    ]
    lost = sum(float(np.sum((x - y) ** 2)) for x, y in pairs)
    return (lost / sum(float(np.sum(x**2)) for x, _ in pairs)) ** 0.5

  return _measured(backend, run_all, error)


if __name__ == '__main__':
  print(json.dumps(main(json.loads(sys.argv[1]))))
