"""Flax layers whose weight is stored as factors: drop-in for those of `nnx`, and one Linen door."""

from tnjax.contraction import conv_general_dilated
from tnjax.nn._conv import Conv, conv_geometry
from tnjax.nn._embed import Embed
from tnjax.nn._factorised import Factorised, compute_dtype, copied
from tnjax.nn._joint import JointConv, JointKernels, architecture_of, stacked_kernels
from tnjax.nn._linear import Linear
from tnjax.nn._linear_general import LinearGeneral
from tnjax.nn._linen import to_linen
from tnjax.nn._registry import factorised_kind, kinds, refusal, register

__all__ = [
  'Conv',
  'Embed',
  'Factorised',
  'JointConv',
  'JointKernels',
  'Linear',
  'LinearGeneral',
  'architecture_of',
  'compute_dtype',
  'conv_general_dilated',
  'conv_geometry',
  'copied',
  'factorised_kind',
  'kinds',
  'refusal',
  'register',
  'stacked_kernels',
  'to_linen',
]
