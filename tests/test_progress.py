"""What a person sees of a run on a terminal and in a log."""

import io
from xml.etree import ElementTree

import pytest
from rich.console import Console

from synthgen import progress as module
from synthgen import run_folder
from synthgen.demo import SCHEMA, demo_frame
from synthgen.pipeline import ingest, prepare, previews, train
from synthgen.progress import Watch, progress, sparkline
from synthgen.report.preview import preview
from synthgen.run_folder import counted, listening
from synthgen.table import read_packed

STEPS = [
    {"event": "device", "stage": "train", "device": "cpu"},
    *(
        {"event": "step", "phase": "skeleton", "step": s, "steps": 100, "loss": loss, "seconds": s}
        for s, loss in ((20, 3.0), (40, 2.0))
    ),
    {"event": "step", "phase": "skeleton", "step": 30, "steps": 100, "holdout_loss": 2.25},
    {"event": "step", "phase": "skeleton", "step": 40, "steps": 100, "holdout_loss": 2.5},
]


def test_a_long_curve_is_averaged_into_its_width():
    assert sparkline([0.0] * 500 + [7.0] * 500, width=4) == "▁▁██"
    assert len(sparkline(range(1000))) == 40


def test_training_is_told_in_words():
    watch = Watch()
    for event in STEPS:
        watch.see(event)
    assert watch.line() == "step 40 of 100, loss 2.000, held-out 2.500, about 60 s left"
    loss, held, pace = watch.lines()
    assert loss.split() == ["loss", "█▁", "2.000"]
    assert held.split() == ["held-out", "▁█", "2.500", "(best", "2.250", "at", "step", "30)"]
    assert pace.strip() == "cpu, 1.0 steps/s, about 60 s left"


def test_another_phase_starts_from_nothing():
    watch = Watch()
    for event in STEPS:
        watch.see(event)
    watch.see({"event": "step", "phase": "detail", "step": 1, "steps": 9, "critic_loss": -1.0})
    assert [line.split()[0] for line in watch.lines()] == ["critic", "cpu"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_shows_curves_while_training_lasts(encoding):
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=screen, force_terminal=True, width=110, highlight=False)
    with progress(console) as listener:
        listener({"event": "start", "stage": "train"})
        for event in STEPS:
            listener(event)
        console.print(listener)  # type: ignore[arg-type]
        listener({"event": "done", "stage": "train", "seconds": 1.0})
    screen.flush()
    shown = screen.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert "held-out" in shown
    assert ("█" in shown) == (encoding == "utf-8")
    assert "best 2.250 at step 30" in shown
    assert "train     done in 1.0 s" in shown


def test_elsewhere_there_are_plain_lines_now_and_then(monkeypatch):
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", 0.0)
    text = io.StringIO()
    with progress(Console(file=text)) as listener:
        for event in (*STEPS, {"event": "done", "stage": "train", "seconds": 1.0}):
            listener(event)
    lines = text.getvalue().splitlines()
    assert lines[-2] == "train     step 40 of 100, loss 2.000, held-out 2.500, about 60 s left"
    assert lines[-1] == "train     done in 1.0 s"
    assert "\x1b" not in text.getvalue()


def test_rows_are_counted_with_the_time_left(monkeypatch):
    clock = iter([0.0, 2.0, 3.0])
    monkeypatch.setattr(run_folder.time, "monotonic", lambda: next(clock))
    watch, lines, used = Watch(), [], []

    def listener(event):
        assert event["stage"] == "draw"
        watch.see(event)
        lines.append(watch.line())

    with listening(listener):
        for part in counted([[0] * 1_000, [0] * 200], 1_200, stage="draw"):
            assert len(lines) == len(used)  # a part counts once it was used
            used.append(len(part))
    assert used == [1_000, 200]
    assert lines == ["1,000 of 1,200 rows, about 0 s left", "1,200 of 1,200 rows, about 0 s left"]


@pytest.mark.slow
def test_previews_are_private_and_change_no_byte(finished, tiny_config, tmp_path):
    config = tiny_config(tmp_path / "out.csv", report={"preview_minutes": 0})
    folder = prepare(config, tmp_path / "run")
    ingest(folder)
    train(folder)
    for file in ("generator.safetensors", "encoder.json", "config.toml", "bundle.json"):
        kept = finished.folder.bundle_path / file
        assert (folder.bundle_path / file).read_bytes() == kept.read_bytes(), file
    pictures = sorted((folder.private / "preview").iterdir())
    assert len(pictures) > 3
    assert pictures[-1].name == "step-000040.svg"
    assert (folder.private / "preview").stat().st_mode & 0o777 == 0o700
    assert {p.stat().st_mode & 0o777 for p in pictures} == {0o600}
    for path in pictures:
        drawn = ElementTree.fromstring(path.read_text())
        assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
        names = [e.text for e in drawn.iter() if e.get("class") == "name"]
        assert names[0].startswith(f"demo, step {int(path.stem[-6:])}: 2,000 rows drawn; real")
        assert {"ward", "cost", "admitted"} <= set(names)


@pytest.mark.slow
def test_a_preview_that_fails_is_a_note(
    finished, tiny_config, tiny_synthesizer, tmp_path, monkeypatch
):
    def broken(*args: object) -> str:
        raise ValueError("cell 12.34")

    monkeypatch.setattr("synthgen.report.preview.preview", broken)
    config = tiny_config(tmp_path / "out.csv", report={"preview_minutes": 0})
    rows = read_packed(finished.folder.train_path, finished.folder.schema)
    told: list[str] = []
    watch = previews(config, rows, tmp_path / "preview", 0, told.append)
    assert watch is not None
    watch(tiny_synthesizer, 40)
    assert told == ["a preview could not be drawn (ValueError)"]


def test_previews_suppress_what_few_share():
    rows = demo_frame(600, seed=1).data
    rows.loc[0, "ward"], rows.loc[0, "cost"] = "Zorro-Canary", 987_654.0
    drawn = preview(SCHEMA, rows, rows, "a < b")
    assert "Zorro" not in drawn
    assert "987" not in drawn
    assert "a &lt; b" in drawn
