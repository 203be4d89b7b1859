"""Issue 8, part 4: many processes want the same thing at the same moment.

One gets it, the others are told at once (exit code 4, or 2 where they come after the end), and all
rows are accounted for: each export is in the audit log, and what stands at the target is one of
them, whole.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from children import command, ended, start

from synthgen import pipeline
from synthgen.audit_log import AuditLog
from synthgen.config import RunConfig
from synthgen.dp.accountant import Mechanism
from synthgen.dp.ledger import Ledger
from synthgen.errors import TargetBusy, TargetExists
from synthgen.export import Manifest
from synthgen.files import is_held, reserve, sha256
from synthgen.pipeline import Outcome
from synthgen.runs import listed
from synthgen.sinks import open_sink

Configure = Callable[..., RunConfig]

survives = pytest.mark.survives
PART = "Concurrency"
MANY = 8
DONE, EXISTS, BUSY = 0, 2, 4


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def together(root: Path, *commands: list[str]) -> list[int]:
    """Begin all commands in the same moment; return their exit codes."""
    ready, go = os.pipe()
    pids = [
        command(root / f"said-{k}", *arguments, limit=lambda: os.read(ready, 1) and None)
        for k, arguments in enumerate(commands)
    ]
    os.write(go, b"x" * len(commands))
    codes = [ended(pid) for pid in pids]
    os.close(ready)
    os.close(go)
    for k in range(len(commands)):
        said = (root / f"said-{k}").read_text()
        assert "Traceback" not in said
        assert codes[k] != BUSY or "is held by another run" in said
    return codes


def exports() -> list[dict[str, object]]:
    return [e for e in AuditLog.default().entries() if e["what"] in ("export", "sample")]


def check_target(target: Path, rows: int) -> Manifest:
    """What stands there is whole, and the last thing that the audit log has."""
    manifest = Manifest.from_json((target.parent / f"{target.name}.manifest.json").read_text())
    assert manifest.sha256 == sha256(target)
    assert len(pd.read_csv(target)) == manifest.rows == rows
    assert manifest.sha256 in json.dumps(exports()[-1])
    assert not [p for p in target.parent.iterdir() if p.name.startswith(".")]
    return manifest


@survives(PART, "8 runs to one target at once: one exports, the others are told")
@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, pytest.param(True, marks=pytest.mark.faults)])
def test_many_runs_to_one_target(
    overwrite: bool, small_config: Configure, undisturbed: Outcome, tmp_path: Path
) -> None:
    target = tmp_path / "out.csv"
    (tmp_path / "run.toml").write_text(small_config(target, overwrite=overwrite).to_toml())
    run = ["run", "--config", str(tmp_path / "run.toml"), "--run-dir"]
    codes = together(tmp_path, *([*run, str(tmp_path / f"run-{k}")] for k in range(MANY)))
    assert codes.count(DONE) == (len(exports()) if overwrite else 1)
    assert set(codes) <= ({DONE, BUSY} if overwrite else {DONE, BUSY, EXISTS})
    winner = check_target(target, 200).facts["run"]
    assert codes[int(winner.removeprefix("run-"))] == DONE
    kept = sorted(p.name for p in tmp_path.glob("run-*"))
    assert kept == [f"run-{k}" for k in range(MANY) if codes[k] == DONE]


@survives(PART, "8 draws from one bundle at once, to 8 targets: all whole, none like another")
@pytest.mark.slow
def test_many_draws_from_one_bundle(undisturbed: Outcome, tmp_path: Path) -> None:
    bundle = str(undisturbed.folder.bundle_path)
    targets = [tmp_path / f"drawn-{k}.csv" for k in range(MANY)]
    draw = ["sample", bundle, "--rows", "50", "--seed"]
    codes = together(tmp_path, *([*draw, str(k), "--to", str(t)] for k, t in enumerate(targets)))
    assert codes == [DONE] * MANY, (tmp_path / f"said-{codes.index(max(codes))}").read_text()
    assert len({sha256(target) for target in targets}) == MANY
    assert {len(pd.read_csv(target)) for target in targets} == {50}
    assert len(exports()) == MANY
    assert AuditLog.default().read()[1] == []


@survives(PART, "8 draws to one target at once: one writes at a time, the others are told")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("overwrite", [False, True])
def test_many_draws_to_one_target(overwrite: bool, undisturbed: Outcome, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    draw = ["sample", str(undisturbed.folder.bundle_path), "--rows", "50", "--to", str(target)]
    codes = together(tmp_path, *([*draw, *["--overwrite"] * overwrite] for _ in range(MANY)))
    assert codes.count(DONE) == (len(exports()) if overwrite else 1)
    assert set(codes) <= {DONE, BUSY, EXISTS}
    check_target(target, 50)


@survives(PART, "one run folder gone on with by 8 processes at once: by one of them")
@pytest.mark.slow
@pytest.mark.faults
def test_many_go_on_with_one_run(
    small_config: Configure, undisturbed: Outcome, tmp_path: Path
) -> None:
    folder = pipeline.prepare(small_config(tmp_path / "out.csv"), tmp_path / "run")
    pipeline.advance(folder, "ingest")
    codes = together(tmp_path, *(["resume", str(folder.root)] for _ in range(MANY)))
    assert set(codes) <= {DONE, BUSY}  # who comes after the end finds it done
    assert DONE in codes
    assert len(exports()) == 1
    assert check_target(tmp_path / "out.csv", 200).sha256 == sha256(
        Path(undisturbed.folder.config.to)
    )
    done = [e["stage"] for e in folder.events if e["event"] == "done"]
    assert done == ["ingest", "train", "generate", "validate", "export"]


@survives(PART, "8 exports of one run to one table of a database or key of S3 at once")
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("kind", ["sqlite", "postgres", "s3"])
def test_many_exports_to_one_store(
    kind: str, undisturbed: Outcome, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        uri = f"sqlite:///{tmp_path}/out.db?table=rivals"
    else:
        place = request.getfixturevalue(kind)
        uri = f"{place}&table=rivals" if kind == "postgres" else f"{place}/rivals.csv"
    folders = [tmp_path / f"run-{k}" for k in range(MANY)]
    for folder in folders:
        shutil.copytree(undisturbed.folder.root, folder)
    codes = together(tmp_path, *(["export", str(f), "--to", uri] for f in folders))
    assert codes.count(DONE) == 1
    assert set(codes) <= {DONE, BUSY, EXISTS}
    assert Manifest.from_json(open_sink(uri).manifest() or "").rows == 200
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "out.db")) as connection:
            assert connection.execute("SELECT count(*) FROM rivals").fetchone() == (200,)


@survives(PART, "two schedulers that run one configuration into one target, four times each")
@pytest.mark.slow
@pytest.mark.faults
def test_two_schedulers(small_config: Configure, undisturbed: Outcome, tmp_path: Path) -> None:
    target, runs = tmp_path / "out.csv", tmp_path / "runs"
    config = small_config(target, overwrite=True)
    nights = itertools.count()

    def schedule(name: str) -> Callable[[], None]:
        def work() -> None:
            told = 0
            for _ in range(4):
                folder = pipeline.prepare(config, runs / f"{name}-{next(nights)}", scheduled=True)
                try:
                    pipeline.resume(folder.root)
                except TargetBusy:
                    told += 1
            raise SystemExit(told)

        return work

    told = sum(ended(pid) for pid in [start(schedule("one")), start(schedule("two"))])
    assert len(exports()) + told == 8
    states = [entry.state for entry in listed(runs)]
    assert states.count("exported") == len(exports())
    assert states.count("interrupted") == told
    check_target(target, 200)


@survives(PART, "8 processes that add to one audit log: every line there, the chain whole")
@pytest.mark.slow
@pytest.mark.faults
def test_many_writers_of_the_audit_log(tmp_path: Path) -> None:
    def work() -> None:
        for _ in range(20):
            AuditLog.default().append("sample", rows=1)

    assert [ended(pid) for pid in [start(work) for _ in range(MANY)]] == [0] * MANY
    entries, problems = AuditLog.default().read()
    assert (len(entries), problems) == (8 * 20, [])


@survives(PART, "8 processes that spend from one privacy budget: what is spent is in the ledger")
@pytest.mark.slow
@pytest.mark.faults
def test_many_spend_from_one_budget(tmp_path: Path) -> None:
    """A budget for about half of them; who is told that the ledger is held has spent nothing."""
    counts = [Mechanism("counts", "discrete-gaussian", 20.0, 1)]
    ledger = Ledger(tmp_path)
    source = ledger.source("a", "b")

    def work() -> None:
        spent = 0
        for _ in range(5):
            try:
                ledger.spend(source, counts, delta=1e-6, cap=1.5, run="r")
                spent += 1
            except Exception:
                continue
        raise SystemExit(spent)

    spent = sum(ended(pid) for pid in [start(work) for _ in range(MANY)])
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == spent > 0
    assert ledger.spent(source) <= 1.5


@survives(PART, "a target filled by the one before, between our look and our hold: told at once")
def test_a_target_that_was_filled_while_it_was_waited_for(
    small_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config(tmp_path / "out.csv")
    kind = type(open_sink(config.to))
    real, looks = kind.check, itertools.count()

    def check(sink: object, *, overwrite: bool) -> None:
        real(sink, overwrite=overwrite)
        if next(looks) == 0:
            (tmp_path / "out.csv").touch()

    monkeypatch.setattr(kind, "check", check)
    with pytest.raises(TargetExists):
        pipeline.run(config, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@survives(PART, "a look at a run (`synthgen runs`) in the moment in which it wants its lock")
@pytest.mark.slow
@pytest.mark.faults
def test_looking_stands_in_nobody_s_way(tmp_path: Path) -> None:
    def look() -> None:
        while not (tmp_path / "stop").exists():
            is_held(tmp_path / "run")

    looking = [start(look) for _ in range(2)]
    try:
        for _ in range(2_000):
            with reserve(tmp_path / "run"):
                pass
    finally:
        (tmp_path / "stop").touch()
        assert [ended(pid) for pid in looking] == [0, 0]
