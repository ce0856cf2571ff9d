"""Labelled tensor networks, the order in which they are contracted, and its cost.

`plan(layer)` decides at trace time, from shapes alone; `execute` runs the plan on arrays, and
`apply` does both. Operands
are contracted by shared labels; `'h'`, `'w'`, `'d'` are convolution modes, which meet the input's
spatial axes by a convolution instead of a sum. A network without an input is contracted by
`contract`, whose order opt_einsum chooses.
"""

from tnjax.contraction._apply import apply
from tnjax.contraction._conv import Geometry, convolve, ints, pad_input
from tnjax.contraction._cost import DEVICES, OBJECTIVES, Device, Pair, current_device
from tnjax.contraction._explain import explain
from tnjax.contraction._layer import Layer
from tnjax.contraction._network import Network, contract
from tnjax.contraction._plan import Plan, execute, plan
from tnjax.contraction._search import Step, chain, orders
from tnjax.contraction._select import select

__all__ = [
  'DEVICES',
  'OBJECTIVES',
  'Device',
  'Geometry',
  'Layer',
  'Network',
  'Pair',
  'Plan',
  'Step',
  'apply',
  'chain',
  'contract',
  'convolve',
  'current_device',
  'execute',
  'explain',
  'ints',
  'orders',
  'pad_input',
  'plan',
  'select',
]
