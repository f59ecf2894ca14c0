"""Audit a whole log as this node holds it: recompute everything, believe nothing that is stored, stop at no fault."""

from __future__ import annotations

from node.inspection.inspector import Inspector
from node.inspection.report import Check, Progress, Report, report_content

__all__ = ("Check", "Inspector", "Progress", "Report", "report_content")
