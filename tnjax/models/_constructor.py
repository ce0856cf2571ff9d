"""The models of this package by name and arguments, so that a file can say how to build them."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from tnjax.models._cifar_quick import CifarQuick, cifar_quick
from tnjax.models._hourglass import Hourglass, hourglass
from tnjax.models._imagenet_resnet import ResNet, resnet
from tnjax.models._mnist import LeNet, Mlp, lenet, mlp
from tnjax.models._resnet import CifarResNet, cifar_resnet
from tnjax.models._vgg import AlexNet, Vgg, alexnet, vgg

_CONSTRUCTORS = {
  'alexnet': (alexnet, AlexNet),
  'cifar_quick': (cifar_quick, CifarQuick),
  'cifar_resnet': (cifar_resnet, CifarResNet),
  'hourglass': (hourglass, Hourglass),
  'lenet': (lenet, LeNet),
  'mlp': (mlp, Mlp),
  'resnet': (resnet, ResNet),
  'vgg': (vgg, Vgg),
}


def constructor(model: nnx.Module) -> dict[str, Any] | None:
  """Name and arguments, as JSON can hold them, of the function that built a model; None if unknown.

  >>> net = cifar_resnet(8, widths=(4, 8, 8), rngs=nnx.Rngs(0))
  >>> constructor(net)['name'], constructor(net)['arguments']['widths']
  ('cifar_resnet', [4, 8, 8])
  """
  for name, (_, kind) in _CONSTRUCTORS.items():
    if type(model) is kind:
      given = {k: list(v) if isinstance(v, tuple) else v for k, v in model.arguments}
      return {'name': name, 'arguments': given}
  return None


def construct(given: Mapping[str, Any]) -> nnx.Module:
  """The model that `constructor` describes, with shapes in place of arrays.

  Raises:
    ValueError: an unknown name, or arguments that it does not take.

  >>> net = construct({'name': 'cifar_resnet', 'arguments': {'depth': 8, 'widths': [4, 8, 8]}})
  >>> net.conv.kernel.shape
  (3, 3, 3, 4)
  """
  name, arguments = given['name'], given['arguments']
  if name not in _CONSTRUCTORS:
    raise ValueError(f'unknown model {name!r}; tnjax.models has {", ".join(_CONSTRUCTORS)}')
  build = _CONSTRUCTORS[name][0]
  try:
    return nnx.eval_shape(lambda: build(**arguments, rngs=nnx.Rngs(0)))
  except TypeError as error:
    raise ValueError(f'{name} cannot be built from {dict(arguments)}: {error}') from None
