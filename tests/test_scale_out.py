"""Rows drawn by several processes are the rows that one process draws."""

import dataclasses
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from synthgen import pipeline
from synthgen.checks.expectations import check_file, check_frames, count_rows
from synthgen.config import RunConfig, ScaleConfig
from synthgen.errors import ConfigError
from synthgen.files import sha256
from synthgen.pipeline import Outcome
from synthgen.run_folder import RunFolder
from synthgen.scale import connected, counted_by_many, draw_chunk
from synthgen.synthesizer import CHUNK_ROWS, Synthesizer
from synthgen.table import RealTable

Configure = Callable[..., RunConfig]
#: Two chunks and a bit.
ROWS = 2 * CHUNK_ROWS + 700


@pytest.fixture(scope="module")
def whole(tiny_synthesizer: Synthesizer) -> pd.DataFrame:
    return tiny_synthesizer.sample(ROWS, seed=5).data


@pytest.mark.slow
def test_a_chunk_is_its_part_of_the_whole_draw(
    tiny_synthesizer: Synthesizer, whole: pd.DataFrame
) -> None:
    assert len(whole) == ROWS
    for number in (2, 0):  # in any order
        part = tiny_synthesizer.sample_chunk(number, ROWS, seed=5)
        start = number * CHUNK_ROWS
        wanted = whole.iloc[start : start + CHUNK_ROWS].reset_index(drop=True)
        pd.testing.assert_frame_equal(part, wanted)


@pytest.mark.slow
def test_the_first_rows_of_a_long_draw_are_a_short_one(
    tiny_synthesizer: Synthesizer, whole: pd.DataFrame
) -> None:
    n = CHUNK_ROWS + 100
    short = tiny_synthesizer.sample(n, seed=5).data
    pd.testing.assert_frame_equal(short, whole.head(n))


def copy_for(finished: Outcome, to: Path, **changes: object) -> RunFolder:
    shutil.copytree(finished.folder.root, to)
    folder = RunFolder.open(to)
    config = folder.config.model_dump(exclude_none=True)
    folder.write(folder.config_path, RunConfig.build({**config, **changes}).to_toml())
    return folder


@pytest.mark.slow
def test_one_process_or_two_workers_write_the_same_file(finished: Outcome, tmp_path: Path) -> None:
    alone = copy_for(finished, tmp_path / "alone", rows=ROWS)
    pipeline.generate(alone)
    many = copy_for(finished, tmp_path / "many", rows=ROWS, scale={"workers": 2})
    many.parts_path.mkdir()
    (many.parts_path / "000000.parquet").write_bytes(b"of a run that was killed")
    pipeline.generate(many)
    assert sha256(many.synthetic_path) == sha256(alone.synthetic_path)
    assert stat.S_IMODE(many.synthetic_path.stat().st_mode) == 0o600
    assert not many.parts_path.exists()


@pytest.mark.slow
def test_many_count_what_one_counts(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_for(finished, tmp_path / "run", scale={"workers": 2})
    table = pq.read_table(folder.synthetic_path)
    pq.write_table(table, folder.synthetic_path, row_group_size=90, write_page_checksum=True)
    parts = counted_by_many(folder)
    assert sorted(part.n_rows for part in parts) == [180, 220]  # of 400 in groups of 90
    alone = check_file(folder.synthetic_path, folder.schema, name="output")
    by_many = check_file(folder.synthetic_path, folder.schema, name="output", count=lambda: parts)
    assert by_many == alone
    missed = check_file(
        folder.synthetic_path, folder.schema, name="output", count=lambda: parts[:1]
    )
    assert missed[0].status == "failed", "rows that nobody counted"


def test_counts_of_parts_add_up_to_those_of_the_whole(demo_table: RealTable) -> None:
    rows, schema = demo_table.data.head(30), demo_table.schema
    ward = schema.column("ward")
    narrow = dataclasses.replace(ward, categories=ward.categories[1:])
    columns = tuple(narrow if c.name == "ward" else c for c in schema.columns)
    stricter = dataclasses.replace(schema, columns=columns)
    alone = check_frames([rows], stricter, name="output")
    parts = [count_rows([rows.iloc[:11]], stricter), count_rows([rows.iloc[11:]], stricter)]
    assert check_frames([rows], stricter, name="output", by_row=parts) == alone
    (broken,) = [m for m in alone if m.name == "schema.output.ward.in_set"]
    assert broken.value == (rows["ward"] == ward.categories[0]).sum() > 0


@pytest.mark.slow
def test_a_worker_that_is_killed_is_no_loss(finished: Outcome, tmp_path: Path) -> None:
    folder, parts = finished.folder, tmp_path / "parts"
    parts.mkdir()
    shared = (str(folder.bundle_path), 3_000, 7, "cpu", str(parts))
    digest = sha256(folder.bundle_path / "bundle.json")
    with connected(ScaleConfig(workers=1)) as client:
        assert [*client.run(os.getenv, "MALLOC_TRIM_THRESHOLD_").values()] == [None]
        (pid,) = client.run(os.getpid).values()
        future = client.submit(draw_chunk, 0, shared=shared, bundle=digest)
        os.kill(pid, 9)
        assert Path(future.result(timeout=120)) == parts / "000000.parquet"


def test_a_cluster_that_is_not_there(finished: Outcome, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        RunConfig.build({"scale": {"workers": 2, "scheduler": "tcp://127.0.0.1:1"}})
    with pytest.raises(ConfigError, match=r"scale\.scheduler"):
        RunConfig.build({"scale": {"scheduler": "tcp://user:secret@host:1"}})
