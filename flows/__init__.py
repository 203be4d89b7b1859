"""Prefect flows over `synthgen.pipeline`; the only place that imports prefect."""

from flows.environment import set_defaults

set_defaults()  # Prefect reads its settings when it is imported
