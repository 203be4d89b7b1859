"""One self-contained HTML page a run: decision, plots, tables; and the same as JSON."""

from synthgen.report.figures import Figures, document
from synthgen.report.page import render

__all__ = ["Figures", "document", "render"]
