from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from synthgen import demo
from synthgen.conform import conform
from synthgen.schema import TableSchema
from synthgen.sources import open_source


@pytest.mark.parametrize("fact", demo.FACTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_facts_hold(fact: str, seed: int) -> None:
    assert demo.FACTS[fact](demo.demo_frame(5_000, seed).data)


@pytest.mark.parametrize(
    "fact",
    [
        "children_in_paediatrics",
        "ward_follows_diagnosis",
        "cost_grows_with_stay",
        "labs_follow_diagnosis",
        "labs_correlate",
        "missing_not_at_random",
        "outcome_depends",
        "discharge_after_admission",
        "stay_is_the_difference",
    ],
)
def test_facts_about_several_columns_fail_without_their_dependence(fact: str) -> None:
    real = demo.demo_frame(5_000).data
    shuffled = {n: real[n].sample(frac=1, random_state=i).array for i, n in enumerate(real)}
    assert not demo.FACTS[fact](pd.DataFrame(shuffled))


def test_every_fact_is_described() -> None:
    assert demo.__doc__ is not None
    described = [line.split()[0] for line in demo.__doc__.splitlines() if "  " in line.strip()]
    assert [name for name in described if name in demo.FACTS] == list(demo.FACTS)


def test_same_seed_same_rows() -> None:
    first, again, other = (demo.demo_frame(300, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first.data, again.data)
    assert not first.data.equals(other.data)


def test_ids_and_addresses_are_unique_and_rows_any_number() -> None:
    data = demo.demo_frame(3_000).data
    assert data["patient_id"].is_unique
    assert data["email"].is_unique
    assert len(demo.demo_frame(1)) == 1


def test_the_file_conforms_and_equals_the_table(tmp_path: Path) -> None:
    demo.write_csv(tmp_path / "demo.csv", rows=500)
    source = open_source(str(tmp_path / "demo.csv"), demo.SCHEMA)
    read = conform(source.batches(), demo.SCHEMA)
    pd.testing.assert_frame_equal(read.data, demo.demo_frame(500).data)


def test_the_schema_file_is_the_schema() -> None:
    path = Path(__file__).parents[1] / "schemas" / "demo.toml"
    assert TableSchema.load(path) == demo.SCHEMA
