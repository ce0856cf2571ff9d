"""Labelled tensor networks, the order in which they are contracted, and its cost.

`plan(network, geometry)` decides at trace time, from shapes alone; `execute` runs the plan on
arrays. A network's operands are contracted by shared labels; `'h'`, `'w'`, `'d'` are convolution
modes, which meet the input's spatial axes by a convolution instead of a sum.
"""

from tnjax.contraction._conv import Geometry, convolve, pad_input
from tnjax.contraction._network import Network, contract
from tnjax.contraction._plan import Plan, Step, chain_macs, execute, plan

__all__ = [
  'Geometry',
  'Network',
  'Plan',
  'Step',
  'chain_macs',
  'contract',
  'convolve',
  'execute',
  'pad_input',
  'plan',
]
