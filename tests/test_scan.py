"""The audit: clean on what a run makes, and not on anything doctored; planted values in every kind.

Rare values of each kind of column are planted in tables that a run with a schema, one without and
a warm start learn from. What they leave is searched byte by byte, by this file's own plain search,
and by the audit; then bundles are doctored, and the audit must say so.
"""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from synthgen import demo
from synthgen.cli import app
from synthgen.config import RunConfig
from synthgen.errors import ConfigError
from synthgen.files import sha256
from synthgen.pipeline import Outcome, run
from synthgen.scan import scan
from synthgen.schema import Column, TableSchema
from synthgen.table import to_arrow

ROWS = 700
#: Column -> rows and value: fewer rows than k = 10.
PLANTED: dict[str, tuple[int, str]] = {
    "patient_id": (1, "P-CANARYID7391"),
    "name": (1, "Canaria Namenson-Zq7"),
    "email": (1, "canary.mail.zq7@example.org"),
    "ward": (9, "CANARY-WARD-ZQ7"),
    "diagnosis": (1, "CANARY-DIAGNOSIS-ZQ7"),
    "cost": (1, "918273.64"),  # an extreme
    "creatinine": (2, "7.31415926"),  # unusual decimals
    "birth_date": (1, "1901-03-07"),
    "admitted": (1, "2031-05-19T03:47:00"),
}
TRAIN = {"steps": 6, "critic_steps": 0, "width": 16, "depth": 1}
GATE: dict[str, Any] = {
    "prove_power": False,
    "min_privacy_rows": 2,
    **dict.fromkeys(("max_marginal_excess", "max_pair_loss", "max_c2st", "min_utility"), "off"),
    **dict.fromkeys(("max_dcr_z", "max_membership_auc", "max_attack_risk"), "off"),
}


@dataclass(frozen=True)
class Scene:
    """A table with planted values, and the run that learnt from it."""

    data: Path
    outcome: Outcome

    @property
    def bundle(self) -> Path:
        return self.outcome.folder.bundle_path


def planted_table(path: Path, seed: int) -> Path:
    frame = to_arrow(demo.demo_frame(ROWS, seed=seed).data, demo.SCHEMA).to_pandas().astype("str")
    frame = frame.replace({"nan": "", "NaT": "", "None": "", "True": "yes", "False": "no"})
    for place, (name, (rows, value)) in enumerate(PLANTED.items()):
        frame.loc[range(40 * place, 40 * place + rows), name] = value
    frame.to_csv(path, index=False)
    return path


def open_schema() -> TableSchema:
    """The demo schema without bounds and categories, which the planted values would break."""
    columns = (
        Column(
            name=c.name,
            kind=c.kind,
            nullable=c.nullable,
            pii=c.pii,
            role=c.role,
            resolution=c.resolution,
            categories=c.categories if c.kind == "boolean" else None,
        )
        for c in demo.SCHEMA.columns
    )
    return TableSchema(name="planted", columns=tuple(columns))


Make = Callable[..., Scene]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    def build(seed: int = 5, *, with_schema: bool = True, warm_start: Path | None = None) -> Scene:
        folder = tmp_path_factory.mktemp("scan")
        data = planted_table(folder / "in.csv", seed)
        open_schema().save(folder / "schema.toml")
        config = RunConfig.build(
            {
                "data": str(data),
                "schema_path": str(folder / "schema.toml") if with_schema else None,
                "to": str(folder / "out" / "out.csv"),
                "rows": 150,
                "seed": 1,
                "device": "cpu",
                "warm_start": None if warm_start is None else str(warm_start),
                "train": TRAIN,
                "gate": GATE,
            }
        )
        (folder / "out").mkdir()
        return Scene(data, run(config, run_dir=folder / "run"))

    return build


@pytest.fixture(scope="module")
def scene(make: Make) -> Scene:
    return make()


def artefacts(scene: Scene) -> list[Path]:
    """Every file of a run but the real rows, and the export."""
    root = scene.outcome.folder.root
    real = {"train.parquet", "holdout.parquet"}
    files = [p for p in root.rglob("*") if p.is_file() and p.name not in real]
    return files + [p for p in (root.parent / "out").iterdir() if p.is_file()]


def content_of(path: Path) -> bytes:
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv(index=False).encode()
    return path.read_bytes()


