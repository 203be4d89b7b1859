"""synthgen against other generators of tables: the same halves, the same judge, one run.

    python benchmarks/compare.py --data DIR [--tables adult,bank,king] [--seeds 0]
        [--peers synthgen,tabularargn,...] [--judge BENCH] [--out runs/compare] [--venvs runs/venvs]
        [--limit MINUTES] [--redo PEERS] [--report]

Each generator is a process of its own on its own interpreter: `PEERS` names the environment, made
below `--venvs` from the pinned ``peers/<environment>.txt``; synthgen runs on this interpreter. All
of them are timed by BENCH's `common.run_peer`: CPU seconds without imports and without reading CSV,
peak memory of the process. What lies in `--out` already is not run again, so an interrupted run
goes on where it was; a peer that fails is a line that says so. ``--peers synthgen --redo synthgen``
measures synthgen alone anew, ``--report`` only writes the tables. One run at a time in a folder.
Start it under ``taskset -c 0``: the seconds are those of one core.

BENCH (see judge.py) is no part of this repository; without it, or without the halves in DIR, the
run ends at once and says what is missing.

Results, 2026-11-23, one busy core of an AMD EPYC, seed 0 (all columns, ratios, versions and what
has not been run: docs/model.md); errors in %, times in CPU seconds:

    table  generator        shape  trend pairtv   TSTR   C2ST    DCR  fit s  smp s   MiB
    adult  synthgen          0.60    1.6    1.8  0.913  0.559  0.534   71.9   2.42   490
    adult  tabularargn       1.30    4.2    3.1  0.907  0.649  0.519   88.2   0.75   740
    adult  gaussian_copula   7.25   12.5   20.2  0.738  0.995  0.495    3.2   0.32   396
    adult  smote             9.07   16.4   17.1  0.901  0.917  0.571    0.2   8.95  2253
    adult  arf               4.27   38.5   10.3  0.903  0.946  0.585  104.9   7.22   518
    bank   synthgen          0.39    0.9    1.3  0.915  0.573  0.514   81.0   3.94   500
    bank   tabularargn       1.16    4.7    2.7  0.905  0.664  0.515   96.9   1.04   786
    bank   gaussian_copula  12.01   10.3   26.3  0.734  1.000  0.493    5.2   0.54   408
    bank   smote             6.30   10.6   11.7  0.909  0.861  0.558    0.2  22.33  2261
    king   synthgen          0.87    2.0    3.4  0.864  0.681  0.515   78.7   3.60   512
    king   tabularargn       3.11    7.6    7.3  0.836  0.885  0.522  143.0   1.25   751
    king   gaussian_copula  14.72   13.7   34.1  0.569  1.000  0.500    3.2   0.35   395
    king   smote             7.03    7.6   15.2  0.839  0.985  0.587    0.1   3.91   656
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from judge import QUIET, TARGETS, arguments, environment, half_of, judge, parse, words

OWN = "synthgen"
#: Real rows that nobody trained on, judged as if they were synthetic: what there is to reach.
FRESH = "fresh real rows"
FRESH_PARTS = "sdmetrics,pairs,c2st"
PARTS = "sdmetrics,pairs,tstr,trtr,c2st,privacy"
#: A guess, for the time that is left only.
JUDGE_MINUTES = 1.0


@dataclass(frozen=True)
class Peer:
    """A generator.

    Attributes
    ----------
    environment : str or None
        Of ``peers/<environment>.txt``; `None` is this interpreter's own.
    minutes : float
        What a table takes, guessed: for the time that is left only.
    options : tuple of str
        For its runner.
    """

    environment: str | None
    minutes: float
    options: tuple[str, ...] = ()


#: In the order in which they are run; ``fit_sample_<name>.py`` is a peer's runner.
PEERS = {
    OWN: Peer(None, 1.2),
    # It stops by itself when its validation loss does; its runner's cap of 10 minutes of wall time
    # would cut it short on a busy machine.
    "tabularargn": Peer("tabularargn", 1.7, ("--max-minutes=600",)),
    "gaussian_copula": Peer("sdv", 0.2),
    "smote": Peer("smote", 0.2),
    "ctgan": Peer("ctgan", 15.0),
    "arf": Peer("arf", 3.0),
    "tvae": Peer("ctgan", 2.5),
}


@dataclass(frozen=True)
class Job:
    """One fit of one peer, and the files that it leaves in `folder`."""

    folder: Path
    peer: str
    table: str
    seed: int

    def file(self, suffix: str) -> Path:
        """Return ``<folder>/<table>/<peer>.seed<seed><suffix>``."""
        return self.folder / self.table / f"{self.peer}.seed{self.seed}{suffix}"

    @property
    def is_sampled(self) -> bool:
        """Whether its rows are there; the stats are written after them."""
        return self.file(".csv").exists() and self.file(".stats.json").exists()

    @property
    def is_done(self) -> bool:
        """Whether its rows are there and judged."""
        return self.is_sampled and self.file(".scores.json").exists()

    def forget(self) -> None:
        """Remove its files, so that it is run again."""
        for path in self.file("").parent.glob(f"{self.file('').name}.*"):
            path.unlink()


# ---------------------------------------------------------------- running


def fit_and_sample(job: Job, args: argparse.Namespace) -> None:
    """Let a peer write its rows and its stats; what it prints goes into its log.

    Raises
    ------
    subprocess.SubprocessError
        If its environment cannot be made, it fails or it takes longer than the limit.
    """
    name, here = PEERS[job.peer].environment, Path(__file__).parent
    scripts = here if name is None else args.judge
    python = Path(sys.executable) if name is None else environment(args.venvs, name)
    command = [
        python,
        scripts / f"fit_sample_{job.peer}.py",
        f"--train={half_of(args.data, job.table, 'train')}",
        f"--target={TARGETS[job.table]}",
        f"--out={job.file('.csv')}",
        f"--stats={job.file('.stats.json')}",
        f"--seed={job.seed}",
        *PEERS[job.peer].options,
    ]
    # Only synthgen may see what this process was given on its path; all find BENCH's common.py.
    paths = [str(args.judge), *([os.environ.get("PYTHONPATH", "")] if name is None else [])]
    path = os.pathsep.join(filter(None, paths))
    before = cpu_of_children()
    with job.file(".log").open("a") as log:
        subprocess.run(
            command,
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=job.file(".log").parent,
            timeout=60 * args.limit,
            env={**os.environ, **QUIET, "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"},
        )
    stats = json.loads(job.file(".stats.json").read_text())
    stats["process_cpu_s"] = round(cpu_of_children() - before, 2)
    job.file(".stats.json").write_text(json.dumps(stats, indent=1))


def cpu_of_children() -> float:
    """Return the CPU seconds of all processes that were started here and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(job: Job, args: argparse.Namespace) -> str:
    """Do what is missing of a job; return what there is to say, a failure included."""
    job.file("").parent.mkdir(parents=True, exist_ok=True)
    failed = job.file(".failed")
    failed.unlink(missing_ok=True)
    try:
        if not job.is_sampled:
            fit_and_sample(job, args)
        if not job.is_done:
            judge(args, job.table, job.file(".csv"), job.file(".scores.json"), parts=PARTS)
    except subprocess.SubprocessError as e:
        failed.write_text(f"{reason(e)}; see {job.file('.*log').name}")
        return f"FAILED: {failed.read_text()}"
    return "done"


