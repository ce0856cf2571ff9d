"""Models of the experiments, and importers for trained weights in PyTorch naming."""

from tnjax.models._cifar_quick import CifarQuick, cifar_quick
from tnjax.models._constructor import construct, constructor
from tnjax.models._hourglass import Hourglass, hourglass
from tnjax.models._imagenet_resnet import ResNet, resnet
from tnjax.models._mnist import LeNet, Mlp, lenet, mlp
from tnjax.models._resnet import CIFAR_MEAN, CIFAR_STD, CifarResNet, cifar_resnet
from tnjax.models._vgg import AlexNet, Vgg, alexnet, vgg
from tnjax.models._weights import (
  check_weights,
  fetch_weights,
  import_torch,
  read_weights,
  torch_names,
)

__all__ = [
  'AlexNet',
  'CIFAR_MEAN',
  'CIFAR_STD',
  'CifarQuick',
  'CifarResNet',
  'Hourglass',
  'LeNet',
  'Mlp',
  'ResNet',
  'Vgg',
  'alexnet',
  'cifar_quick',
  'check_weights',
  'cifar_resnet',
  'construct',
  'constructor',
  'fetch_weights',
  'hourglass',
  'import_torch',
  'lenet',
  'mlp',
  'read_weights',
  'resnet',
  'torch_names',
  'vgg',
]
