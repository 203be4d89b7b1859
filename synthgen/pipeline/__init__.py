"""The stages of a run in plain Python.

Each stage takes a `RunFolder`, reads what the stage before wrote, writes its own files atomically
and returns a `Receipt`: path, digest and rows, never data. The receipt is kept in the folder, so
that `advance` runs a stage once and keeps what is done: a run that was cut off at any point goes on
from there. `run` and `resume` compose the stages; so does the Prefect flow in
`flows/synthesize.py`.
"""

from synthgen.pipeline.bundles import Draw, sample_bundle, train_bundle
from synthgen.pipeline.drawing import MAX_JUDGED_ROWS, generate, synthetic_table
from synthgen.pipeline.judging import refusal, validate
from synthgen.pipeline.leaving import export, export_to
from synthgen.pipeline.reading import bundle_to_start_from, draft_schema, drift, ingest, read_input
from synthgen.pipeline.running import (
    Outcome,
    advance,
    at_work,
    discard,
    discarding_unless_read,
    new_run_dir,
    plan,
    prepare,
    reserved,
    resume,
    retain,
    run,
)
from synthgen.pipeline.stage import verify
from synthgen.pipeline.statements import provenance
from synthgen.pipeline.training import previews, save_bundle, train, uses_gpu

__all__ = [
    "MAX_JUDGED_ROWS",
    "Draw",
    "Outcome",
    "advance",
    "at_work",
    "bundle_to_start_from",
    "discard",
    "discarding_unless_read",
    "draft_schema",
    "drift",
    "export",
    "export_to",
    "generate",
    "ingest",
    "new_run_dir",
    "plan",
    "prepare",
    "previews",
    "provenance",
    "read_input",
    "refusal",
    "reserved",
    "resume",
    "retain",
    "run",
    "sample_bundle",
    "save_bundle",
    "synthetic_table",
    "train",
    "train_bundle",
    "uses_gpu",
    "validate",
    "verify",
]
