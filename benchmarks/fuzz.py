"""Fuzz the loaders of what a stranger may hand over: they load or refuse, and nothing else.

    python benchmarks/fuzz.py --seconds 600            # all targets, one after the other
    python benchmarks/fuzz.py --seconds 60 --target where --corpus runs/corpus

Coverage-guided (atheris, on libFuzzer): synthgen's own modules are instrumented, inputs that reach
new branches are kept and mutated. A target takes bytes and must return, or raise the one error of
its loader; any other exception, more than 2 GiB or more than 10 s is a finding, whose input is
written to `--corpus`/found-*. What was found is kept in tests/faults/test_hostile_files.py.

schema   TOML -> TableSchema -> TOML -> the same again
config   TOML -> RunConfig -> TOML -> the same again
where    a condition parsed against a schema of every kind, then held against rows
bundle   one file of a good bundle replaced, its hash made right; what loads must draw rows

Results: docs/reliability.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

TARGETS = ("schema", "config", "where", "bundle")
#: What a mutation may put in: numbers without end, brackets, words of the formats.
TOKENS = (
    "nan", "inf", "-inf", "null", "true", "1e400", "1e308", "9" * 60, "-1", "0", "[csv]",
    "[[column]]",
    "[[constraint]]", "[train.dp]",
    "kind = ", "name = ", "columns = ", "value = ", "minimum = ",
    "timezone = ", "categories = ", "decimals = ", "9999-12-31T23:59:59-12:00",
    "0001-01-01", "\\u0000",
    "\\ud800", "[[[[[[[[", "{a={a=", " is not null", " in (", "''", "`", "levels", "fine",
)  # fmt: skip
LIMITS = ("-rss_limit_mb=2048", "-timeout=10", "-max_len=65536", "-verbosity=0")

SCHEMA = """
format = 1
name = "every.kind"
[csv]
delimiter = ";"
strip = true
missing = ["?"]
[[column]]
name = "age"
kind = "numeric"
decimals = 0
minimum = 0
maximum = 120
nullable = true
[[column]]
name = "cost"
kind = "numeric"
decimals = 2
[[column]]
name = "sex"
kind = "categorical"
categories = ["f", "m"]
[[column]]
name = "town"
kind = "categorical"
nullable = true
[[column]]
name = "seen"
kind = "datetime"
timezone = "Europe/Berlin"
minimum = "2020-01-01T00:00:00"
[[column]]
name = "born"
kind = "datetime"
resolution = "day"
[[column]]
name = "ill"
kind = "boolean"
categories = ["no", "yes"]
[[column]]
name = "key"
kind = "id"
minimum = 1
[[column]]
name = "who"
kind = "text"
pii = "name"
[[constraint]]
kind = "order"
columns = ["age", "cost"]
"""

CONFIG = """
data = "a.csv"
to = "b.csv"
rows = 100
seed = 1
[train]
preset = "wgan-gp"
steps = 10
critic_steps = 5
[train.dp]
epsilon = 1.0
[gate]
max_c2st = "off"
[scale]
scheduler = "tcp://127.0.0.1:1"
"""

CONDITIONS = (
    "age >= 30",
    "age != 1e300",
    "cost < 0.01",
    "sex in ('f', \"m\")",
    "sex = 'f''m'",
    "seen > 2024-01-31T12:00:00+02:00",
    "born<=9999-12-31",
    "born >= 0001-01-01",
    "ill == yes",
    "town = '{{7*7}}'",
    "age is not null",
    "`cost` is null",
)


def fuzz_schema(data: bytes) -> None:
    """Whatever is accepted must be written and read to the same."""
    from synthgen.errors import SchemaError
    from synthgen.schema import TableSchema

    try:
        schema = TableSchema.from_toml(data.decode("utf-8", "replace"))
    except SchemaError:
        return
    assert TableSchema.from_toml(schema.to_toml()) == schema


def fuzz_config(data: bytes) -> None:
    """Whatever is accepted must be written and read to the same."""
    from synthgen.config import RunConfig
    from synthgen.errors import ConfigError

    try:
        config = RunConfig.from_toml(data.decode("utf-8", "replace"))
    except ConfigError:
        return
    assert RunConfig.from_toml(config.to_toml()) == config


def fuzz_where(data: bytes) -> None:
    """Whatever is accepted must be answered for rows, as a run would ask."""
    from synthgen.ask import conditions
    from synthgen.errors import ConfigError

    schema, frame = _every_kind()
    try:
        found = conditions.parse(data.decode("utf-8", "replace"), schema)
        column = schema.column(found.column)
        conditions.common_bounds([found], column)
        held = found.holds(frame[found.column], column)
    except ConfigError:
        return
    assert held.shape == (len(frame),)
    assert held.dtype == bool


def fuzz_bundle(data: bytes) -> None:
    """Replace the file that the first byte names by the others. What loads must also draw."""
    from synthgen.errors import SynthgenError
    from synthgen.synthesizer import BUNDLE_FILES, Synthesizer

    good, place = _bundle()
    names = (*BUNDLE_FILES, "bundle.json")
    name = names[data[0] % len(names)] if data else names[0]
    files = {**good, name: data[1:]}
    if name != "bundle.json":
        files["bundle.json"] = _signed(files)
    for other, content in files.items():
        (place / other).write_bytes(content)
    try:
        synthesizer = Synthesizer.load(place, device="cpu")
        drawn = synthesizer.sample(3, seed=0)
    except SynthgenError:
        return
    assert len(drawn) == 3


FUNCTIONS: dict[str, Callable[[bytes], None]] = {
    "schema": fuzz_schema,
    "config": fuzz_config,
    "where": fuzz_where,
    "bundle": fuzz_bundle,
}


def seeds(target: str) -> list[bytes]:
    """Return good inputs to start from."""
    if target == "schema":
        return [SCHEMA.encode()]
    if target == "config":
        return [CONFIG.encode(), b"rows = 1"]
    if target == "where":
        return [text.encode() for text in CONDITIONS]
    from synthgen.synthesizer import BUNDLE_FILES

    good, _ = _bundle()
    return [bytes([i]) + good[name] for i, name in enumerate((*BUNDLE_FILES, "bundle.json"))]


def _signed(files: dict[str, bytes]) -> bytes:
    """Return bundle.json with the hashes of `files`: hashes keep no attacker out."""
    import hashlib

    index = json.loads(files["bundle.json"])
    index["files"] = {name: hashlib.sha256(files[name]).hexdigest() for name in index["files"]}
    return json.dumps(index).encode()


@cache
def _every_kind():  # type: ignore[no-untyped-def]
    """Return the schema of every kind, and three canonical rows of it."""
    import pyarrow as pa

    from synthgen.conform import conform
    from synthgen.schema import TableSchema

    schema = TableSchema.from_toml(SCHEMA)
    rows = (
        ("30", "100.50", "f", "=1", "2024-01-31T12:00:00", "1990-01-01", "no", "1", "A"),
        ("", "0.01", "m", "O'Fallon", "2024-03-31T02:30:00", "0001-01-01", "yes", "2", "B"),
        ("120", "10000", "f", "", "2021-01-01T00:00:00", "9999-12-31", "no", "3", "C"),
    )
    columns = zip(*rows, strict=True)
    table = pa.table([pa.array(list(c), pa.string()) for c in columns], names=schema.names)
    return schema, conform(table.to_batches(), schema).data


@cache
def _bundle() -> tuple[dict[str, bytes], Path]:
    """Return the files of a bundle that learnt 60 rows for 2 steps, and a folder to write into."""
    import atexit

    import numpy as np
    import pandas as pd

    from synthgen.config import RunConfig
    from synthgen.schema import Column, TableSchema
    from synthgen.synthesizer import Synthesizer
    from synthgen.table import RealTable

    schema = TableSchema(
        name="small",
        columns=(
            Column(name="x", kind="numeric", decimals=1),
            Column(name="c", kind="categorical"),
            Column(name="d", kind="datetime", resolution="minute"),
            Column(name="key", kind="id"),
        ),
    )
    n = np.arange(60)
    frame = pd.DataFrame(
        {
            "x": n / 10.0,
            "c": pd.Series(np.array(["a", "b"])[n % 2], dtype="str"),
            "d": pd.Series(pd.Timestamp("2024-01-01") + pd.to_timedelta(n * 601, "min")).astype(
                "datetime64[us]"
            ),
            "key": pd.Series([f"k{i}" for i in n], dtype="str"),
        }
    )
    train = {"steps": 2, "critic_steps": 0, "width": 8, "depth": 1, "latent": 2}
    config = RunConfig.build({"train": train, "encode": {"bins": 4}})
    made = Synthesizer.fit(RealTable(schema, frame), config=config, seed=0, device="cpu")
    place = Path(tempfile.mkdtemp(prefix="synthgen-fuzz-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    made.save(place)
    return {path.name: path.read_bytes() for path in place.iterdir()}, place


def _fuzz(target: str, arguments: list[str]) -> None:
    """Fuzz one target until libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["synthgen", "tomllib"]):
        import synthgen.ask.conditions
        import synthgen.config
        import synthgen.schema

        if target == "bundle":
            import synthgen.synthesizer  # noqa: F401
    seeds(target)
    atheris.Setup([sys.argv[0], *arguments], FUNCTIONS[target])
    atheris.Fuzz()


