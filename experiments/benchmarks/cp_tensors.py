"""The committed set of hard CP problems: seeded NumPy tensors in double precision, and their ranks.

Collinear terms (Tomasi and Bro 2006), tensors without structure, an exact one that a single start
misses, swamps (a tensor of border rank 2, bottlenecks, the product of 2x2 matrices), and tensors
with the shapes and the slowly falling terms of convolution kernels.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Problem:
  """One tensor of order 3 for every seed.

  Attributes:
    name: of the problem.
    rank: to be fitted.
    make: tensor of a generator.
  """

  name: str
  rank: int
  make: Callable[[np.random.Generator], np.ndarray]

  def tensor(self, seed: int) -> np.ndarray:
    """The tensor, the same in every process.

    >>> PROBLEMS['rank_2'].tensor(0).shape
    (6, 5, 4)
    """
    return self.make(np.random.default_rng(seed))

  def start(self, seed: int) -> tuple[np.ndarray, ...]:
    """Factors to start from: normal columns, brought to norm 1."""
    rng = np.random.default_rng((seed, 1))
    drawn = [rng.standard_normal((n, self.rank)) for n in self.tensor(seed).shape]
    return tuple(f / np.linalg.norm(f, axis=0) for f in drawn)


def collinear(
  size: int, rank: int, congruence: float, noise: float
) -> Callable[[np.random.Generator], np.ndarray]:
  """Terms whose columns have inner products `congruence` with one another, in every mode."""

  def make(rng: np.random.Generator) -> np.ndarray:
    gram = np.full((rank, rank), congruence) + (1 - congruence) * np.eye(rank)
    mixing = np.linalg.cholesky(gram).T
    orthonormal = [np.linalg.qr(rng.standard_normal((size, rank)))[0] for _ in range(3)]
    return noisy(full([q @ mixing for q in orthonormal]), noise, rng)

  return make


def full(factors: list[np.ndarray]) -> np.ndarray:
  """The sum of the terms."""
  return np.einsum('ir,jr,kr->ijk', *factors)


def noisy(x: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
  """x plus normal noise of that share of its norm."""
  drawn = rng.standard_normal(x.shape)
  return x + noise * np.linalg.norm(x) / np.linalg.norm(drawn) * drawn


def _normal(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
  return lambda rng: rng.standard_normal(shape)


def _terms(rank: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
  return lambda rng: full([rng.standard_normal((n, rank)) for n in shape])


def _border(rng: np.random.Generator) -> np.ndarray:
  """a o a o b + a o b o a + b o a o a, of rank 3, to which tensors of rank 2 come ever closer."""
  a, b = (rng.standard_normal(4) for _ in range(2))
  return sum(np.einsum('i,j,k->ijk', *v) for v in ((a, a, b), (a, b, a), (b, a, a)))


def _bottleneck(rng: np.random.Generator) -> np.ndarray:
  """Four terms near a common one, and 5 % noise."""
  factors = [rng.standard_normal((6, 1)) + 0.1 * rng.standard_normal((6, 4)) for _ in range(3)]
  return noisy(full(factors), 0.05, rng)


def _matrix_product(rng: np.random.Generator) -> np.ndarray:
  """Of two 2x2 matrices, in random bases: rank 7 is exact (Strassen 1969)."""
  x = np.zeros((4, 4, 4))
  for i, j, k in itertools.product(range(2), repeat=3):
    x[2 * i + j, 2 * j + k, 2 * k + i] = 1
  bases = [np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(3)]
  return np.einsum('abc,ia,jb,kc->ijk', x, *bases)


def _kernel(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
  """As many terms as the shortest channels, the r-th weighted by r**-1, and noise of 30 %."""

  def make(rng: np.random.Generator) -> np.ndarray:
    terms = max(shape)
    factors = [rng.standard_normal((n, terms)) for n in shape]
    factors[0] = factors[0] / np.arange(1, terms + 1)
    return noisy(full(factors), 0.3, rng)

  return make


def _tenth(*shape: int) -> int:
  """The rank at which the factors have a tenth of the entries."""
  return max(1, round(0.1 * math.prod(shape) / sum(shape)))


def _all() -> dict[str, Problem]:
  found = [
    Problem(f'collinear_{c}_noise_{noise}_r{rank}', rank, collinear(10, rank, c, noise))
    for rank, c, noise in itertools.product((5, 8), (0.5, 0.9, 0.99), (0.0, 0.01, 0.1))
  ]
  found += [
    Problem('normal_10x11x12_r8', 8, _normal(10, 11, 12)),
    Problem('rank_2', 2, _terms(2, 6, 5, 4)),
    Problem('border_rank_2', 2, _border),
    Problem('bottleneck_r4', 4, _bottleneck),
    Problem('bottleneck_r6', 6, _bottleneck),
    Problem('matrix_product_r7', 7, _matrix_product),
  ]
  kernels = ((16, 9, 16), (16, 9, 32), (32, 9, 64))
  found += [
    Problem('kernel_' + 'x'.join(map(str, shape)), _tenth(*shape), _kernel(*shape))
    for shape in kernels
  ]
  return {problem.name: problem for problem in found}


PROBLEMS = _all()
