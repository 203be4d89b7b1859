"""The stages end to end: what a run leaves where, and what it refuses before it starts."""

import json
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from synthgen import demo, pipeline
from synthgen.checks.expectations import check_file
from synthgen.config import RunConfig
from synthgen.errors import (
    ConfigError,
    DataError,
    GateRefused,
    SchemaError,
    StageError,
    SynthgenError,
    TargetBusy,
    TargetExists,
)
from synthgen.files import reserve, sha256
from synthgen.pipeline import Outcome, run
from synthgen.run_folder import Event, Receipt, RunFolder, listening
from synthgen.sinks.formats import csv_schema
from synthgen.synthesizer import Synthesizer
from synthgen.table import RealTable, SyntheticTable, fingerprint, read_frame, to_arrow

Configure = Callable[..., RunConfig]
FEW_STEPS = {"steps": 4, "critic_steps": 0, "width": 16, "depth": 1}


def copy_of(outcome: Outcome, to: Path) -> RunFolder:
    shutil.copytree(outcome.folder.root, to)
    return RunFolder.open(to)


# --- a run that passes ----------------------------------------------------------------------------


def test_a_run_leaves_the_layout_of_the_page(finished: Outcome) -> None:
    root = finished.folder.root
    public = {p.name for p in root.iterdir()}
    assert public == {
        "config.toml", "schema.toml", "log.jsonl", "report.json", "report.html", "decision.json",
        "manifest.json", "protection.json", "private",
    }  # fmt: skip
    assert {p.name for p in (root / "private").iterdir()} == {
        "train.parquet", "holdout.parquet", "bundle", "training.jsonl", "synthetic.parquet",
        "input.json", "draw.json", "attempts.json", "receipts.json", "reference.json",
    }  # fmt: skip


def test_folders_are_0700_and_files_0600(finished: Outcome) -> None:
    root = finished.folder.root
    for path in [root, *root.rglob("*")]:
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_the_export_has_the_rows_and_obeys_the_schema(finished: Outcome) -> None:
    target = Path(finished.folder.config.to)
    assert finished.manifest is not None
    assert finished.manifest.rows == 400
    assert finished.manifest.sha256 == sha256(target)
    summary = check_file(target, csv_schema(demo.SCHEMA), name="output")[0]
    assert (summary.value, summary.n) == (0, 400)
    assert not [p for p in target.parent.iterdir() if p.name.startswith(".")]


def test_nothing_regenerated_is_real(finished: Outcome, demo_table: RealTable) -> None:
    synthetic = read_frame(finished.folder.synthetic_path, demo.SCHEMA)
    for name in ("patient_id", "email"):
        assert not set(synthetic[name]) & set(demo_table.data[name]), name
    assert synthetic["patient_id"].is_unique


def test_no_id_is_real_though_real_ones_are_written_in_our_forms(
    tiny_config: Configure, demo_table: RealTable, tmp_path: Path
) -> None:
    # As in a table that synthgen made itself: in train or holdout, by chance of the split.
    frame = to_arrow(demo_table.data, demo.SCHEMA).to_pandas().astype("str")
    frame = frame.replace({"nan": "", "NaT": "", "None": "", "True": "yes", "False": "no"})
    for i in range(0, 1_500, 5):
        frame.loc[i, "patient_id"] = f"S{i % 400:09d}-{i}" if i % 2 else f"S{i:09d}"
        frame.loc[i, "email"] = f"person{i:07d}@example.org"
    frame.loc[7, "patient_id"] = "S1-000000017"
    frame.to_csv(tmp_path / "in.csv", index=False)
    config = tiny_config(tmp_path / "out.csv", data=str(tmp_path / "in.csv"), train=FEW_STEPS)
    folder = pipeline.prepare(config, tmp_path / "run")
    pipeline.ingest(folder)
    pipeline.train(folder)
    pipeline.generate(folder)
    made = read_frame(folder.synthetic_path, folder.schema)
    for name in ("patient_id", "email", "name"):
        assert not set(made[name]) & set(frame[name]), name
    assert made["patient_id"].is_unique
    assert made["patient_id"][17] == "S2-000000017"
    assert made["email"][0] == "person1-0000000@example.org"
    # From the bare bundle, without any real row, they are the same.
    drawn = Synthesizer.load(folder.bundle_path).sample(20, seed=1).data
    assert drawn["patient_id"].tolist() == made["patient_id"][:20].tolist()


