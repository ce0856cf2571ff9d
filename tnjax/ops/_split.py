"""Splitting of a mode size into several factors, for folds of higher order."""


def prime_factors(n: int) -> tuple[int, ...]:
  """Prime factors of n, largest first; () for 1.

  >>> prime_factors(360)
  (5, 3, 3, 2, 2, 2)
  """
  factors, p = [], 2
  while n > 1:
    while n % p == 0:
      factors.append(p)
      n //= p
    p = p + 1 if p * p <= n else n
  return tuple(reversed(factors))


def split_modes(n: int, order: int) -> tuple[int, ...]:
  """Splits n into `order` factors: prime factors, largest first, dealt round-robin from slot 1.

  For powers of two this is the rule of Su et al. 2018 (released code); other sizes follow the
  same deal, and a prime leaves ones behind.

  >>> split_modes(64, 3), split_modes(32, 2), split_modes(60, 3), split_modes(7, 2)
  ((4, 4, 4), (8, 4), (10, 3, 2), (7, 1))
  """
  if n < 1 or order < 1:
    raise ValueError(f'n={n} and order={order} must be at least 1')
  slots = [1] * order
  for i, p in enumerate(prime_factors(n)):
    slots[i % order] *= p
  return tuple(slots)
