import ast
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import synthgen.dp
from synthgen.dp.domain import Domain, check_public, cut, domains, part
from synthgen.encode.table import TableEncoder
from synthgen.errors import ConfigError
from synthgen.schema import Column, TableSchema

SCHEMA = TableSchema(
    name="t",
    columns=(
        Column(name="age", kind="numeric", minimum=0, maximum=99, decimals=0),
        Column(name="pay", kind="numeric", minimum=0, maximum=1e6),
        Column(name="ward", kind="categorical", categories=("b", "a"), nullable=True),
        Column(
            name="seen",
            kind="datetime",
            minimum="2020-01-01",
            maximum="2020-12-31",
            resolution="hour",
        ),
        Column(name="well", kind="boolean"),
    ),
)


def test_what_a_schema_makes_public() -> None:
    age, pay, ward, days, clock, well = domains(SCHEMA)
    assert (age.low, age.size, age.unit, age.rounds) == (0, 100, 1, 2)
    assert (pay.size, pay.whole, pay.rounds) == (2**20, False, 5)
    assert (ward.levels, ward.nullable, ward.rounds) == (("a", "b"), True, 0)
    assert (days.size, clock.size, days.low) == (366, 24, 18_262)
    assert well.levels == ("False", "True")


def test_all_columns_that_are_not_public_are_listed_at_once() -> None:
    columns = (
        Column(name="a", kind="numeric", minimum=0),
        Column(name="b", kind="categorical"),
        Column(name="c", kind="categorical", categories=("x",), source="data"),
        Column(name="d", kind="id", role="entity", nullable=True),
        Column(name="e", kind="boolean"),
        Column(name="f", kind="id", minimum=4711, source="data"),
        Column(name="g", kind="id", source="data"),
    )
    with pytest.raises(ConfigError) as caught:
        check_public(TableSchema(name="t", columns=columns))
    text = str(caught.value)
    assert all(f"column '{name}'" in text for name in "abcdf")
    assert not any(f"column '{name}'" in text for name in "eg")


def test_cells_tile_the_domain_and_heavy_values_stand_alone() -> None:
    domain = Domain("x", "value", False, low=0, unit=1, size=1_000)
    rng = np.random.default_rng(0)
    values = np.r_[np.full(2_000, 40.0), rng.integers(300, 600, 4_000)]
    cells, counted = cut(values, domain, lambda exact: exact, 10.0, mass=400)
    assert cells[0][0] == 0
    assert cells[-1][1] == 1_000
    assert all(a[1] == b[0] for a, b in itertools.pairwise(cells))
    assert (40, 41) in cells
    assert len(cells) < 30
    assert cells[-1] == (999, 1_000)  # the declared maximum may be where values are cut off
    in_each = [((values >= a) & (values < b)).sum() for a, b in counted.intervals]
    assert counted.rows.tolist() == in_each


def test_every_round_is_measured_whatever_the_rows_are() -> None:
    domain = Domain("x", "value", False, low=0, unit=1, size=1_000)
    for values in (np.zeros(0), np.zeros(5_000), np.arange(1_000.0)):
        calls: list[int] = []

        def measure(exact: np.ndarray, calls: list[int] = calls) -> np.ndarray:
            calls.append(int(exact.sum()))
            return exact

        cut(values, domain, measure, 1.0, mass=10)
        assert len(calls) == domain.rounds
        assert calls[0] == len(values)  # a round is a partition: each row is counted once at most
        assert max(calls) <= len(values)


def test_one_row_more_changes_one_count_of_a_round_by_one() -> None:
    domain = Domain("x", "value", False, low=0, unit=1, size=200)
    values = np.random.default_rng(0).integers(0, 200, 300).astype(float)
    for extra in (0.0, 57.0, 199.0, 1e9, -5.0):
        seen: list[list[np.ndarray]] = []
        for rows in (values, np.r_[values, extra]):
            counts: list[np.ndarray] = []

            def measure(exact: np.ndarray, counts: list[np.ndarray] = counts) -> np.ndarray:
                counts.append(exact)
                return np.full(len(exact), 50)  # the same noisy answer for both neighbours

            cut(rows, domain, measure, 1.0, mass=10)
            seen.append(counts)
        for a, b in zip(*seen, strict=True):
            assert np.abs(a - b).sum() <= 1


