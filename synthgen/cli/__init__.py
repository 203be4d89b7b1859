"""The command line: one short function a verb; what a verb needs is imported inside it.

Exit codes: 0 done, 1 error, 2 usage, configuration or bad input, 3 refused by the gate, 4 target
busy, 130 interrupted (Ctrl-C), 143 terminated (SIGTERM). Results go to stdout, everything else to
stderr.
"""

# Each module registers its verbs; --help lists them in this order.
from synthgen.cli import schema, running, bundles, judging, operating, models  # noqa: F401, I001
from synthgen.cli.app import app, main

__all__ = ["app", "main"]