def run(target: str, seconds: int, corpus: Path) -> dict[str, object]:
    """Fuzz one target in a process of its own; return what came of it."""
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (folder / f"seed-{number}").write_bytes(seed)
    words = corpus / "words"
    words.write_text("\n".join(json.dumps(token) for token in TOKENS))
    command = [sys.executable, __file__, "--only", target, str(folder)]
    command += [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={corpus}/found-{target}-",
        *LIMITS,
        f"-dict={words}",
    ]
    command += ["-print_final_stats=1", "-use_value_profile=1"]
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    units = [line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line]
    return {
        "target": target,
        "seconds": round(time.monotonic() - started),
        "inputs": int(units[0]) if units else None,
        "corpus": sum(1 for _ in folder.iterdir()),
        "found": sorted(p.name for p in corpus.glob(f"found-{target}-*")),
        "code": done.returncode,
        "end": said[-1_500:] if done.returncode else "",
    }


def main() -> int:
    """Fuzz what is asked for; exit code 1 if anything was found."""
    if len(sys.argv) > 2 and sys.argv[1] == "--only":
        _fuzz(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="of all targets together")
    parser.add_argument("--target", choices=TARGETS, action="append")
    parser.add_argument("--corpus", type=Path, default=Path("runs/fuzz"))
    asked = parser.parse_args()
    targets = asked.target or list(TARGETS)
    results = [run(t, asked.seconds // len(targets), asked.corpus.absolute()) for t in targets]
    print(json.dumps(results, indent=1))
    return int(any(r["code"] != 0 or r["found"] for r in results))


if __name__ == "__main__":
    raise SystemExit(main())