def reason(error: subprocess.SubprocessError) -> str:
    """Return why a process ended badly, without its command line."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"stopped after {error.timeout / 60:.0f} minutes"
    if isinstance(error, subprocess.CalledProcessError):
        return f"ended with {error.returncode}"
    return type(error).__name__


def run_all(jobs: Sequence[Job], args: argparse.Namespace) -> None:
    """Run what is not done yet; a line a job, with the time that is left."""
    todo = [job for job in jobs if not job.is_done]
    cost = [PEERS[job.peer].minutes + JUDGE_MINUTES for job in todo]
    print(f"{len(jobs) - len(todo)} of {len(jobs)} fits lie there already", file=sys.stderr)
    start = time.monotonic()
    for i, job in enumerate(todo):
        left = minutes_left((time.monotonic() - start) / 60, sum(cost[:i]), sum(cost[i:]))
        clock = time.strftime("%H:%M:%S")
        head = f"{clock} {i + 1}/{len(todo)} {job.table} {job.peer} seed {job.seed}"
        print(f"{head}, about {left:.0f} min left: ", end="", file=sys.stderr, flush=True)
        print(run(job, args), file=sys.stderr, flush=True)


def minutes_left(elapsed: float, done: float, left: float) -> float:
    """Scale the minutes guessed for what is `left` by how long what is `done` really took."""
    return left * (elapsed / done if done else 1.0)


def judge_fresh_rows(args: argparse.Namespace, table: str) -> None:
    """Judge the holdout as if it were synthetic, against the training half.

    Raises
    ------
    SystemExit
        If the judge does not work: better now than after hours of fitting.
    """
    out = args.out / table / "fresh.scores.json"
    if out.exists():
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    train, fresh = (half_of(args.data, table, half) for half in ("train", "holdout"))
    try:
        judge(args, table, fresh, out, parts=FRESH_PARTS, holdout=train)
    except subprocess.SubprocessError as e:
        raise SystemExit(f"the judge does not work: {reason(e)}; see {out}.log") from e


# ---------------------------------------------------------------- arithmetic

Figures = dict[str, float]


def figures(scores: Mapping[str, Any], stats: Mapping[str, Any]) -> Figures:
    """Return the figures of one fit, by name; what was not measured is left out.

    Errors and copies are in percent, times in CPU seconds, memory in MiB. ``gap`` is how far a
    model trained on synthetic rows falls short of one trained on real ones (ROC AUC or R2).
    """
    out = {
        "shape": times(100, scores.get("shape_error")),
        "trend": times(100, scores.get("trend_error")),
        "pair TV": times(100, scores.get("pair_tv")),
        "TSTR": usefulness(scores, "tstr"),
        "TRTR": usefulness(scores, "trtr"),
        "C2ST": scores.get("c2st_auc"),
        "DCR share": scores.get("dcr_share"),
        "copies": times(100, scores.get("exact_match_share")),
        "holdout's copies": times(100, scores.get("exact_match_share_holdout")),
        "fit": stats.get("fit_cpu_s"),
        "sample": stats.get("sample_cpu_s"),
        "memory": stats.get("peak_rss_mb"),
    }
    if out["TSTR"] is not None and out["TRTR"] is not None:
        out["gap"] = out["TRTR"] - out["TSTR"]
    if out["sample"]:
        out["speed"] = stats["rows_sampled"] / out["sample"]
    return {name: float(value) for name, value in out.items() if value is not None}


def times(factor: float, value: float | None) -> float | None:
    """Return the product, or `None` where there is no value."""
    return None if value is None else factor * value


def usefulness(scores: Mapping[str, Any], name: str) -> float | None:
    """Return ROC AUC, or R2 for a regression, of ``tstr`` or ``trtr``."""
    parts = scores.get(name, {})
    value: float | None = parts.get("auc", parts.get("r2"))
    return value


def mean(runs: Sequence[Figures]) -> Figures:
    """Return the mean of each figure over the seeds that have it."""
    names = dict.fromkeys(name for one in runs for name in one)
    return {name: fmean(one[name] for one in runs if name in one) for name in names}


def ratio(peer: float | None, own: float | None) -> float | None:
    """Divide a peer's distance from the ideal by synthgen's: above 1 the peer is worse.

    A distance below 0 is noise beyond the ideal and counts as 0; two of 0 are equal, and above
    synthgen's 0 everything is infinitely far.
    """
    if peer is None or own is None:
        return None
    peer, own = max(peer, 0.0), max(own, 0.0)
    if own == 0:
        return 1.0 if peer == 0 else math.inf
    return peer / own


@dataclass(frozen=True)
class Column:
    """A column of the report.

    Attributes
    ----------
    title, name, form : str
        Its head, the figure below it and how that is formatted.
    ideal : float or None
        A ratio compares distances above it; `None` is for figures that have no ratio.
    compared, compared_title : str
        What a ratio compares instead, and its head there; "" is the figure itself.
    """

    title: str
    name: str
    form: str
    ideal: float | None = 0.0
    compared: str = ""
    compared_title: str = ""

    def distance(self, one: Figures) -> float | None:
        """Return how far a generator is from the ideal."""
        value = one.get(self.compared or self.name)
        return None if value is None or self.ideal is None else value - self.ideal


COLUMNS = (
    Column("shape %", "shape", ".2f"),
    Column("trend %", "trend", ".1f"),
    Column("pair TV %", "pair TV", ".1f"),
    Column("TSTR", "TSTR", ".3f", compared="gap", compared_title="TRTR - TSTR"),
    Column("C2ST", "C2ST", ".3f", ideal=0.5, compared_title="C2ST - .5"),
    Column("DCR share", "DCR share", ".3f", ideal=0.5, compared_title="DCR share - .5"),
    Column("copies %", "copies", ".3f", compared_title="copies"),
    Column("fit CPU s", "fit", ".1f", compared_title="fit"),
    Column("sample CPU s", "sample", ".2f", compared_title="sample"),
    Column("rows / CPU s", "speed", ",.0f", ideal=None),
    Column("peak MiB", "memory", ".0f", compared_title="memory"),
)


# ---------------------------------------------------------------- reporting


def report(jobs: Sequence[Job], args: argparse.Namespace) -> str:
    """Return the Markdown of all that lies in ``args.out`` for the asked tables and seeds."""
    seeds = ", ".join(map(str, args.seeds))
    blocks = []
    for table in args.tables:
        of_table = [job for job in jobs if job.table == table]
        means = means_of(of_table)
        lines = [f"### {table}, seeds {seeds}", ""]
        lines += [*absolute({**fresh_of(args.out, table, means), **means}), ""]
        if OWN in means:
            lines += ["Ratios to synthgen, above 1 is worse:", "", *relative(means), ""]
        blocks.append("\n".join([*lines, *remarks(of_table)]).rstrip())
    return "\n\n".join([*blocks, provenance(jobs)]).rstrip() + "\n"


def means_of(jobs: Sequence[Job]) -> dict[str, Figures]:
    """Return each peer's figures, the mean over what is done of `jobs`."""
    runs = {peer: [measured(j) for j in jobs if j.peer == peer and j.is_done] for peer in PEERS}
    return {peer: mean(each) for peer, each in runs.items() if each}


