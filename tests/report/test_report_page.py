"""The page as a reader, a screen reader, a browser and an attacker meet it."""

import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from synthgen.checks.check import Evidence, Measurement, Report
from synthgen.checks.gate import Decision, decide, judge
from synthgen.config import GatePolicy
from synthgen.report import render
from synthgen.rng import stream
from synthgen.schema import Column, TableSchema

CHROMIUM = shutil.which("chromium")
CANARY, EXTREME = "Zorro-Canary", 987_654.0
HOSTILE = '<script>alert(1)</script>"\u202e&'
VOID = {"meta", "link", "br", "hr", "img", "input"}

SCHEMA = TableSchema(
    name="clinic",
    columns=(
        Column(name="patient", kind="id"),
        Column(name="mail", kind="categorical", pii="email"),
        Column(name="cost", kind="numeric", nullable=True),
        Column(name="age", kind="numeric", decimals=0),
        Column(name=HOSTILE, kind="categorical", nullable=True),
        Column(name="admitted", kind="datetime", timezone="Europe/Berlin"),
        Column(name="emergency", kind="boolean", role="target"),
        Column(name="empty", kind="numeric", nullable=True),
        Column(name="constant", kind="numeric"),
    ),
)


def frame(n: int, seed: int, *, canary: bool = False) -> pd.DataFrame:
    """A clinic: a cost with a spike at 0, a hostile level, and, if asked, a planted person."""
    rng = stream(seed, "clinic")
    cost = np.where(rng.random(n) < 0.4, 0.0, rng.lognormal(6, 1, n)).round(2)
    cost[rng.random(n) < 0.1] = np.nan
    level = rng.choice(["a", "b", HOSTILE], n, p=[0.5, 0.3, 0.2]).astype(object)
    if canary:
        cost[0], level[0] = EXTREME, CANARY
    days = pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    admitted = pd.Series(pd.Timestamp("2023-01-01", tz="Europe/Berlin") + days)
    return pd.DataFrame(
        {
            "patient": pd.Series([f"P{i}" for i in range(n)], dtype="str"),
            "mail": pd.Series([f"p{i}@example.org" for i in range(n)], dtype="str"),
            "cost": cost,
            "age": rng.integers(18, 90, n).astype("float64"),
            HOSTILE: pd.Series(level, dtype="str"),
            "admitted": admitted.dt.as_unit("us"),
            "emergency": pd.Series(rng.random(n) < 0.3, dtype="boolean"),
            "empty": np.full(n, np.nan),
            "constant": np.full(n, 5.0),
        }
    )


def report_of(names: list[str]) -> Report:
    pairs = [
        {"columns": [a, b], "value": 0.01 * (i + j), "control": 0.01}
        for i, a in enumerate(names)
        for j, b in enumerate(names[:i])
    ]
    columns = [{"column": name, "auc_loss": 0.01} for name in names]
    return Report(
        (
            *(
                Measurement(f"ks.{n}", "fidelity", 0.02, 0.01, 0.03, 400, control=0.01)
                for n in names
            ),
            Measurement("pair_tv", "fidelity", 0.05, 0.04, 0.06, 400, details={"pairs": pairs}),
            Measurement(
                "c2st", "fidelity", 0.61, 0.6, 0.62, 400, "AUC", details={"columns": columns}
            ),
            Measurement("tstr", "utility", math.nan, n=400, unit="AUC", better="high"),
            Measurement("exact_copies", "privacy", 0.01, 0.0, 0.02, 400, control=0.02),
            Measurement("schema.output", "schema", 3.0, n=400, unit="violations"),
            Measurement("ours.alone", "privacy", None, status="inconclusive", note=HOSTILE),
        ),
        {"rows": {"train": 400, "holdout": 400, "synthetic": 400}, "fingerprint": "f0f0"},
    )


