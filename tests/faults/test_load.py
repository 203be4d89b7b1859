"""Issue 8, part 8: many nights, a thousand columns, a hundred thousand levels, a million rows.

Memory, files and handles are counted, not seconds. Ten million rows are `benchmarks/scale.py`'s.
"""

from __future__ import annotations

import gc
import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from children import command, ended, in_a_child

from synthgen import pipeline
from synthgen.audit_log import AuditLog
from synthgen.config import RunConfig
from synthgen.plan import estimate
from synthgen.schema import Column, TableSchema
from synthgen.synthesizer import Synthesizer

Configure = Callable[..., RunConfig]

survives = pytest.mark.survives
pytestmark = [pytest.mark.slow, pytest.mark.faults]
PART = "Load"
MIB = 2**20
NIGHTS, KEPT = 24, 3
TINY = {"steps": 5, "critic_steps": 2, "width": 16, "depth": 1}


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TMPDIR", "SYNTHGEN_HOME"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", None)


def resident() -> int:
    """Bytes of this process that are in memory now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@survives(PART, "24 scheduled runs in a row in one process: memory, files, handles do not grow")
def test_night_after_night(
    small_config: Configure, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    runs, counted = tmp_path / "runs", tmp_path / "counted.json"
    config = small_config(tmp_path / "out.csv", overwrite=True, runs={"keep": KEPT})

    def work() -> None:
        found = []
        for night in range(NIGHTS):
            folder = pipeline.prepare(config, runs / f"night-{night:02}", scheduled=True)
            assert pipeline.resume(folder.root).manifest is not None
            found.append((resident(), handles(), threading.active_count()))
        counted.write_text(json.dumps(found))

    assert in_a_child(work) == 0
    memory, opened, threads = zip(*json.loads(counted.read_text()), strict=True)
    # the first ones fill caches; after them a night may not keep a MiB
    assert memory[-1] - memory[7] < (NIGHTS - 8) * MIB, [m // MIB for m in memory]
    assert opened[-1] == opened[1]
    assert threads[-1] == threads[1]
    assert len(list(runs.iterdir())) == KEPT
    assert len(AuditLog.default().entries()) == NIGHTS
    assert {p.name for p in tmp_path.iterdir()} == {
        "TMPDIR", "SYNTHGEN_HOME", "runs", "counted.json", "out.csv", "out.csv.manifest.json"
    }  # fmt: skip
    # torch makes itself an empty folder there, once
    assert not [p for p in (tmp_path / "TMPDIR").rglob("*") if p.is_file()]
    assert [p.name for p in (tmp_path / "SYNTHGEN_HOME").iterdir()] == ["audit.jsonl"]
    record_property("tried", NIGHTS)


@survives(PART, "1,000 columns: inferred, planned, learnt, drawn")
def test_a_thousand_columns(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame(
        {f"n{i}": draw.normal(size=300).round(2) for i in range(500)}
        | {f"c{i}": draw.choice(["a", "b", "c"], 300) for i in range(500)}
    )
    frame.to_csv(tmp_path / "wide.csv", index=False)
    config = RunConfig.build(
        {
            "data": str(tmp_path / "wide.csv"),
            "to": str(tmp_path / "bundle"),
            "rows": 60,
            "seed": 0,
            "device": "cpu",
            "train": TINY,
            "sample": {"sampling_steps": 8},
        }
    )
    assert estimate(config).columns == 1_000
    assert pipeline.train_bundle(config)
    said = tmp_path / "said"
    target = tmp_path / "drawn.csv"
    draw_it = ["sample", str(tmp_path / "bundle"), "--rows", "60", "--to", str(target)]
    assert ended(command(said, *draw_it)) == 0, said.read_text()
    assert pd.read_csv(target).shape == (60, 1_000)


@survives(PART, "a column of 100,000 levels: refused or held, in bounded memory; no rare level out")
def test_a_hundred_thousand_levels(tmp_path: Path) -> None:
    draw, n = random.Random(0), 200_000
    levels = [f"L{min(int(draw.paretovariate(0.6)), 10**12) % 10**7:07}" for _ in range(n)]
    levels[:100_000] = [f"U{i:06}" for i in range(100_000)]
    numbers = [draw.randint(0, 99) for _ in range(n)]
    pq.write_table(pa.table({"level": levels, "y": numbers}), tmp_path / "t.parquet")
    columns = (
        Column(name="level", kind="categorical"),
        Column(name="y", kind="numeric", decimals=0),
    )
    TableSchema(name="t", columns=columns).save(tmp_path / "t.toml")
    config = RunConfig.build(
        {
            "data": str(tmp_path / "t.parquet"),
            "schema_path": str(tmp_path / "t.toml"),
            "to": str(tmp_path / "bundle"),
            "seed": 0,
            "device": "cpu",
            "train": TINY,
        }
    )
    before = resident()
    assert pipeline.train_bundle(config)
    fitted = Synthesizer.load(tmp_path / "bundle", device="cpu")
    drawn = pd.concat(fitted.sample_batches(5_000, seed=0))
    assert resident() - before < 1_500 * MIB
    counts = pd.Series(levels).value_counts()
    seen = set(drawn["level"].dropna()) & set(counts.index)
    assert seen, "frequent levels are drawn"
    assert counts[sorted(seen)].min() >= config.encode.min_rows


@survives(PART, "1,000,000 rows: learnt from and drawn, in a few bytes a cell")
def test_a_million_rows(tmp_path: Path) -> None:
    draw, n = np.random.default_rng(0), 1_000_000
    table = {"x": draw.integers(0, 5_000, n), "c": pa.array(draw.choice(["a", "b", "c"], n))}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    config = RunConfig.build(
        {
            "data": str(tmp_path / "t.parquet"),
            "to": str(tmp_path / "bundle"),
            "seed": 0,
            "device": "cpu",
            "encode": {"fit_rows": 50_000},
            "train": TINY,
            "sample": {"sampling_steps": 1},
        }
    )
    before = resident()
    assert pipeline.train_bundle(config)
    said, target = tmp_path / "said", tmp_path / "drawn.parquet"
    draw_it = ["sample", str(tmp_path / "bundle"), "--rows", str(n), "--to", str(target)]
    assert ended(command(said, *draw_it)) == 0, said.read_text()
    assert pq.read_metadata(target).num_rows == n
    assert resident() - before < 600 * MIB
