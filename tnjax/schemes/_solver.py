"""How factors are found: the name of a decomposition and its options, as data."""

import dataclasses
from collections.abc import Mapping

from tnjax.decompositions import METHODS
from tnjax.ops import integer, one_of, tolerance


@dataclasses.dataclass(frozen=True)
class Solver:
  """A decomposition of this library and the options it runs with.

  A field left None keeps the default of the scheme, where it runs the same method, else that of
  the decomposition. Frozen, hashable and, by `as_dict`, plain data. What a decomposition learns to
  take (a metric, a mask) becomes one more field here, and reaches it without further code.

  Attributes:
    name: 'tt_svd', 'hosvd', 'hooi', 'tr_svd', 'tr_als' or 'cp_als'.
    max_iters, tol: as in the iterative ones.
    init, restarts: as in `cp_als` and `tr_als`.
    correct: whether `cp_correct` follows `cp_als`: as good, but stable, and better to fine-tune.

  >>> import tnjax as tn
  >>> tn.schemes.cp(rate=0.1, solver=Solver('cp_als', restarts=3)).bind((3, 3, 8, 8)).solver
  Solver(name='cp_als', init='hosvd', restarts=3)
  """

  name: str
  max_iters: int | None = None
  tol: float | None = None
  init: str | None = None
  restarts: int | None = None
  correct: bool | None = None

  def __post_init__(self) -> None:
    """Refuses what the decomposition could not run with."""
    if self.name not in METHODS:
      raise ValueError(f'unknown solver {self.name!r}; the solvers are {", ".join(METHODS)}')
    known = METHODS[self.name].options
    for field, value in self.options.items():
      if field not in known:
        raise ValueError(
          f'solver {self.name!r} takes {", ".join(known) or "no options"}; {field}={value!r} is '
          'none of them'
        )
    for field, check in (('max_iters', integer), ('restarts', integer), ('tol', tolerance)):
      value = getattr(self, field)
      if value is not None:
        object.__setattr__(self, field, check(value, f'solver {self.name!r}: {field}'))
    if not isinstance(self.correct, bool | None):
      raise ValueError(f'solver {self.name!r}: correct={self.correct!r} must be a bool')
    if self.init is not None:
      starts = ('random', 'svd' if self.name == 'tr_als' else 'hosvd')
      one_of(self.init, f'solver {self.name!r}: init', starts)

  def __repr__(self) -> str:
    """Only the fields that are set."""
    shown = [f'name={self.name!r}', *(f'{k}={v!r}' for k, v in self.options.items())]
    return f'Solver({", ".join(shown)})'

  @property
  def options(self) -> dict[str, object]:
    """The fields that are set, for the decomposition."""
    return {k: v for k, v in self.as_dict().items() if k != 'name'}

  def over(self, default: 'Solver') -> 'Solver':
    """This solver, with what it leaves out taken from `default` where that runs the same method."""
    if self.name != default.name:
      return self
    return Solver(**(default.as_dict() | self.as_dict()))

  def as_dict(self) -> dict[str, object]:
    """The fields that are set, as JSON can hold them; `Solver(**...)` is the way back."""
    fields: Mapping = dataclasses.asdict(self)
    return {k: v for k, v in fields.items() if v is not None}