def test_protection_is_counted_and_not_quoted(finished: Outcome, demo_table: RealTable) -> None:
    found = finished.folder.protection
    assert found is not None
    assert (found["k"], found["of"], found["rows"]) == (10, "rows", 1_200)
    assert found["columns"]["patient_id"] == {"replaced": 1_200}
    train = read_frame(finished.folder.train_path, demo.SCHEMA)
    counts = train["diagnosis"].value_counts()
    merged = found["columns"]["diagnosis"]
    assert merged["rows_merged"] == counts[counts < 10].sum() > 10
    n_levels = int((counts < 10).sum())
    assert merged["levels_merged"] == (n_levels if n_levels >= 10 else "<10")
    facts = json.loads((finished.folder.bundle_path / "bundle.json").read_text())["facts"]
    assert facts["protection"] == found


def test_split_keeps_every_row_once(finished: Outcome, demo_table: RealTable) -> None:
    folder = finished.folder
    halves = [read_frame(p, demo.SCHEMA) for p in (folder.train_path, folder.holdout_path)]
    assert [len(h) for h in halves] == [1_200, 300]
    ids = pd.concat(halves)["patient_id"]
    assert set(ids) == set(demo_table.data["patient_id"])


def test_the_stored_configuration_repeats_the_run(finished: Outcome, tmp_path: Path) -> None:
    config = finished.folder.config.model_copy(update={"to": str(tmp_path / "out.csv")})
    again = run(config, run_dir=tmp_path / "run")
    for name in ("train_path", "synthetic_path"):
        assert sha256(getattr(again.folder, name)) == sha256(getattr(finished.folder, name)), name
    assert sha256(tmp_path / "out.csv") == sha256(Path(finished.folder.config.to))
    assert again.folder.report.measurements == finished.folder.report.measurements


def test_another_seed_gives_other_rows(finished: Outcome) -> None:
    fitted_folder = finished.folder
    first = pipeline.synthetic_table(fitted_folder)
    assert first.seed == 1
    assert first.fingerprint == finished.decision.fingerprint


def test_a_fresh_seed_is_recorded(tiny_config: Configure, tmp_path: Path) -> None:
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv", seed=None), tmp_path / "run")
    assert folder.config.seed is not None


def test_the_log_tells_stages_and_times(finished: Outcome) -> None:
    lines = finished.folder.log_path.read_text().splitlines()
    events = [json.loads(line) for line in lines]
    done = [e["stage"] for e in events if e["event"] == "done"]
    assert done == ["ingest", "train", "generate", "validate", "export"]
    assert finished.folder.training, "training steps are logged"


def test_provenance_names_versions_and_no_path(finished: Outcome) -> None:
    facts = pipeline.provenance(finished.folder)
    assert {"torch", "pandas", "pyarrow", "synthgen", "python"} <= set(facts["versions"])
    assert str(finished.folder.root) not in json.dumps(facts)
    assert "admissions.csv" not in json.dumps(facts)


