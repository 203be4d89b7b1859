"""Data Docs of Great Expectations, on request: made from our counts, so no cell can be in them.

The library's page loads styles and scripts from half a dozen hosts, which would learn that somebody
reads about sensitive data. A policy in the page forbids every request; it is then plain, but whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synthgen.checks.check import Measurement
from synthgen.checks.expectations.engine import great_expectations
from synthgen.checks.expectations.own import OwnExpectation
from synthgen.checks.expectations.suite import rule_of, suite
from synthgen.schema import TableSchema

#: No script, no request; what remains is the text and the page's own styles.
_POLICY = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "style-src 'unsafe-inline'\">"
)


def data_docs(
    schema: TableSchema,
    own: Sequence[OwnExpectation],
    measured: Sequence[Measurement],
    *,
    name: str = "output",
) -> str:
    """Return a page of Great Expectations on what `measured` says of `schema` and `own`.

    Parameters
    ----------
    schema : TableSchema
    own : sequence of OwnExpectation
    measured : sequence of Measurement
        Of `check_file` or `check_frames` and of `check_own`; what is not in it counts as raised.
    name : str
        ``"input"`` or ``"output"``, as when it was measured.
    """
    gx = great_expectations()
    from great_expectations.core import ExpectationSuiteValidationResult
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer
    from great_expectations.render.view.view import DefaultJinjaPageView

    by_name = {m.name: m for m in measured}
    results = [
        _result(e.configuration, by_name.get(f"schema.{name}.{rule_of(e)}"), schema.names)
        for e in suite(schema).expectations
    ]
    results += [_result(e.build().configuration, by_name.get(e.name), schema.names) for e in own]
    met = sum(bool(r.success) for r in results)
    page = ExpectationSuiteValidationResult(
        success=met == len(results),
        results=results,
        suite_name=f"{schema.name} {name}",
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": met,
            "unsuccessful_expectations": len(results) - met,
            "success_percent": 100 * met / max(len(results), 1),
        },
        meta={"great_expectations_version": gx.__version__},
    )
    view: Any = DefaultJinjaPageView()
    html: str = view.render(ValidationResultsPageRenderer().render(page))
    return html.replace("<head>", f"<head>{_POLICY}", 1)


def _result(configuration: Any, m: Measurement | None, columns: list[str]) -> Any:
    """Return the result that the library renders: counts, and of values nothing."""
    from great_expectations.core import ExpectationValidationResult

    is_known = m is not None and m.status == "measured"
    broken = int(m.value or 0) if m is not None and is_known else 0
    counts = {
        "element_count": m.n if m is not None else 0,
        "unexpected_count": broken,
        "unexpected_percent": 100 * broken / max(m.n, 1) if m is not None else 0.0,
        "missing_count": 0,
        "partial_unexpected_list": [],
        "observed_value": columns if "columns" in configuration.type else "",
    }
    why = None if is_known else "it raised an error instead of an answer"
    return ExpectationValidationResult(
        success=is_known and not broken,
        expectation_config=configuration,
        result=counts if is_known else {"observed_value": counts["observed_value"]},
        exception_info={
            "raised_exception": not is_known,
            "exception_message": why,
            "exception_traceback": None if why is None else "withheld",
        },
    )
