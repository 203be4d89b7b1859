"""The page as a reader, a screen reader, a browser and an attacker meet it."""

import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape

from synthgen.checks.check import Evidence, Measurement, Report
from synthgen.checks.gate import Decision, decide, judge
from synthgen.config import GatePolicy
from synthgen.report import Figures, document, render
from synthgen.report.verdict import tiles, title
from synthgen.rng import stream
from synthgen.schema import Column, TableSchema

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


def rendered(report: Report, decision: Decision, evidence: Evidence) -> str:
    return render(report, decision, Figures.of(report, evidence))


def page(evidence: Evidence | None = None, **parts) -> str:
    report = report_of([c.name for c in SCHEMA.modelled])
    decision = decide(report, GatePolicy(), fingerprint="f0f0")
    log = [{"step": i, "loss": 1 / (i + 1), "critic_loss": math.nan} for i in range(1000)]
    log += [{"step": i, "generator_loss": i / 7, "seconds": 12.0 + i} for i in range(3)]
    given = {
        "training": log,
        "provenance": {"versions": {"synthgen": "0.1.0"}, "note": HOSTILE},
    } | parts
    figures = Figures.of(report, evidence or evidence_of(), given.pop("training"))
    return render(report, decision, figures, **given)


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
    assert text.index("Why it was refused") < text.index("Rules of the gate")
    assert "was not measured" in text[: text.index("Rules of the gate")]
    groups = html.split('<details class="group"')[1:]
    assert len(groups) == 5
    words = [re.findall(r'"state \w+">(?:✕|✓|\u2013) (refused|met|waived)<', g) for g in groups]
    assert words == [sorted(w, key=["refused", "met", "waived"].index) for w in words]
    assert {w for group in words for w in group} == {"refused", "met"}
    assert [" open>" in g.split("\n")[0] for g in groups] == ["refused" in w for w in words]


def test_the_verdict_answers_the_questions_of_a_data_owner():
    report = report_of([c.name for c in SCHEMA.modelled])
    decision = decide(report, GatePolicy(), fingerprint="f0f0")
    answers = {tile.question: (tile.word, tile.headline) for tile in tiles(report, decision)}
    assert answers == {
        "Is it safe?": ("No", "1.0\u00a0%"),
        "Does it look real?": ("No", "0.61"),
        "Is it useful?": ("No", ""),
        "Is it well-formed?": ("No", "3"),
        "Can the verdict be trusted?": ("No", "400"),
    }


def test_a_passed_table_says_so():
    decision = Decision(False, (), "f")
    assert "No rule was measured" in rendered(report_of([]), decision, evidence_of())
    report = report_of(["age", "cost"])
    rules = decide(report, GatePolicy(), fingerprint="f0f0").rules
    met = tuple(r for r in rules if r.passed)
    text = Outline(rendered(report, Decision(True, met, "f0f0"), evidence_of())).text
    assert "Passed: this table may leave" in text
    assert f"All {len(met)} rules of the gate were measured and met" in text


@pytest.mark.parametrize("table", ["train", "holdout"])
def test_no_cell_below_ten_rows_is_shown(table):
    real = {"train": frame(400, 1), "holdout": frame(400, 2)}
    real[table] = frame(400, 4, canary=True)
    evidence = Evidence(SCHEMA, **real, synthetic=frame(400, 3, canary=True))
    report = report_of([c.name for c in SCHEMA.modelled])
    decision = decide(report, GatePolicy(), fingerprint="f0f0")
    figures = Figures.of(report, evidence)
    assert figures.joints
    shown = render(report, decision, figures) + json.dumps(document(report, decision, figures, {}))
    assert CANARY not in shown
    assert not re.search(r"987[,. ]?654|9\.88e\+05", shown)
    assert "other (rare)" in shown  # the planted row, together with the rarest common level


