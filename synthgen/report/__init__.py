"""One self-contained HTML page a run, the same as JSON, and runs side by side."""

from synthgen.report.compare import Comparison, Side, compare
from synthgen.report.figures import Figures, document
from synthgen.report.page import render

__all__ = ["Comparison", "Figures", "Side", "compare", "document", "render"]