def measured(job: Job) -> Figures:
    """Read the figures of a job that is done."""
    return figures(*(json.loads(job.file(s).read_text()) for s in (".scores.json", ".stats.json")))


def fresh_of(folder: Path, table: str, means: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return the figures of fresh real rows; what the judge says of them beside every peer too."""
    path = folder / table / "fresh.scores.json"
    if not path.exists():
        return {}
    beside = next((one for one in means.values() if "TRTR" in one), {})
    known = {"TSTR": beside.get("TRTR"), "copies": beside.get("holdout's copies")}
    scores = figures(json.loads(path.read_text()), {})
    return {FRESH: scores | {name: v for name, v in known.items() if v is not None}}


def absolute(means: Mapping[str, Figures]) -> list[str]:
    """Return the lines of the table of figures as measured."""
    rows = [
        [peer, *(shown(one.get(c.name), c.form) for c in COLUMNS)] for peer, one in means.items()
    ]
    return markdown(["", *(c.title for c in COLUMNS)], rows)


def relative(means: Mapping[str, Figures]) -> list[str]:
    """Return the lines of the table of ratios to synthgen."""
    own, compared = means[OWN], [c for c in COLUMNS if c.ideal is not None]
    rows = [
        [peer, *(shown(ratio(c.distance(one), c.distance(own)), ".2g") for c in compared)]
        for peer, one in means.items()
        if peer != OWN
    ]
    return markdown(["", *(c.compared_title or c.title for c in compared)], rows)


def shown(value: float | None, form: str) -> str:
    """Format a figure; one that is not there is a dash."""
    return "-" if value is None else f"{value:{form}}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def remarks(jobs: Iterable[Job]) -> list[str]:
    """Return a line for each fit that failed, was not run or could not be judged in full."""
    lines = [(job, remark(job)) for job in jobs]
    return [f"- {job.peer}, seed {job.seed}: {text}" for job, text in lines if text]


def remark(job: Job) -> str:
    """Return what keeps a job from being complete; "" when it is."""
    if job.is_done:
        # The names alone: what a metric says when it fails may quote a cell.
        errors = json.loads(job.file(".scores.json").read_text()).get("errors", {})
        return f"the judge failed at {', '.join(errors)}" if errors else ""
    failed = job.file(".failed")
    return f"failed: {failed.read_text()}" if failed.exists() else "not run"


def provenance(jobs: Iterable[Job]) -> str:
    """Return what was measured, when and on what: each peer's versions, the days, the machine."""
    files = {job.peer: job.file(".stats.json") for job in jobs if job.is_done}
    found = {peer: json.loads(path.read_text())["version"] for peer, path in files.items()}
    days = {date.fromtimestamp(path.stat().st_mtime).isoformat() for path in files.values()}
    each = [
        f"{peer} ({', '.join(f'{what} {version}' for what, version in of.items())})"
        for peer, of in found.items()
    ]
    return f"{machine()}, {', '.join(sorted(days))}. {'; '.join(each)}." if each else ""


def machine() -> str:
    """Return the processor's name as the kernel gives it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def options() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", type=words, default=",".join(PEERS), help="in the order given: %(default)s"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    parser.add_argument("--limit", type=float, default=180.0, help="minutes for one fit")
    parser.add_argument(
        "--redo", type=words, default="", metavar="PEERS", help="measure these anew"
    )
    parser.add_argument("--report", action="store_true", help="only write the tables")
    return parser


def main() -> None:
    """Run what is missing, then print the report and write it to ``compare.md``."""
    parser = options()
    args = parse(parser, scripts="fit_sample_*.py")
    if unknown := [peer for peer in [*args.peers, *args.redo] if peer not in PEERS]:
        parser.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    args.out = args.out.absolute()
    wanted, everything = (
        [Job(args.out, p, t, s) for s in args.seeds for p in peers for t in args.tables]
        for peers in (args.peers, PEERS)
    )
    if not args.report:
        for job in everything:
            if job.peer in args.redo:
                job.forget()
        for table in args.tables:
            judge_fresh_rows(args, table)
        run_all(wanted, args)
    text = report(everything, args)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "compare.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