def forms(value: str) -> list[bytes]:
    """`value` in text, in two bytes a letter, and in the binary forms of a number."""
    out = [value.encode(), value.encode("utf-16-le")]
    if value.replace(".", "").isdigit():
        out += [f"{float(value):,}".encode(), struct.pack("<d", float(value))]
        out += [struct.pack("<f", float(value))]
    return out


def assert_nothing_planted(scene: Scene) -> None:
    files = artefacts(scene)
    assert {"encoder.json", "schema.toml", "generator.safetensors", "protection.json"} <= {
        p.name for p in files
    }
    for path in files:
        content = content_of(path)
        hits = [n for n, (_, v) in PLANTED.items() if any(f in content for f in forms(v))]
        assert not hits, path
    days = (pd.Timestamp("1901-03-07") - pd.Timestamp("1970-01-01")).days
    assert str(days) not in (scene.bundle / "encoder.json").read_text()


def assert_clean(scene: Scene) -> None:
    root = scene.outcome.folder.root
    for place in (scene.bundle, root, root.parent / "out"):
        found = scan(place, str(scene.data), schema=root / "schema.toml")
        assert found.is_clean, [str(f) for f in found.findings]
        assert found.files
        assert (found.k, found.of, found.rows) == (10, "rows", ROWS)


def test_a_run_with_a_schema(scene: Scene) -> None:
    assert_nothing_planted(scene)
    assert_clean(scene)


@pytest.mark.slow
def test_a_run_without_a_schema(make: Make) -> None:
    found = make(6, with_schema=False)
    assert_nothing_planted(found)
    assert_clean(found)


@pytest.mark.slow
def test_a_warm_start_tells_of_neither_table(make: Make, scene: Scene) -> None:
    warm = make(7, warm_start=scene.bundle)
    assert_nothing_planted(warm)
    # Levels kept from the earlier table stand for k of its rows.
    found = scan(warm.bundle, str(warm.data), str(scene.data))
    assert found.is_clean, [str(f) for f in found.findings]
    assert found.rows == 2 * ROWS


# --- doctored