def test_the_encoder_of_public_facts_does_not_depend_on_the_rows() -> None:
    cells = [[(0, 50), (50, 100)], [(0, 2**20)], (), [(0, 366)], [(0, 24)], ()]
    parts = tuple(part(d, c) for d, c in zip(domains(SCHEMA), cells, strict=True))
    encoder = TableEncoder(SCHEMA, parts)
    frame = pd.DataFrame(
        {
            "age": [0.0, 99.0, 1e9],
            "pay": [0.0, 1e6, -1.0],
            "ward": pd.Series(["a", None, "never heard of"], dtype="str"),
            "seen": pd.to_datetime(
                ["2020-01-01 00:00", "2020-12-31 23:00", "1900-01-01 00:00"]
            ).astype("datetime64[us]"),
            "well": pd.Series([True, False, True], dtype="boolean"),
        }
    )
    whole, part_of = encoder.transform(frame), encoder.transform(frame[:2])
    assert (whole.tokens[:2] == part_of.tokens).all()
    assert (whole.offsets[:2] == part_of.offsets).all()
    back = encoder.inverse_transform(part_of, None)
    assert back["age"].tolist() == [0, 99]
    assert back["ward"].isna().tolist() == [False, True]


# --- what the house must never do where rows are private ------------------------------------------

DP_MODULES = [
    *Path(synthgen.dp.__path__[0]).glob("*.py"),
    Path(synthgen.dp.__path__[0]).parent / "gan" / "dp.py",
]
FORBIDDEN = {
    "min",
    "max",
    "unique",
    "quantile",
    "nunique",
    "value_counts",
    "percentile",
    "describe",
}


def test_no_statistic_of_rows_is_taken_without_noise() -> None:
    """A reviewed list: whoever needs another call shows here that it reads no private row."""
    # Of distributions in a bundle; of curves over epsilons.
    reviewed = {
        "tree.py": {"min", "max"},
        "accountant.py": {"min"},
        "domain.py": {"value_counts"},  # behind noise and a threshold, and charged
    }
    for path in DP_MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN:
                assert node.attr in reviewed.get(path.name, ()), f"{path.name}:{node.lineno}"


def test_no_seed_reaches_the_noise() -> None:
    root = Path(synthgen.dp.__path__[0])
    tree = ast.parse((root / "noise.py").read_text(encoding="utf-8"))
    noise = next(n for n in tree.body if isinstance(n, ast.ClassDef))
    init = next(n for n in noise.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    assert [a.arg for a in init.args.args] == ["self"]
    for path in DP_MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Noise"):
                assert not node.args, path.name
                assert not node.keywords, path.name
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("manual_seed"):
                assert ast.unparse(node.args[0]) == "noise.secret_seed()"


def test_nothing_is_read_printed_or_logged_where_rows_are_private() -> None:
    for path in DP_MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {ast.unparse(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
        assert not {n for n in names if n.split(".")[-1].startswith(("read_csv", "read_parquet"))}
        assert not {n for n in names if n == "print" or n.startswith(("logging.", "logger."))}


def test_the_log_of_noised_steps_holds_their_number_alone() -> None:
    """No loss, no size of a batch, no norm: they are statistics of private rows."""
    path = next(p for p in DP_MODULES if p.parent.name == "gan")
    logged = [
        n.args[0]
        for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(n, ast.Call) and ast.unparse(n.func) == "log"
    ]
    assert [ast.unparse(record) for record in logged] == [
        "{'phase': 'skeleton', 'step': step, 'steps': steps.n_steps}"
    ]
