"""Compression of a trained model: rules as data, budgets, a dry-run plan, and the report."""

from tnjax.compression._allocate import Allocation, allocate
from tnjax.compression._budget import budget
from tnjax.compression._budget_report import BudgetReport, LayerBudget
from tnjax.compression._compress import compress, plan, skeleton
from tnjax.compression._export import export
from tnjax.compression._iterate import Iteration, StepReport, iterate
from tnjax.compression._reconstruct import Reconstruction, StageRecord, Update, reconstruct
from tnjax.compression._replace import to_dense
from tnjax.compression._report import LayerReport, Report
from tnjax.compression._save import describe, load, save
from tnjax.compression._schedule import Schedule, Step
from tnjax.compression._walk import Place, walk

__all__ = [
  'Allocation',
  'BudgetReport',
  'Iteration',
  'LayerBudget',
  'LayerReport',
  'Place',
  'Reconstruction',
  'Report',
  'Schedule',
  'StageRecord',
  'Step',
  'StepReport',
  'Update',
  'allocate',
  'budget',
  'compress',
  'describe',
  'export',
  'iterate',
  'load',
  'plan',
  'reconstruct',
  'save',
  'skeleton',
  'to_dense',
  'walk',
]
