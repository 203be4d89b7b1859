"""Error texts: names and counts, an exit code, and nothing of what went wrong inside."""

from __future__ import annotations

import traceback

import pytest

from synthgen import errors
from synthgen.errors import DataError, StageError, SynthgenError, Violation, boundary

SECRET = "Jane Roe, 4111-1111"


def failing(error: BaseException) -> StageError:
    with pytest.raises(StageError) as caught, boundary("encode"):
        raise error
    return caught.value


def test_a_violation_reads_column_count_rule_remedy() -> None:
    violation = Violation("age", "rows above the declared maximum 120", 3, 2_000, "raise it")
    assert str(violation) == (
        "column 'age': 3 of 2,000 rows above the declared maximum 120 (raise it)"
    )
    assert str(Violation("", "columns twice", 1, 9)) == "1 of 9 columns twice"


def test_a_data_error_lists_all_violations() -> None:
    violations = [Violation("a", "rows x", 1, 2), Violation("b", "rows y", 2, 2)]
    error = DataError("the data break 2 rules", violations)
    assert error.violations == tuple(violations)
    assert str(error).splitlines() == ["the data break 2 rules", *(f"  - {v}" for v in violations)]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ConfigError", 2),
        ("SchemaError", 2),
        ("DataError", 2),
        ("BundleError", 2),
        ("TargetExists", 2),
        ("RejectColumn", 2),
        ("TrainingError", 1),
        ("StageError", 1),
        ("GateRefused", 3),
        ("TargetBusy", 4),
    ],
)
def test_exit_codes(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, SynthgenError)
    assert kind("x").exit_code == code


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, OSError, AssertionError])
def test_a_boundary_keeps_the_text_inside(kind: type[Exception]) -> None:
    error = failing(kind(SECRET))
    shown = [str(error), repr(error), *map(str, error.args), *traceback.format_exception(error)]
    assert "stage 'encode' failed" in str(error)
    assert kind.__name__ in str(error)
    assert not any("Jane" in line or "4111" in line for line in shown if "raise error" not in line)
    assert error.__cause__ is None
    assert error.__context__ is None


def test_a_chain_of_causes_stays_inside() -> None:
    try:
        try:
            int(SECRET)
        except ValueError as inner:
            raise KeyError(SECRET) from inner
    except KeyError as outer:
        error = failing(outer)
    assert "Jane" not in "".join(traceback.format_exception(error))
    assert error.__context__ is None


def test_no_frame_of_a_failure_travels_with_its_error() -> None:
    def fail() -> None:
        cell = SECRET
        raise ValueError(cell)

    with pytest.raises(StageError) as caught, boundary("encode"):
        fail()
    seen: BaseException | None = caught.value
    while seen is not None:
        frames = [frame for frame, _ in traceback.walk_tb(seen.__traceback__)]
        assert not any("cell" in frame.f_locals for frame in frames)
        seen = seen.__cause__ or seen.__context__


def test_a_boundary_says_where_in_our_code() -> None:
    assert "test_errors.py:" in str(failing(ValueError(SECRET)))


def test_out_of_memory_has_advice() -> None:
    assert "use fewer rows" in str(failing(MemoryError(SECRET)))


@pytest.mark.parametrize("kind", [errors.ConfigError, errors.GateRefused, errors.TrainingError])
def test_our_own_errors_pass(kind: type[SynthgenError]) -> None:
    original = kind("column 'age': 3 rows")
    with pytest.raises(kind) as caught, boundary("encode"):
        raise original
    assert caught.value is original


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt), boundary("encode"):
        raise KeyboardInterrupt


def test_nothing_happens_without_an_error() -> None:
    with boundary("encode"):
        pass
