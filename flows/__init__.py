"""Prefect flows over `synthgen.pipeline`; the only place that imports prefect."""
