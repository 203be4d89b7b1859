"""Conditions that hold on every row, and bundles that hold what they say and nothing more."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from synthgen import demo
from synthgen.ask.conditions import parse
from synthgen.config import RunConfig
from synthgen.errors import BundleError, ConfigError, DataError, SchemaError
from synthgen.gan.sample import BLOCK
from synthgen.synthesizer import BUNDLE_FILES, MIN_ROWS, Synthesizer, pick_device
from synthgen.table import RealTable, Split, SyntheticTable, fingerprint

QUICK: dict[str, Any] = {"train": {"steps": 3, "critic_steps": 2, "width": 16, "depth": 1}}


@pytest.fixture(scope="module")
def bundle(tiny_synthesizer: Synthesizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle. Not to be changed."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    tiny_synthesizer.save(folder)
    return folder


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A bundle of one's own."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def head(n: int) -> RealTable:
    return RealTable(demo.SCHEMA, demo.demo_frame(200, seed=0).data.head(n))


# --- rows


def test_rows_conform_to_the_schema(tiny_synthesizer: Synthesizer) -> None:
    table = tiny_synthesizer.sample(500, seed=1)
    assert isinstance(table, SyntheticTable)
    assert len(table) == 500
    assert list(table.data) == demo.SCHEMA.names
    for column in demo.SCHEMA.columns:
        values = table.data[column.name]
        assert column.nullable or values.notna().all(), column.name
        if column.kind == "categorical" and column.categories:
            assert set(values.dropna()) <= set(column.categories)
        if column.kind == "numeric":
            assert values.dropna().between(column.minimum, column.maximum).all()
            np.testing.assert_array_equal(values, values.round(column.decimals))


def test_the_first_rows_are_the_shorter_draw(tiny_synthesizer: Synthesizer) -> None:
    long, short = (tiny_synthesizer.sample(n, seed=4).data for n in (BLOCK + 5, 30))
    pd.testing.assert_frame_equal(long.head(30), short)
    batches = list(tiny_synthesizer.sample_batches(BLOCK + 5, seed=4))
    pd.testing.assert_frame_equal(pd.concat(batches, ignore_index=True), long)


def test_another_seed_other_rows(tiny_synthesizer: Synthesizer) -> None:
    one, same, other = (fingerprint(tiny_synthesizer.sample(50, seed=s).data) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_ids_are_new_and_unique(tiny_synthesizer: Synthesizer, demo_table: RealTable) -> None:
    made = tiny_synthesizer.sample(1_000, seed=1).data
    assert made["patient_id"].is_unique
    assert made["email"].is_unique
    for name in ("patient_id", "name", "email"):
        assert not set(made[name]) & set(demo_table.data[name])


def test_computed_columns_agree(tiny_synthesizer: Synthesizer) -> None:
    made = tiny_synthesizer.sample(1_000, seed=1).data
    assert tiny_synthesizer.encoder.derived >= {"length_of_stay"}
    stay = (made["discharged"] - made["admitted"]).dt.total_seconds() / 86_400
    assert (made["discharged"] >= made["admitted"]).all()
    assert ((stay - made["length_of_stay"]).abs() <= 0.005 + 1e-9).mean() > 0.99


def test_free_text_is_refused_before_training(demo_table: RealTable) -> None:
    columns = (
        replace(c, kind="text", categories=None) if c.name == "ward" else c
        for c in demo.SCHEMA.columns
    )
    schema = replace(demo.SCHEMA, columns=tuple(columns), constraints=())
    config = RunConfig(data="demo", to="out.csv", **QUICK)
    with pytest.raises(SchemaError, match=r"column 'ward'.*free text"):
        Synthesizer.fit(RealTable(schema, demo_table.data), config=config, seed=0, device="cpu")


# --- conditions


@pytest.mark.parametrize(
    "where",
    [
        ["birth_date > 1990-01-01"],
        ["birth_date <= 1950-06-30"],
        ["admitted >= 2023-03-05T12:30:00"],
        ["admitted < 2022-07-01"],
        ["discharged >= 2023-06-01"],
        ["ward = surgery"],
        ["ward != surgery"],
        ["ward in ('maternity', 'neurology')"],
        ["diagnosis = pneumonia"],
        ["emergency = yes"],
        ["emergency = no"],
        ["cost = 0"],
        ["cost >= 1000"],
        ["cost < 800.5"],
        ["crp is null"],
        ["crp is not null"],
        ["crp != 5"],
        ["creatinine in (0.9, 1.0)"],
        ["haemoglobin <= 10"],
        ["haemoglobin > 13.3"],
        ["length_of_stay >= 4"],
        ["readmitted = yes"],
        ["ward = internal", "emergency = yes", "cost > 0", "crp is not null"],
        ["admitted >= 2023-01-01", "admitted < 2024-01-01"],
    ],
    ids=lambda w: " and ".join(w),
)
def test_conditions_hold_on_every_row(tiny_synthesizer: Synthesizer, where: list[str]) -> None:
    # CTGAN's `matrix_st` was never filled, so its condition landed on another column.
    table = tiny_synthesizer.sample(150, seed=2, where=where)
    assert len(table) == 150
    for text in where:
        condition = parse(text, demo.SCHEMA)
        column = demo.SCHEMA.column(condition.column)
        assert condition.holds(table.data[column.name], column).all()
    assert table.data["patient_id"].is_unique


@pytest.mark.parametrize("name", ["ward", "diagnosis"])
def test_every_level_can_be_asked_for(
    tiny_synthesizer: Synthesizer, demo_halves: Split, name: str
) -> None:
    counts = demo_halves.train.data[name].value_counts()
    for level in counts.index[counts >= 10][::8]:
        made = tiny_synthesizer.sample(20, seed=0, where=[f"{name} = '{level}'"]).data
        assert (made[name] == level).all()


def test_a_condition_leaves_other_columns_at_their_frequencies(
    tiny_synthesizer: Synthesizer,
) -> None:
    free = tiny_synthesizer.sample(1_000, seed=0).data
    asked = tiny_synthesizer.sample(1_000, seed=0, where=["crp >= 50"]).data
    shares = [f["ward"].value_counts(normalize=True) for f in (free, asked)]
    assert 0.5 * shares[0].sub(shares[1], fill_value=0).abs().sum() < 0.2


@pytest.mark.parametrize(
    "where",
    [
        ["admitted >= 2025-12-31"],
        ["ward = surgery", "ward = internal"],
        ["cost > 5000", "cost < 3"],
        ["crp is null", "crp > 3"],
    ],
)
def test_what_cannot_be_is_an_error(tiny_synthesizer: Synthesizer, where: list[str]) -> None:
    with pytest.raises((ConfigError, DataError)):
        tiny_synthesizer.sample(10, seed=0, where=where)


def test_bounds_that_exclude_each_other_are_refused_at_once(
    tiny_synthesizer: Synthesizer,
) -> None:
    with pytest.raises(ConfigError, match="column 'cost': the conditions exclude each other"):
        tiny_synthesizer.sample(10, seed=0, where=["cost > 5", "cost < 3"])


def test_zero_rows_are_an_error(tiny_synthesizer: Synthesizer) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        tiny_synthesizer.sample(0, seed=0)


# --- fitting


@pytest.mark.parametrize("n", [0, 1, MIN_ROWS - 1])
def test_too_few_rows_are_refused(n: int) -> None:
    # CTGAN with a batch larger than the table trains nothing and returns a model.
    with pytest.raises(DataError, match="too few"):
        Synthesizer.fit(head(n), config=RunConfig.build(QUICK), seed=0, device="cpu")


def test_the_least_number_of_rows() -> None:
    made = Synthesizer.fit(head(MIN_ROWS), config=RunConfig.build(QUICK), seed=0, device="cpu")
    assert len(made.sample(30, seed=0)) == 30


def test_equal_seeds_equal_synthesizers() -> None:
    config = RunConfig.build(QUICK)
    one, same, other = (
        Synthesizer.fit(head(100), config=config, seed=s, device="cpu") for s in (0, 0, 1)
    )
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint != other.fingerprint


def test_a_repr_shows_no_data(tiny_synthesizer: Synthesizer) -> None:
    assert repr(tiny_synthesizer) == "Synthesizer('demo', 12 modelled columns)"
    assert "pneumonia" not in repr(tiny_synthesizer.encoder)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="'cuda'"):
        pick_device("cuda")
    assert pick_device("auto").type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_fitted_on_a_gpu_loads_on_a_cpu(tmp_path: Path) -> None:
    made = Synthesizer.fit(head(200), config=RunConfig.build(QUICK), seed=0, device="cuda")
    made.save(tmp_path / "bundle")
    assert made.device.type == "cuda"
    loaded = Synthesizer.load(tmp_path / "bundle", device="cpu")
    assert loaded.device.type == "cpu"
    assert loaded.fingerprint == made.fingerprint
    assert len(loaded.sample(10, seed=0)) == 10


# --- bundles


def test_a_bundle_holds_five_files_that_cannot_execute(bundle: Path) -> None:
    assert {p.name for p in bundle.iterdir()} == {"bundle.json", *BUNDLE_FILES}
    for path in bundle.iterdir():
        data = path.read_bytes()
        assert not data.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK"))
        if path.suffix != ".safetensors":
            assert b"\x80\x04" not in data


def test_a_bundle_holds_no_row(bundle: Path, demo_halves: Split) -> None:
    texts = "".join(
        (bundle / n).read_text(encoding="utf-8") for n in ("bundle.json", *BUNDLE_FILES[:3])
    )
    for name in ("patient_id", "name", "email"):
        assert not any(v in texts for v in demo_halves.train.data[name])
    weights = load_file(bundle / "generator.safetensors")
    assert not any(len(demo_halves.train) in t.shape for t in weights.values())
    assert not any("critic" in name or "optim" in name for name in weights)


def test_a_bundle_says_nothing_of_where_it_was_made(tmp_path: Path) -> None:
    config = RunConfig.build({**QUICK, "data": "/secret/in.csv", "to": "/secret/out.csv"})
    Synthesizer.fit(head(100), config=config, seed=0, device="cpu").save(tmp_path / "b")
    assert not any(b"secret" in p.read_bytes() for p in (tmp_path / "b").iterdir())


def test_saved_and_loaded_is_the_same(tiny_synthesizer: Synthesizer, bundle: Path) -> None:
    loaded = Synthesizer.load(bundle, device="cpu")
    assert loaded.fingerprint == tiny_synthesizer.fingerprint
    assert loaded.schema == tiny_synthesizer.schema
    assert loaded.facts == tiny_synthesizer.facts
    pd.testing.assert_frame_equal(
        loaded.sample(100, seed=3).data, tiny_synthesizer.sample(100, seed=3).data
    )


def test_saved_twice_is_the_same(bundle: Path, tmp_path: Path) -> None:
    Synthesizer.load(bundle, device="cpu").save(tmp_path / "again")
    for name in ("bundle.json", *BUNDLE_FILES):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes()


@pytest.mark.slow
def test_a_fresh_process_draws_the_same_rows_without_the_source(tmp_path: Path) -> None:
    source = tmp_path / "source.csv"
    demo.write_csv(source, 120, 0)
    made = Synthesizer.fit(head(120), config=RunConfig.build(QUICK), seed=0, device="cpu")
    made.save(tmp_path / "bundle")
    expected = fingerprint(made.sample(50, seed=9).data)
    source.unlink()
    code = (
        "import sys\n"
        "from synthgen.synthesizer import Synthesizer\n"
        "from synthgen.table import fingerprint\n"
        "s = Synthesizer.load(sys.argv[1], device='cpu')\n"
        "sys.stdout.write(fingerprint(s.sample(50, seed=9).data))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bundle")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.stdout == expected


def test_a_folder_that_holds_something_is_not_written_to(
    tiny_synthesizer: Synthesizer, copied: Path
) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        tiny_synthesizer.save(copied)


def refused(folder: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Synthesizer.load(folder, device="cpu")


@pytest.mark.parametrize("name", ["bundle.json", *BUNDLE_FILES])
def test_a_missing_file_is_refused(copied: Path, name: str) -> None:
    (copied / name).unlink()
    refused(copied, f"lacks {name}")


@pytest.mark.parametrize("name", ["bundle.json", *BUNDLE_FILES])
def test_a_link_is_refused(copied: Path, tmp_path: Path, name: str) -> None:
    shutil.move(copied / name, tmp_path / "elsewhere")
    (copied / name).symlink_to(tmp_path / "elsewhere")
    refused(copied, "links do not count")


@pytest.mark.parametrize("name", BUNDLE_FILES)
def test_a_changed_byte_is_refused(copied: Path, name: str) -> None:
    data = bytearray((copied / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copied / name).write_bytes(data)
    refused(copied, f"{name} changed")


def test_no_folder_at_all(tmp_path: Path) -> None:
    refused(tmp_path / "none", "lacks")


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    index = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    change(index)
    (folder / "bundle.json").write_text(json.dumps(index), encoding="utf-8")


def sign(folder: Path) -> None:
    """Write the hashes anew, as somebody who means harm would."""
    hashes = {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in BUNDLE_FILES}
    edit(folder, lambda index: index.update(files=hashes))


def test_another_format_is_refused(copied: Path) -> None:
    edit(copied, lambda index: index.update(format=99))
    refused(copied, "format 99")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', "[" * 100_000])
def test_a_damaged_index_is_refused(copied: Path, text: str) -> None:
    (copied / "bundle.json").write_text(text, encoding="utf-8")
    refused(copied, "damaged")


@pytest.mark.parametrize("network", [{}, {"width": 8, "depth": 1, "detail": True}, None])
def test_a_network_of_another_shape_is_refused(copied: Path, network: Any) -> None:
    edit(copied, lambda index: index.update(network=network))
    refused(copied, "damaged")


@pytest.mark.parametrize("facts", [{}, 3, None, {"rows": "many"}])
def test_facts_that_are_none_are_refused(copied: Path, facts: Any) -> None:
    edit(copied, lambda index: index.update(facts=facts))
    refused(copied, "damaged")


def test_no_facts_are_refused(copied: Path) -> None:
    edit(copied, lambda index: index.pop("facts"))
    refused(copied, "damaged")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(copied: Path, bad: float) -> None:
    path = copied / "generator.safetensors"
    state = load_file(path)
    next(iter(state.values())).view(-1)[3] = bad
    save_file(state, path)
    sign(copied)
    refused(copied, "not finite")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("generator.safetensors", b"\x80\x04K\x01."),
        ("encoder.json", b"{}"),
        ("encoder.json", b"\xff"),
        ("encoder.json", b"[" * 100_000),
        ("encoder.json", b'{"parts": [], "relations": [3]}'),
        ("encoder.json", b'{"parts": [], "relations": []}'),
        ("schema.toml", b"format = 99"),
        ("config.toml", b"rows = 0"),
    ],
)
def test_hostile_files_with_right_hashes_are_refused(copied: Path, name: str, data: bytes) -> None:
    (copied / name).write_bytes(data)
    sign(copied)
    refused(copied, "bundle")
