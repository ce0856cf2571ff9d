"""Labelled tensor networks, the order in which they are contracted, and its cost.

`schedule(problem)` decides at trace time, from shapes alone; `execute` runs the result on arrays,
and `apply` does both. Operands are contracted by shared labels; `'h'`, `'w'`, `'d'` are convolution
modes, which meet the input's spatial axes by a convolution instead of a sum. A network without an
input is contracted by `contract`, in an order that opt_einsum chooses and `work` counts, and cut by
`select`.
"""

from tnjax.contraction._apply import apply
from tnjax.contraction._columns import conv_general_dilated
from tnjax.contraction._conv import Geometry, convolve, ints, pad_input
from tnjax.contraction._cost import OBJECTIVES, Pair
from tnjax.contraction._devices import DEVICES, Device, current_device
from tnjax.contraction._explain import explain
from tnjax.contraction._network import Network, contract
from tnjax.contraction._problem import Problem
from tnjax.contraction._schedule import Schedule, execute, schedule
from tnjax.contraction._search import Step, chain, orders
from tnjax.contraction._select import select
from tnjax.contraction._windows import lax_only
from tnjax.contraction._work import work

# The names these had when `compression.plan` and the layers of `tnjax.nn` already had them too.
Layer, Plan, plan = Problem, Schedule, schedule

__all__ = [
  'DEVICES',
  'OBJECTIVES',
  'Device',
  'Geometry',
  'Layer',
  'Network',
  'Pair',
  'Plan',
  'Problem',
  'Schedule',
  'Step',
  'apply',
  'chain',
  'contract',
  'conv_general_dilated',
  'convolve',
  'current_device',
  'execute',
  'explain',
  'ints',
  'lax_only',
  'orders',
  'pad_input',
  'plan',
  'schedule',
  'plan',
  'select',
  'work',
]
