"""Which network a row is of: fewer features, or kernels by rules that leave it no larger."""

import re
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

import tnjax as tn
from experiments.pose import counts
from experiments.pose.config import MODES, Config

FORMATS = {'tucker': 'tk', 'mps': 'tt', 'scratch': 'tk'}  # of T-Net's rows
Rules = tuple[tuple[str, tn.schemes.Scheme | None], ...]


def build(config: Config, seed: int, features: int | None = None) -> tn.models.Hourglass:
  """A random hourglass, of other features than the settings say if that is asked for."""
  return tn.models.hourglass(
    stacks=config.stacks,
    depth=config.depth,
    features=features or config.features,
    num_joints=len(config.layout.names),
    rngs=nnx.Rngs(seed),
  )


def size_of(model: nnx.Module) -> counts.Size:
  """What a network stores, and of that for the kernels inside its hourglasses."""
  found = tn.compression.walk(model)
  inside = sum(place.stored for path, place in found.items() if re.fullmatch(counts.LAYERS, path))
  return counts.Size(sum(v.size for v in jax.tree.leaves(nnx.state(model, nnx.Param))), inside)


def trimmed(config: Config, whole: int) -> dict[float, tuple[int, int]]:
  """By ratio the features, and the parameters, of the network of fewer features that comes nearest.

  A network's size is a polynomial of degree 2 in its features; three networks tell it.

  Args:
    config: the settings.
    whole: parameters of the network with all features.

  Raises:
    ValueError: none comes near.
  """
  sizes = {n: size_of(build(config, 0, n)).network for n in (1, 2)} | {config.features: whole}
  features = np.arange(1, config.features)
  found = np.rint(np.polyval(np.polyfit([*sizes], [*sizes.values()], 2), features)).astype(int)
  out = {}
  for ratio in config.ratios:
    best = np.abs(np.log(found * ratio / whole)).argmin()
    if not 0.8 < whole / found[best] / ratio < 1.25:
      raise ValueError(
        f'--ratios={ratio:g}: the nearest network of fewer than --features={config.features} is '
        f'{whole / found[best]:.2f} times smaller'
      )
    out[ratio] = int(features[best]), int(found[best])
  return out


def single(config: Config, mode: str, rank: int) -> Rules:
  """A Tucker T-Net with one mode cut, all others whole."""
  ranks = config.shape | dict.fromkeys(MODES[mode], rank)
  return ((counts.LAYERS, tn.schemes.joint(ranks=tuple(ranks.values()))),)


def dense() -> Rules:
  """Nothing is compressed."""
  return ((counts.LAYERS, None),)


def least(method: str) -> Rules:
  """The smallest that a method can make."""
  scheme = tn.schemes.tk(ranks=1)
  if method in FORMATS:
    scheme = tn.schemes.joint(ranks=1, format=FORMATS[method])
  return ((counts.LAYERS, scheme),)


def fitted(model: nnx.Module, method: str, limit: int) -> Rules:
  """Rules that leave the network at most `limit` parameters, and the kernels as they are as far as
  the spectra of their unfoldings tell.
  """
  if method not in FORMATS:
    return tn.compression.budget(model, least(method), params=limit)[0]
  format, size = FORMATS[method], size_of(model)
  ranks = spent(kernels(model), format, limit - size.network + size.tensor)
  return ((counts.LAYERS, tn.schemes.joint(ranks=ranks, format=format)),)


def fresh(dense: nnx.Module, rules: Rules, seed: int) -> nnx.Module:
  """A T-Net from random factors, its kernels as large as those of a dense network at its start."""
  small = tn.compression.skeleton(dense, rules)
  places = tn.compression.walk(small)
  held = next(p.layer.kernels for p in places.values() if isinstance(p.layer, tn.nn.JointConv))
  std = float(np.sqrt(np.mean(np.square(kernels(dense)))))
  held.store(held.parametrization.init(jax.random.key(seed), std))
  return small


def kernels(model: nnx.Module) -> np.ndarray:
  """The tensor of T-Net, in the order of `counts.MODES`."""
  found = {}
  for path, place in tn.compression.walk(model).items():
    if groups := re.fullmatch(counts.LAYERS, path):
      found[groups.groups()] = np.asarray(place.weights[0], 'float64')
  places = sorted(found)  # fewer than ten of each
  sizes = [len(set(texts)) for texts in zip(*places)]
  stack = np.stack([found[place] for place in places])
  return np.moveaxis(stack.reshape(*sizes, *stack.shape[1:]), (-2, -1), (4, 5))


def spent(tensor: np.ndarray, format: str, limit: int) -> tuple[int, ...]:
  """Ranks of a Tucker ('tk') or train ('tt') of at most `limit` entries.

  From full ranks on, that rank is lowered which costs least for an entry saved; what is left in the
  end is given back where it helps most. What ranks cost is measured as if the modes were
  independent: of the tensor's energy they keep the product of what every unfolding keeps. (The sum
  of what they discard, the usual bound, would cut one of two alike modes and spare the other.)

  Raises:
    ValueError: even ranks of 1 take more.

  >>> tensor = np.random.default_rng(0).normal(size=(8, 8, 8))
  >>> tensor[..., 1:] *= 1e-3  # nearly of rank 1 in the last mode
  >>> spent(tensor, 'tk', 90), spent(tensor, 'tt', 90)
  ((4, 4, 1), (5, 1))
  """
  shape = tensor.shape
  capped = tn.ranks.tucker_ranks if format == 'tk' else tn.ranks.tt_ranks
  tails = [tn.ranks.tail_energies(s) for s in _spectra(tensor, format)]
  costs = [-np.log1p(-tail[1:] / tail[0]) for tail in tails]  # of rank 1, 2, ...

  def lost(ranks: Sequence[int]) -> float:
    return sum(cost[rank - 1] for cost, rank in zip(costs, ranks))

  def moved(ranks: Sequence[int], step: int) -> list[tuple[int, ...]]:
    near = (ranks[:k] + (ranks[k] + step,) + ranks[k + 1 :] for k in range(len(ranks)))
    found = (tuple(capped(shape, other)) for other in near if min(other) > 0)
    return [other for other in dict.fromkeys(found) if step * sum(other) > step * sum(ranks)]

  ranks = tuple(capped(shape, [len(cost) for cost in costs]))
  if (size := counts.entries(shape, format, (1,) * len(ranks))) > limit:
    raise ValueError(f'limit={limit} is less than the {size} entries of ranks 1')
  while (size := counts.entries(shape, format, ranks)) > limit:
    ranks = min(
      moved(ranks, -1),
      key=lambda other: (lost(other) - lost(ranks)) / (size - counts.entries(shape, format, other)),
    )
  while more := [r for r in moved(ranks, 1) if counts.entries(shape, format, r) <= limit]:
    ranks = min(more, key=lost)
  return ranks


def _spectra(tensor: np.ndarray, format: str) -> list[np.ndarray]:
  """Singular values of the unfoldings along every mode, or after every mode but the last."""
  if format == 'tk':
    unfolded = [np.moveaxis(tensor, k, 0).reshape(n, -1) for k, n in enumerate(tensor.shape)]
  else:
    sides = np.cumprod(tensor.shape[:-1])
    unfolded = [tensor.reshape(side, -1) for side in sides]
  short = (a if a.shape[0] <= a.shape[1] else a.T for a in unfolded)
  return [np.sqrt(np.linalg.eigvalsh(a @ a.T)[::-1].clip(0)) for a in short]
