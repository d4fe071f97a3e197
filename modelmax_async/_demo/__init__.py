"""The demo of the command line: what it does, and how that looks."""

from modelmax_async._demo._run import Report, Row, new_rows, run
from modelmax_async._demo._view import new_console, progress, show_report

__all__ = ["Report", "Row", "new_console", "new_rows", "progress", "run", "show_report"]
