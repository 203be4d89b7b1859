"""Great Expectations at both ends: the schema's suite, the owner's own, and pages of both."""

from synthgen.checks.expectations.docs import data_docs
from synthgen.checks.expectations.own import (
    OwnExpectation,
    as_json,
    beside,
    check_own,
    load_expectations,
    refuse_broken,
)
from synthgen.checks.expectations.suite import (
    RULES,
    Tally,
    check_file,
    check_frames,
    count_rows,
    suite,
)

__all__ = [
    "RULES",
    "OwnExpectation",
    "Tally",
    "as_json",
    "beside",
    "check_file",
    "check_frames",
    "check_own",
    "count_rows",
    "data_docs",
    "load_expectations",
    "refuse_broken",
    "suite",
]
