"""Compression of a trained model: rules as data, a dry-run plan, and the report."""

from tnjax.compression._compress import compress, plan, skeleton
from tnjax.compression._report import LayerReport, Report

__all__ = ['LayerReport', 'Report', 'compress', 'plan', 'skeleton']
