"""Which dense layers have a factorised form, and which one."""

from flax import nnx

from tnjax.nn._conv import Conv
from tnjax.nn._embed import Embed
from tnjax.nn._factorised import Factorised, unsupported
from tnjax.nn._joint import JointConv
from tnjax.nn._linear import Linear
from tnjax.nn._linear_general import LinearGeneral

_KINDS: dict[type[nnx.Module], type[Factorised]] = {
  kind.DENSE: kind for kind in (Conv, Embed, Linear, LinearGeneral)
}


def register(dense: type[nnx.Module], factorised: type[Factorised]) -> None:
  """Lets `tn.compress` replace a subclass of a flax layer, as it does the layer itself.

  A factorised layer stands in for what the flax layer computes, so the subclass must compute the
  same, and take the same constructor arguments: `to_dense` makes one with them.

  Args:
    dense: a class derived from `factorised.DENSE`.
    factorised: `tn.nn.Conv`, `Linear`, `LinearGeneral`, `Embed`, or a class of your own.

  Raises:
    ValueError: `dense` does not derive from the layer that `factorised` stands in for.

  >>> import tnjax as tn
  >>> class MyLinear(nnx.Linear):
  ...   pass
  >>> tn.nn.register(MyLinear, tn.nn.Linear)
  >>> layer = MyLinear(8, 8, rngs=nnx.Rngs(0))
  >>> small = tn.nn.Linear.from_dense(layer, tn.schemes.svd(ranks=2))
  >>> type(small.to_dense()).__name__
  'MyLinear'
  """
  if not (isinstance(factorised, type) and issubclass(factorised, Factorised)):
    raise ValueError(f'factorised={factorised!r} must be a subclass of tnjax.nn.Factorised')
  if not (isinstance(dense, type) and issubclass(dense, factorised.DENSE)):
    raise ValueError(
      f'dense={dense!r} must be a subclass of {factorised.DENSE.__name__}, for which '
      f'{factorised.__name__} stands in'
    )
  _KINDS[dense] = factorised


def factorised_kind(layer: nnx.Module) -> type[Factorised] | None:
  """The class that stands in for a layer, or that it is already; None if there is none.

  A layer of a joint tensor counts as the `Conv` that it would be alone.
  """
  if isinstance(layer, JointConv):
    return Conv
  return type(layer) if isinstance(layer, Factorised) else _KINDS.get(type(layer))


def kinds() -> tuple[type[nnx.Module], ...]:
  """All classes of layers that `factorised_kind` knows, dense and factorised."""
  return (*_KINDS, *dict.fromkeys(_KINDS.values()), JointConv)


def refusal(layer: nnx.Module) -> str:
  """Why a dense layer has no factorised form, '' if it has one."""
  if type(layer) in _KINDS:
    return unsupported(layer)
  name = type(layer).__name__
  base = next((b for b in type(layer).__mro__ if b in _KINDS), None)
  if base is None:
    return f'{name} is not served'
  kind = _KINDS[base].__name__
  return f'{name} is not registered: tn.nn.register({name}, tn.nn.{kind}) if it computes the same'