def test_an_earlier_run_exports_again_to_parquet(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    manifest = pipeline.export_to(folder, tmp_path / "again.parquet")
    schema = folder.schema
    assert fingerprint(read_frame(tmp_path / "again.parquet", schema)) == fingerprint(
        read_frame(folder.synthetic_path, folder.schema)
    )
    assert manifest.rows == 400


# --- the gate -------------------------------------------------------------------------------------


def test_three_tables_of_the_model_are_judged_and_one_is_exported(
    finished: Outcome, tmp_path: Path
) -> None:
    folder = copy_of(finished, tmp_path / "run")
    gate = {**folder.config.gate.model_dump(), "samples": 3}
    config = RunConfig.build({**folder.config.model_dump(), "gate": gate})
    folder.write(folder.config_path, config.to_toml())
    with pytest.raises(ConfigError, match="stage 'generate' not done"):
        pipeline.validate(folder)  # the further draws are missing

    before = sha256(folder.synthetic_path)
    pipeline.generate(folder)
    assert sha256(folder.synthetic_path) == before  # more draws do not change the first
    draws = [read_frame(folder.draw_path_of(k), folder.schema) for k in (2, 3)]
    assert [len(d) for d in draws] == [400, 400]
    assert not draws[0].equals(draws[1])
    pipeline.validate(folder)
    assert {"draw_2", "draw_3"} <= {r.name for r in folder.decision.rules if r.passed}
    assert folder.report.facts["attempts"] == 1  # they are no attempts

    real = read_frame(folder.train_path, folder.schema).head(400)
    folder.write_table(folder.draw_path_of(3), SyntheticTable(folder.schema, real))
    pipeline.validate(folder)
    assert [r.name for r in folder.decision.failing] == ["draw_3"]


def test_a_copy_of_the_training_rows_is_refused(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    schema = folder.schema
    train = read_frame(folder.train_path, schema).head(400)
    folder.write_table(folder.synthetic_path, SyntheticTable(schema, train, seed=1))
    pipeline.validate(folder)
    assert not folder.decision.passed
    assert {"exact_copies", "near_copies"} & {r.name for r in folder.decision.failing}
    with pytest.raises(GateRefused, match="copies"):
        pipeline.export_to(folder, tmp_path / "copy.csv")
    assert not (tmp_path / "copy.csv").exists()


def test_a_fresh_sample_of_the_population_passes(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    fresh = demo.demo_frame(400, seed=99)
    folder.write_table(folder.synthetic_path, SyntheticTable(folder.schema, fresh.data, seed=1))
    strict = folder.config.model_dump(exclude_none=True, exclude={"gate"})
    # 1,500 rows are too few to predict readmission from the real rows either, and to prove power
    strict["gate"] = {"min_utility": None, "prove_power": False, "samples": 1}
    folder.write(folder.config_path, RunConfig.build(strict).to_toml())
    pipeline.validate(folder)
    assert folder.decision.passed, folder.decision.failing


def test_tables_of_one_model_are_counted_once_each(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    assert [folder.attempt("model", mark) for mark in ("a", "a", "b")] == [1, 1, 2]
    assert folder.attempt("another", "a") == 1
    assert folder.report.facts["attempts"] == 1
    config = folder.config.model_dump(exclude_none=True)
    config["gate"]["max_attempts"] = 1
    folder.write(folder.config_path, RunConfig.build(config).to_toml())
    again = demo.demo_frame(400, seed=98)
    folder.write_table(folder.synthetic_path, SyntheticTable(folder.schema, again.data, seed=2))
    pipeline.validate(folder)
    assert [r.name for r in folder.decision.failing] == ["attempts"]


@pytest.mark.slow
def test_judged_again_a_run_has_the_same_report(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    pipeline.validate(folder)
    for name in ("report.json", "decision.json"):  # the page says when it was made
        before = (finished.folder.root / name).read_bytes()
        assert (folder.root / name).read_bytes() == before, name


def test_a_table_changed_after_its_decision_is_refused(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    drawn = read_frame(folder.synthetic_path, folder.schema)
    fewer = SyntheticTable(folder.schema, drawn.head(300), seed=1)
    folder.write_table(folder.synthetic_path, fewer)
    with pytest.raises(GateRefused, match="another table"):
        pipeline.export_to(folder, tmp_path / "out.csv")


def test_a_refused_run_stays_in_quarantine(tiny_config: Configure, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "out.csv", gate={"max_c2st": 0.51})
    outcome = run(config, run_dir=tmp_path / "run")
    assert not outcome.decision.passed
    assert outcome.manifest is None
    assert outcome.folder.synthetic_path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert "c2st" in pipeline.refusal(outcome.decision)


def test_a_crash_while_judging_leaves_no_old_yes(finished: Outcome, tmp_path: Path) -> None:
    folder = copy_of(finished, tmp_path / "run")
    folder.synthetic_path.write_bytes(b"PAR1 damaged")
    with pytest.raises(SynthgenError):
        pipeline.validate(folder)
    assert not folder.decision_path.exists()


def test_a_receipt_notices_a_changed_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    receipt = Receipt("train", str(path), sha256(path), 1)
    pipeline.verify(receipt)
    path.write_text("two")
    with pytest.raises(StageError, match="'train' wrote has changed"):
        pipeline.verify(receipt)


# --- what never starts ----------------------------------------------------------------------------


def refused(config: RunConfig, folder: Path, error: type[SynthgenError], match: str) -> None:
    """Running `config` in `folder` says `match` and leaves nothing that was not there before."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(error, match=match):
        run(config, run_dir=folder / "runs" / "one")
    assert sorted(folder.rglob("*")) == before


def test_existing_target(tiny_config: Configure, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    refused(tiny_config(tmp_path / "out.csv"), tmp_path, TargetExists, "--overwrite")


def test_unwritable_target(tiny_config: Configure, tmp_path: Path) -> None:
    refused(tiny_config(tmp_path / "no" / "out.csv"), tmp_path, ConfigError, "does not exist")


def test_busy_target(tiny_config: Configure, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    with reserve(target):
        refused(tiny_config(target), tmp_path, TargetBusy, "another run")


def test_used_run_folder(tiny_config: Configure, tmp_path: Path) -> None:
    (tmp_path / "runs" / "one").mkdir(parents=True)
    (tmp_path / "runs" / "one" / "file").write_text("mine")
    refused(tiny_config(tmp_path / "out.csv"), tmp_path, TargetExists, "there already")


def test_missing_settings(tmp_path: Path) -> None:
    refused(RunConfig(to=str(tmp_path / "a.csv")), tmp_path, ConfigError, "no input")
    refused(RunConfig(data="a.csv"), tmp_path, ConfigError, "no target")


def test_the_input_itself_is_no_target(tiny_config: Configure, tmp_path: Path) -> None:
    data = tmp_path / "good.csv"
    data.write_text(CELLS)
    config = tiny_config(data, data=str(data), overwrite=True)
    refused(config, tmp_path, ConfigError, "is the input itself")
    assert data.read_text() == CELLS


def test_a_target_may_be_a_file_uri(tiny_config: Configure, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "a.csv")
    uri = config.model_copy(update={"to": f"file://{tmp_path}/a%20b.csv"})
    folder = pipeline.prepare(uri, tmp_path / "run")
    assert folder.config.to == f"{tmp_path}/a b.csv"


def test_a_device_that_is_not_there_is_said_first(tiny_config: Configure, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    refused(tiny_config(tmp_path / "a.csv", device="cuda"), tmp_path, ConfigError, "cuda")


def test_numbers_too_large_to_compute_with(tiny_config: Configure, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CELLS + "1e308,a\n-1e308,b\n")
    config = RunConfig(data=str(tmp_path / "t.csv"), to=str(tmp_path / "a.csv"))
    refused(config, tmp_path, DataError, "column 'age': 2 of 202 rows are 1e.100 or more in size")


def test_a_plan_says_what_mixed_types_became(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CELLS + "c@nary,a\n")
    said = pipeline.plan(RunConfig(data=str(tmp_path / "t.csv"), to=str(tmp_path / "a.csv")))[
        "notes"
    ]
    assert "column 'age' is categorical: 1 of 41 distinct values are no numbers." in said


CELLS = "age,name\n" + "".join(f"{30 + i % 40},n{i % 7}\n" for i in range(200))

BAD_INPUT = {
    "missing file": (None, DataError, "no such file"),
    "empty file": ("", DataError, "empty"),
    "header only": ("age,name\n", DataError, "empty|no rows"),
    "one row": ("age,name\n30,a\n", DataError, "at least 50|1 rows"),
    "two rows": ("age,name\n30,a\n31,b\n", DataError, "at least 50|2 rows"),
    "duplicate names": ("age,age\n" + "1,2\n" * 200, DataError, "2 times"),
    "ragged": (CELLS + "1,2,3\n", DataError, "record|field|column"),
    "wrong encoding": (CELLS.encode() + b"30,\xe9\xff\n", DataError, "utf-8|UTF-8|encod"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input(case: str, tmp_path: Path) -> None:
    content, error, match = BAD_INPUT[case]
    data = tmp_path / "in.csv"
    if content is not None:
        data.write_bytes(content if isinstance(content, bytes) else content.encode())
    config = RunConfig(data=str(data), to=str(tmp_path / "out.csv"), rows=200, seed=0)
    refused(config, tmp_path, error, match)


def test_all_violations_are_listed_at_once(
    tiny_config: Configure, demo_files: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(demo_files / "admissions.csv", dtype=str, keep_default_na=False)
    frame.loc[:2, "ward"] = "CANARY-WARD"
    frame.loc[:4, "cost"] = "CANARY-COST"
    frame.to_csv(tmp_path / "in.csv", index=False)
    config = tiny_config(tmp_path / "out.csv", data=str(tmp_path / "in.csv"))
    with pytest.raises(DataError) as caught:
        run(config, run_dir=tmp_path / "run")
    assert "column 'ward': 3 of 1,500" in str(caught.value)
    assert "column 'cost': 5 of 1,500" in str(caught.value)
    assert "CANARY" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["in.csv"]


def test_a_target_that_is_not_a_column(tiny_config: Configure, tmp_path: Path) -> None:
    refused(tiny_config(tmp_path / "out.csv", target="gone"), tmp_path, SchemaError, "'gone'")


def test_a_target_with_one_class(tmp_path: Path) -> None:
    rows = "".join(f"{i % 40},a\n" for i in range(200))
    (tmp_path / "in.csv").write_text("age,group\n" + rows)
    config = RunConfig(
        data=str(tmp_path / "in.csv"), to=str(tmp_path / "out.csv"), rows=200, target="group"
    )
    refused(config, tmp_path, DataError, "two different values")


def test_a_plan_writes_nothing(tiny_config: Configure, tmp_path: Path) -> None:
    plan = pipeline.plan(tiny_config(tmp_path / "out.csv"))
    assert plan["rows_in"] == 1_500
    assert set(plan["regenerated"]) == {"patient_id", "name", "email"}
    assert not list(tmp_path.iterdir())


def test_events_reach_a_listener(tiny_config: Configure, tmp_path: Path) -> None:
    heard: list[Event] = []
    folder = pipeline.prepare(tiny_config(tmp_path / "out.csv"), tmp_path / "run")
    with listening(heard.append):
        pipeline.ingest(folder)
    assert [e["event"] for e in heard] == ["start", "done"]


def test_the_owners_expectations_travel_and_gate(tiny_config, demo_files, tmp_path):
    for name in ("admissions.csv", "schema.toml"):
        shutil.copy(demo_files / name, tmp_path)
    beside = tmp_path / "schema.expectations.json"
    columns = {"column_A": "discharged", "column_B": "admitted"}
    order = {"type": "expect_column_pair_values_a_to_be_greater_than_b", "kwargs": columns}
    few = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1_000}}
    config = tiny_config(
        tmp_path / "out.csv",
        data=str(tmp_path / "admissions.csv"),
        schema_path=str(tmp_path / "schema.toml"),
        report={"data_docs": True},
    )
    beside.write_text(json.dumps([order, few, {"type": "expect_nonsense"}]))
    with pytest.raises(ConfigError, match="expectation 3: expect_nonsense is no expectation"):
        run(config, run_dir=tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    beside.write_text(json.dumps([order, few]))
    outcome = run(config, run_dir=tmp_path / "run")  # 1,500 rows in, 400 out
    rules = {r.name: r.passed for r in outcome.decision.rules if r.name.startswith("expectation")}
    assert rules == {
        "expectation.1.expect_column_pair_values_a_to_be_greater_than_b": True,
        "expectation.2.expect_table_row_count_to_be_between": False,
    }
    assert [r.name for r in outcome.decision.failing] == [list(rules)[1]]
    assert outcome.manifest is None
    assert "Great Expectations" in outcome.folder.docs_path.read_text()
    beside.unlink()
    assert json.loads(outcome.folder.expectations_path.read_text())[0] == order