def test_the_json_holds_what_the_page_shows(html):
    report = report_of([c.name for c in SCHEMA.modelled])
    decision = decide(report, GatePolicy(), fingerprint="f0f0")
    figures = Figures.of(report, evidence_of(), [{"step": i, "loss": 3.0 - i} for i in range(3)])
    made = {"created": "now", "run": "r", "seed": 1}
    text = json.dumps(document(report, decision, figures, made), allow_nan=False)
    shown = json.loads(text)
    assert Report.from_json(text) == report
    assert shown["passed"] is decision.passed
    assert [rule["name"] for rule in shown["rules"]] == [rule.name for rule in decision.rules]
    assert shown["provenance"] == {"seed": 1}  # the clock would make every file another one
    assert set(shown["columns"]) == {c.name for c in SCHEMA.modelled}
    age = shown["columns"]["age"]["cells"]
    assert sum(cell["synthetic"] for cell in age) == pytest.approx(1)
    assert all(escape(cell["label"]) in html for cell in age)
    assert shown["training"]["curves"]["Loss"]["training loss"] == [[0, 3.0], [1, 2.0], [2, 1.0]]


def test_the_worst_pairs_are_shown_cell_by_cell(outline):
    assert "The worst five in detail" in outline.text
    titles = [a["aria-label"] for a in outline.having("div") if a.get("aria-label")]
    assert sum(t.endswith(": Difference") for t in titles) == 5


def test_every_measurement_has_a_place():
    found = (
        Measurement("tail.age", "fidelity", 0.1, 0.05, 0.15, 9, "distance"),
        Measurement("alpha_precision", "fidelity", 0.9, 0.8, 1.0, 9, better="high"),
        Measurement("mutual_information", "fidelity", 0.2, n=9, unit="nats"),
        Measurement("propensity_pmse", "fidelity", 0.2, n=9, unit="ratio"),
        Measurement("speed", "performance", 3.0, n=9, unit="s"),  # type: ignore[arg-type]
    )
    report = Report(found, {})
    html = rendered(report, decide(report, GatePolicy(), fingerprint="f"), evidence_of())
    places = {
        m.name: html[: html.index(f">{title(m.name)}</bdi></th>")].rindex("<section id=")
        for m in found
    }
    sections = {name: html[at:].split('"')[1] for name, at in places.items()}
    assert sections == {
        "tail.age": "columns",
        "alpha_precision": "columns",
        "mutual_information": "pairs",
        "propensity_pmse": "detection",
        "speed": "other",
    }


def test_ids_and_personal_data_are_named_and_never_drawn(outline, html):
    assert "Not modelled" in outline.text
    assert "patient id mail email" in outline.text
    assert "example.org" not in html
    assert "P399" not in html


def test_a_report_beyond_epsilon_says_first_that_it_is_private(html):
    private = page(provenance={"dp": {"epsilon": 1.0, "delta": 1e-6}})
    assert private.index("<strong>Private.</strong>") < private.index('id="decision"')
    assert "<strong>Private.</strong>" not in html


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
    assert "Time 14 s" in outline.text
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
    assert "Distributions" in Outline(page(tiny)).text


def test_nothing_measured_renders():
    report = Report((), {})
    decision = decide(report, GatePolicy(), fingerprint="f")
    none = frame(0, 1)
    text = Outline(rendered(report, decision, Evidence(SCHEMA, none, none, none))).text
    assert "Refused" in text
    assert "No pair was measured" in text


def test_thirty_columns_stay_below_three_megabytes():
    columns = tuple(Column(name=f"number {i}", kind="numeric") for i in range(30))
    schema = TableSchema(name="wide", columns=columns)
    rng = stream(1, "wide")
    wide = pd.DataFrame({c.name: rng.normal(size=500) for c in columns})
    report = report_of(schema.names)
    decision = decide(report, GatePolicy(), fingerprint="f0f0")
    html = rendered(report, decision, Evidence(schema, wide, wide, wide))
    assert len(html.encode()) < 3e6 / 4
    Outline(html)


@pytest.mark.slow
def test_the_judges_own_report_fills_every_section():
    columns = tuple(c for c in SCHEMA.columns if c.name != "empty")
    schema = TableSchema(name="clinic", columns=columns)
    train, holdout, synthetic = (frame(400, seed)[schema.names] for seed in (1, 2, 3))
    evidence = Evidence(schema, train, holdout, synthetic)
    report = judge(evidence)
    decision = decide(report, GatePolicy(), fingerprint=report.facts["fingerprint"])
    outline = Outline(rendered(report, decision, evidence))
    assert "The column furthest off, " in outline.text
    assert "The worst five pairs" in outline.text
    assert "Columns that give synthetic rows away" in outline.text
    captions = {"Detectors", "Usefulness for prediction", "Copies, attacks and controls"}
    assert captions <= {a.get("aria-label") for _, a in outline.tags}
