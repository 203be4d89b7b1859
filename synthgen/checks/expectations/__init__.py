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
from synthgen.checks.expectations.suite import RULES, check_file, check_frames, suite

__all__ = [
    "RULES",
    "OwnExpectation",
    "as_json",
    "beside",
    "check_file",
    "check_frames",
    "check_own",
    "data_docs",
    "load_expectations",
    "refuse_broken",
    "suite",
]