def evidence_of(*, canary: bool = False, n_synthetic: int = 400) -> Evidence:
    holdout, synthetic = frame(400, 2, canary=canary), frame(n_synthetic, 3, canary=canary)
    return Evidence(SCHEMA, frame(400, 1), holdout, synthetic)


def page(evidence: Evidence | None = None, **parts) -> str:
    report = report_of([c.name for c in SCHEMA.modelled])
    decision = decide(report, GatePolicy(), fingerprint="f0f0")
    log = [{"step": i, "loss": 1 / (i + 1), "critic_loss": math.nan} for i in range(1000)]
    log += [{"step": i, "generator_loss": i / 7, "seconds": 12.0 + i} for i in range(3)]
    given = {
        "training": log,
        "provenance": {"versions": {"synthgen": "0.1.0"}, "note": HOSTILE},
    } | parts
    return render(report, decision, evidence or evidence_of(), **given)


class Outline(HTMLParser):
    """Collects tags, ids, headings and text; fails on unbalanced tags."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def having(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def html() -> str:
    return page()


@pytest.fixture(scope="module")
def outline(html: str) -> Outline:
    return Outline(html)


def test_refused_rules_come_first_with_their_reasons(html):
    text = Outline(html).text
    assert "Refused: this table stays in quarantine" in text
    signs = re.findall(r"(?:✕|✓|\u2013) (refused|met|waived)", text)
    assert signs == sorted(signs, key=["refused", "met", "waived"].index)
    assert {"refused", "met"} <= set(signs)
    assert "was not measured" in text


def test_a_passed_table_says_so():
    decision = Decision(False, (), "f")
    assert "No rule was measured" in render(report_of([]), decision, evidence_of())
    report = report_of(["age", "cost"])
    rules = decide(report, GatePolicy(), fingerprint="f0f0").rules
    met = tuple(r for r in rules if r.passed)
    text = Outline(render(report, Decision(True, met, "f0f0"), evidence_of())).text
    assert "Passed: this table may leave" in text
    assert f"All {len(met)} rules of the gate were measured and met" in text


def test_no_cell_below_ten_rows_is_shown():
    html = page(evidence_of(canary=True))
    assert CANARY not in html
    assert not re.search(r"987[,. ]?654|9\.88e\+05", html)
    assert "other (rare)" in html  # the planted row, together with the rarest common level


def test_ids_and_personal_data_are_named_and_never_drawn(outline, html):
    assert "Not modelled" in outline.text
    assert "patient id mail email" in outline.text
    assert "example.org" not in html
    assert "P399" not in html


def test_hostile_names_are_text(html, outline):
    assert "<script" not in html
    assert "\u202e" not in html
    assert outline.text.count('<script>alert(1)</script>"[U+202E]&') > 5
    assert not any(key.startswith("on") for _, attributes in outline.tags for key in attributes)


def test_nothing_is_loaded_from_anywhere(html, outline):
    assert not re.search(r"https?:|url\(|@import|src=", html)
    assert all(str(a["href"]).startswith("#") for a in outline.having("a"))
    policy = next(a for a in outline.having("meta") if a.get("http-equiv"))
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_headings_descend_one_level_at_a_time(outline):
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_a_screen_reader_finds_its_way(outline):
    names = {tag for tag, _ in outline.tags}
    assert {"header", "nav", "main", "footer", "caption"} <= names
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for a in outline.having("a")]
    labelled = [k for _, a in outline.tags for k in str(a.get("aria-labelledby") or "").split()]
    assert set(targets + labelled) <= set(ids)
    assert all(a.get("role") == "img" and a.get("aria-labelledby") for a in outline.having("svg"))
    assert all(a.get("scope") in ("row", "col") for a in outline.having("th"))


def test_training_draws_the_curves_that_exist(outline):
    assert "loss ends at 0.001" in outline.text
    assert "critic loss" not in outline.text
    assert "The last logged step came after 14 seconds." in outline.text
    assert "No training log" in Outline(page(training=())).text


def test_each_phase_of_training_has_its_own_chart():
    log = [
        {"phase": phase, "step": step, key: value, "stopped": "overfit"}
        for phase, key, value in (("skeleton", "loss", 2.0), ("detail", "critic_loss", -1.0))
        for step in (1, 2)
    ]
    text = Outline(page(training=log)).text
    assert "Skeleton phase: loss" in text
    assert "Detail phase: adversarial losses" in text


def test_the_threshold_is_drawn_on_the_measures_own_scale(html):
    drawn = re.findall(r"0\.610, threshold 0\.950, interval 0\.600 to 0\.620", html)
    assert len(drawn) == 1


@pytest.mark.parametrize("n", [0, 1])
def test_a_tiny_synthetic_table_renders(n):
    evidence = evidence_of()
    tiny = Evidence(SCHEMA, evidence.train, evidence.holdout, evidence.synthetic[:n])
    assert f"{n} synthetic rows" in Outline(page(tiny)).text


def test_nothing_measured_renders():
    report = Report((), {})
    decision = decide(report, GatePolicy(), fingerprint="f")
    none = frame(0, 1)
    text = Outline(render(report, decision, Evidence(SCHEMA, none, none, none))).text
    assert "Refused" in text
    assert "No pair was measured" in text


def test_thirty_columns_stay_below_three_megabytes():
    columns = tuple(Column(name=f"number {i}", kind="numeric") for i in range(30))
    schema = TableSchema(name="wide", columns=columns)
    rng = stream(1, "wide")
    wide = pd.DataFrame({c.name: rng.normal(size=500) for c in columns})
    report = report_of(schema.names)
    decision = decide(report, GatePolicy(), fingerprint="f0f0")
    html = render(report, decision, Evidence(schema, wide, wide, wide))
    assert len(html.encode()) < 3e6 / 4
    Outline(html)


def browse(html: str, folder: Path) -> tuple[str, str]:
    """Load the page in headless Chromium; return the document and what the console said."""
    (folder / "report.html").write_text(html, encoding="utf-8")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-sync dump-dom"
    quiet = "disable-background-networking disable-component-update enable-logging=stderr"
    done = subprocess.run(
        [
            str(CHROMIUM),
            *(f"--{flag}" for flag in f"{flags} {quiet}".split()),
            f"--user-data-dir={folder / 'profile'}",
            (folder / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout, "\n".join(x for x in done.stderr.splitlines() if "CONSOLE" in x)


@pytest.mark.slow
def test_the_judges_own_report_fills_every_section():
    columns = tuple(c for c in SCHEMA.columns if c.name != "empty")
    schema = TableSchema(name="clinic", columns=columns)
    train, holdout, synthetic = (frame(400, seed)[schema.names] for seed in (1, 2, 3))
    evidence = Evidence(schema, train, holdout, synthetic)
    report = judge(evidence)
    decision = decide(report, GatePolicy(), fingerprint=report.facts["fingerprint"])
    outline = Outline(render(report, decision, evidence))
    assert "The column that differs most from real data, " in outline.text
    assert "The worst five pairs" in outline.text
    assert "Columns that give synthetic rows away" in outline.text
    captions = {"Detectors", "Usefulness for prediction", "Copies and near copies"}
    assert captions <= {a.get("aria-label") for _, a in outline.tags}


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_real_browser_has_nothing_to_complain_about(tmp_path: Path, html: str):
    document, console = browse(html, tmp_path)
    assert "Refused: this table stays in quarantine" in Outline(document).text
    assert console == ""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_real_browser_would_report_a_request(tmp_path: Path, html: str):
    # the page's own policy blocks and reports every load, so a silent console means no request
    smuggled = html.replace("<main", '<img alt="" src="http://127.0.0.1:9/pixel.png"><main')
    assert "Content Security Policy" in browse(smuggled, tmp_path)[1]