@pytest.fixture
def doctored(scene: Scene, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may write into."""
    return Path(shutil.copytree(scene.bundle, tmp_path / "bundle"))


def rules(bundle: Path, scene: Scene) -> set[tuple[str, str, str]]:
    """Return what the audit finds, after the bundle's own digests are made to agree."""
    index = json.loads((bundle / "bundle.json").read_text())
    index["files"] = {name: sha256(bundle / name) for name in index["files"]}
    (bundle / "bundle.json").write_text(json.dumps(index))
    found = scan(bundle, str(scene.data))
    said = json.dumps([str(f) for f in found.findings])
    assert not any(value in said for _, value in PLANTED.values())
    return {(f.file, f.column, f.rule) for f in found.findings}


def part_of(state: dict[str, Any], column: str) -> dict[str, Any]:
    encoder: dict[str, Any] = next(p for p in state["parts"] if p["column"] == column)["encoder"]
    return encoder


def edit(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = bundle / "encoder.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))


def add_level(state: dict[str, Any]) -> None:
    ward = part_of(state, "ward")
    ward["levels"][0] = PLANTED["ward"][1]


def add_extreme(state: dict[str, Any]) -> None:
    part_of(state, "cost")["upper"][-1] = float(PLANTED["cost"][1])


def add_lonely_boundary(state: dict[str, Any]) -> None:
    cells = part_of(state, "birth_date")
    cells["lower"][0] = float((pd.Timestamp("1901-03-07") - pd.Timestamp(0)).days)


def add_small_count(state: dict[str, Any]) -> None:
    part_of(state, "ward")["counts"][-1] = 3.0


@pytest.mark.parametrize(
    ("change", "column", "rule"),
    [
        (add_level, "ward", "levels in too few rows"),
        (add_level, "ward", "texts or times that too few rows hold"),
        (add_extreme, "cost", "boundaries that are the value of too few rows"),
        (add_extreme, "cost", "numbers that too few rows hold"),
        (add_lonely_boundary, "birth_date", "boundaries that are the value of too few rows"),
        (add_small_count, "ward", "counts below 10"),
    ],
)
def test_a_doctored_encoder_is_found(
    doctored: Path, scene: Scene, change: Callable[[dict[str, Any]], None], column: str, rule: str
) -> None:
    edit(doctored, change)
    assert ("encoder.json", column, rule) in rules(doctored, scene)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_value_in_any_text_is_found(doctored: Path, scene: Scene, name: str) -> None:
    index = json.loads((doctored / "bundle.json").read_text())
    value = PLANTED[name][1]
    is_number = name in ("cost", "creatinine")
    index["facts"]["note"] = float(value) if is_number else f"see {value}."
    (doctored / "bundle.json").write_text(json.dumps(index))
    what = "numbers" if is_number else "texts or times"
    assert ("bundle.json", name, f"{what} that too few rows hold") in rules(doctored, scene)


def test_drafted_bounds_are_found(doctored: Path, scene: Scene) -> None:
    path = doctored / "schema.toml"
    text = path.read_text().replace(
        'name = "cost"\n', 'name = "cost"\nmaximum = 1000000\nsource = "data"\n'
    )
    path.write_text(text)
    rule = "bounds or categories that were read from the data"
    assert ("schema.toml", "cost", rule) in rules(doctored, scene)


def test_rows_in_the_weights_are_found(doctored: Path, scene: Scene) -> None:
    path = doctored / "generator.safetensors"
    state = load_file(path)
    largest = next(name for name, t in state.items() if t.size > 100)
    state[largest].flat[7] = np.float32(PLANTED["cost"][1])
    save_file({**state, "critic.0.weight": np.ones((2, 3), np.float32)}, path)
    found = rules(doctored, scene)
    file = "generator.safetensors"
    assert (file, "cost", "numbers that too few rows hold") in found
    assert (file, "", "tensors of a critic, an optimizer or rows") in found
    assert ("bundle.json", "", "bundle that cannot be loaded") in found


def test_further_files_are_found(doctored: Path, scene: Scene) -> None:
    (doctored / "optimizer.pt").write_bytes(b"\0" * 9 + struct.pack("<d", 918273.64))
    (doctored / "rows").mkdir()
    (doctored / "rows" / "x.txt").write_bytes(PLANTED["email"][1].encode("utf-16-le"))
    found = rules(doctored, scene)
    assert ("optimizer.pt", "", "file that no bundle has") in found
    assert ("optimizer.pt", "cost", "numbers that too few rows hold") in found
    assert ("rows/x.txt", "email", "texts or times that too few rows hold") in found


def test_a_copied_id_in_an_export_is_found(scene: Scene, tmp_path: Path) -> None:
    out = Path(shutil.copytree(scene.outcome.folder.root.parent / "out", tmp_path / "out"))
    with (out / "out.csv").open("a") as file:
        file.write("\n" + PLANTED["patient_id"][1])
    schema = scene.outcome.folder.root / "schema.toml"
    found = scan(out, str(scene.data), schema=schema).findings
    assert [(f.file, f.column, f.count) for f in found] == [("out.csv", "patient_id", 1)]


def test_entities_are_counted_where_there_is_a_key(tmp_path: Path) -> None:
    # One person holds "Rarebird" in twenty rows; twelve people hold "Commonbird" in one each.
    people = ["p001"] * 20 + [f"p{100 + i}" for i in range(12)]
    frame = pd.DataFrame({"who": people, "what": ["Rarebird"] * 20 + ["Commonbird"] * 12})
    frame.to_csv(tmp_path / "in.csv", index=False)
    what = Column(name="what", kind="categorical")
    people_or_rows = (
        (Column(name="who", kind="id", role="entity"), 1),
        (Column(name="who", kind="categorical"), 0),
    )
    (tmp_path / "note.txt").write_text("Rarebird and Commonbird")
    for who, n in people_or_rows:
        TableSchema(name="birds", columns=(who, what)).save(tmp_path / "s.toml")
        found = scan(tmp_path / "note.txt", str(tmp_path / "in.csv"), schema=tmp_path / "s.toml")
        assert sum(f.count for f in found.findings) == n


# --- the command line


def test_on_the_command_line(scene: Scene, doctored: Path) -> None:
    data = ["--data", str(scene.data)]
    done = CliRunner().invoke(app, ["audit", str(scene.bundle), *data])
    assert (done.exit_code, done.output.splitlines()[-1]) == (0, "clean")
    edit(doctored, add_level)
    done = CliRunner().invoke(app, ["audit", str(doctored), *data])
    assert done.exit_code == 3
    assert "encoder.json: column 'ward': 1 levels in too few rows" in done.output
    assert PLANTED["ward"][1] not in done.output
    done = CliRunner().invoke(app, ["audit", str(doctored), *data, "--json"])
    assert done.exit_code == 3
    assert {"file", "column", "rule", "count"} == set(json.loads(done.stdout)["findings"][0])


def test_nothing_to_audit(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        scan(tmp_path / "none", str(scene.data))
