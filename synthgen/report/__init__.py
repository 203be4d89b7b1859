"""One self-contained HTML page a run: decision, plots, tables."""

from synthgen.report.page import render

__all__ = ["render"]
