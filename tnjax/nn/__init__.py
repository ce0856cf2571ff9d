"""Flax NNX layers whose weight is stored as factors: drop-in for `nnx.Linear` and `nnx.Conv`."""

from tnjax.nn._conv import Conv, conv_geometry
from tnjax.nn._factorised import Factorised, unsupported
from tnjax.nn._linear import Linear

__all__ = ['Conv', 'Factorised', 'Linear', 'conv_geometry', 'unsupported']
