"""Issue 8, parts 5 and 6: files that a stranger may hand over are refused, or do no harm.

Every refusal is one of ours, says what is wrong, and comes before anything large is allocated. The
tables below also hold what fuzzing found (`benchmarks/fuzz.py`).
"""

from __future__ import annotations

import gzip
import io
import json
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from benchmarks import fuzz
from synthgen.ask import conditions
from synthgen.config import RunConfig
from synthgen.conform import conform
from synthgen.errors import BundleError, ConfigError, DataError, SchemaError
from synthgen.schema import Column, TableSchema
from synthgen.sources import delimited, open_source
from synthgen.synthesizer import Synthesizer

survives = pytest.mark.survives
INPUTS, FILES = "Inputs", "Hostile files"
DIGITS = "9" * 5_000
BEYOND_FLOATS = "1" + "0" * 400
TEMPLATES = '["{{7*7}}", "${jndi:ldap://x}", "%s", "{0.__class__}", "$(id)", "`id`"]'


@pytest.fixture(autouse=True)
def _no_more_than_8_gib() -> Any:
    """What tries to allocate more fails here instead of taking the machine with it."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


# --- schemas --------------------------------------------------------------------------------------


def column(kind: str, extra: str = "", csv: str = "") -> str:
    return f'format = 1\nname = "t"\n{csv}\n[[column]]\nname = "a"\nkind = "{kind}"\n{extra}'


def constant(value: str) -> str:
    other = '\n[[column]]\nname = "b"\nkind = "numeric"\n'
    rule = f'[[constraint]]\nkind = "constant"\ncolumns = ["a", "b"]\nvalue = {value}'
    return column("numeric") + other + rule


SCHEMAS = {
    "5,000 digits": (column("numeric", f"minimum = {DIGITS}"), "not valid TOML"),
    "beyond floats": (column("numeric", f"minimum = {BEYOND_FLOATS}"), "must be finite"),
    "an id beyond floats": (column("id", f"minimum = {BEYOND_FLOATS}"), "must be finite"),
    "nan": (column("numeric", "maximum = nan"), "must be finite"),
    "decimals beyond all": (column("numeric", f"decimals = {BEYOND_FLOATS}"), "lies in 0..15"),
    "deep arrays": ("format = " + "[" * 5_000 + "]" * 5_000, "not valid TOML"),
    "deep tables": ("a = " + "{a=" * 3_000 + "1" + "}" * 3_000, "not valid TOML"),
    "deep keys": ("a" + ".a" * 5_000 + " = 1", "unknown key"),
    "a lone surrogate": ('format = 1\nname = "\\ud800"', "not valid TOML"),
    "constraints are a number": ("constraint = 3\n" + column("numeric"), "an array of tables"),
    "a constraint is a table": (column("numeric") + '\n[constraint]\nkind = "sum"', "an array"),
    "a constant beyond floats": (constant(BEYOND_FLOATS), "must be finite"),
    "a constant of nan": (constant("nan"), "must be finite"),
    "a delimiter is a line end": (column("numeric", csv='[csv]\ndelimiter = "\\n"'), "one ASCII"),
    "a delimiter is a quote": (column("numeric", csv="[csv]\ndelimiter = '\"'"), "one ASCII"),
    "a delimiter is an emoji": (column("numeric", csv='[csv]\ndelimiter = "😀"'), "one ASCII"),
    "a delimiter is NUL": (column("numeric", csv='[csv]\ndelimiter = "\\u0000"'), "one ASCII"),
    "a zone is a path": (column("datetime", 'timezone = "../../etc/passwd"'), "no IANA zone"),
    "a zone is a folder": (column("datetime", 'timezone = "Europe"'), "no IANA zone"),
    "a zone has NUL": (column("datetime", 'timezone = "a\\u0000b"'), "no IANA zone"),
    "a bound leaves the calendar": (
        column("datetime", 'timezone = "UTC"\nmaximum = "9999-12-31T23:59:59-12:00"'),
        "not ISO 8601",
    ),
    "a name is a template": ('format = 1\nname = "{{7*7}}"', "letters, digits"),
    "a name goes up": (column("numeric").replace('"t"', '"../t"'), "letters, digits"),
}  # fmt: skip


@survives(
    FILES, "schemas: huge numbers, deep nesting, NaN, odd delimiters, paths for zones: refused"
)
@pytest.mark.parametrize("case", SCHEMAS)
def test_a_hostile_schema_is_refused(case: str) -> None:
    text, message = SCHEMAS[case]
    with pytest.raises(SchemaError, match=message):
        TableSchema.from_toml(text)


@survives(FILES, "template strings in schemas, configurations and conditions stay texts")
def test_template_strings_stay_texts() -> None:
    schema = TableSchema.from_toml(column("categorical", f"categories = {TEMPLATES}"))
    assert schema.columns[0].categories is not None
    assert "{{7*7}}" in schema.columns[0].categories
    assert TableSchema.from_toml(schema.to_toml()) == schema


@survives(FILES, "codecs that are none of text: refused")
@pytest.mark.parametrize(
    "codec", ["hex", "rot13", "zlib", "punycode", "undefined", "a\0b", "", ".."]
)
def test_a_codec_that_is_none_of_text_is_refused(codec: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n")
    schema = TableSchema(name="t", columns=(Column(name="a", kind="numeric"),), encoding=codec)
    with pytest.raises(DataError, match=r"csv\.encoding is unknown"):
        open_source(str(tmp_path / "t.csv"), schema)


# --- configurations -------------------------------------------------------------------------------

CONFIGS = {
    "5,000 digits": (f"rows = {DIGITS}", "not valid TOML"),
    "beyond floats": (f"rows = {BEYOND_FLOATS}", "rows: "),
    "deep arrays": ("data = " + "[" * 5_000 + "]" * 5_000, "not valid TOML"),
    "deep tables": ("train" + ".dp" * 3_000 + " = 1", "Extra inputs"),
    "learning rate of nan": ("[train]\nlearning_rate = nan", "finite number"),
    "endless minutes": ("[train]\nmax_minutes = inf", "finite number"),
    "clip of nan": ("[train]\nclip_grad = nan", "finite number"),
    "a gate of nan": ("[gate]\nmax_dcr_z = nan", "finite number"),
    "a gate without end": ("[gate]\nmax_dcr_z = inf", "finite number"),
    "a drift without end": ("[drift]\nmax_psi = inf", "finite number"),
    "epsilon of nan": ("[train.dp]\nepsilon = nan", "finite number"),
    "a date for a path": ("data = 2020-01-01", "valid string"),
    "NUL in a path": ('data = "a\\u0000b"', "NUL"),
    "NUL in a target": ('to = "a\\u0000b.csv"', "NUL"),
    "a password": ('data = "postgresql://u:hunter2@h/d?table=t"', "holds a password"),
    "a scheduler with a user": ('[scale]\nscheduler = "tcp://u:p@h:1"', "pattern"),
}  # fmt: skip


@survives(FILES, "configurations: huge numbers, deep nesting, NaN, passwords: refused")
@pytest.mark.parametrize("case", CONFIGS)
def test_a_hostile_configuration_is_refused(case: str) -> None:
    text, message = CONFIGS[case]
    with pytest.raises(ConfigError, match=message) as caught:
        RunConfig.from_toml(text)
    assert "hunter2" not in str(caught.value)


@survives(FILES, "template strings in schemas, configurations and conditions stay texts")
def test_a_path_is_never_expanded() -> None:
    text = "{{7*7}}${HOME}$(id)`id`~"
    assert RunConfig.from_toml(f'data = "{text}"').data == text


# --- conditions -----------------------------------------------------------------------------------

REFUSED_CONDITIONS = (
    '__import__("os").system("id") = 1', 'age = __import__("os").system("id")', "age = nan",
    "age >= 1e400", "age >= 0x10", "age in ()", "age in (1,,2)", "sex in (((((", "seen > now",
    "seen < 9999-12-31T23:59:59-12:00", "seen >9999-12-31T03:59:59-1900", "born = 0000-01-01",
    "ill in (yes, maybe)", "key = 1", "who = 'a'", "age; DROP TABLE t", "age = 1 or 1 = 1",
    "=1", "", "\0=1", '"=1', "age > " + "9" * 990, "a" * 1_001,
)  # fmt: skip


@survives(FILES, "conditions that try to run code, or are none: refused")
@pytest.mark.parametrize("text", REFUSED_CONDITIONS)
def test_a_condition_that_is_none_is_refused(text: str) -> None:
    schema, _ = fuzz._every_kind()
    with pytest.raises(ConfigError):
        conditions.parse(text, schema)


@survives(FILES, "template strings in schemas, configurations and conditions stay texts")
@pytest.mark.parametrize("text", ["town = '{{7*7}}'", "town = 'a'' or 1=1 --'", "cost > 1e308"])
def test_a_condition_is_data(text: str) -> None:
    """It holds for no row, and nothing else happens."""
    schema, frame = fuzz._every_kind()
    found = conditions.parse(text, schema)
    assert not found.holds(frame[found.column], schema.column(found.column)).any()


# --- what fuzzing starts from, and what it found --------------------------------------------------


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_every_seed_of_the_fuzzer_loads(target: str) -> None:
    for seed in fuzz.seeds(target):
        fuzz.FUNCTIONS[target](seed)


@survives(INPUTS, "fuzzed schemas, configurations, conditions, bundles (inputs): loaded or refused")
@pytest.mark.faults
@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_five_seconds_of_fuzzing_find_nothing(
    target: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    pytest.importorskip("atheris", reason="no wheel for this Python or machine")
    result = fuzz.run(target, 5, tmp_path)
    assert not result["found"], result
    assert result["code"] == 0, result
    assert int(str(result["inputs"])) > 50
    record_property("tried", result["inputs"])


# --- packed and odd CSV ---------------------------------------------------------------------------

ONE = TableSchema(name="t", columns=(Column(name="a", kind="numeric", nullable=True),))


@survives(FILES, "packed CSV that unpacks without end: refused")
@pytest.mark.parametrize(
    ("head", "unit", "message"),
    [
        (b'a\n"', b"x", "a quote left open"),
        (b"a", b"x", "the file is empty|a header and no rows|a quote left open"),
        (b"a", b"\n", "a header and no rows"),
        (b"a\n", b"1\n", "times its size, as a bomb does"),
    ],
)
def test_a_bomb_is_refused(
    head: bytes, unit: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """16 MiB behind 16 KiB: never more than a block of it is held."""
    monkeypatch.setattr(delimited, "MAX_UNPACKED", 2**22)
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(16):
            file.write(unit * (2**20 // len(unit)))
    with pytest.raises(DataError, match=message):
        conform(open_source(str(path), ONE).batches(), ONE)


@survives(INPUTS, "a cell of 1 MB, a header of 100,000 names: read")
def test_a_cell_of_a_million_letters_is_read(tmp_path: Path) -> None:
    schema = TableSchema(name="t", columns=(Column(name="a", kind="categorical"),))
    (tmp_path / "t.csv").write_text(f'a\n"{"x" * 10**6}"\ny\n')
    table = conform(open_source(str(tmp_path / "t.csv"), schema).batches(), schema)
    assert [len(cell) for cell in table.data["a"]] == [10**6, 1]


@survives(INPUTS, "a cell of 1 MB, a header of 100,000 names: read")
def test_a_header_of_100_000_names_is_read(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(100_000)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join("1" * 100_000) + "\n")
    assert open_source(str(tmp_path / "t.csv")).names == names


def test_half_a_million_equal_names_are_counted_in_time(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a," * 500_000 + "b\n1\n")
    with pytest.raises(DataError, match="column 'a' appears 500000 times"):
        open_source(str(tmp_path / "t.csv"))


# --- bundles --------------------------------------------------------------------------------------

Change = Callable[[Any], object]


def loaded(files: dict[str, bytes], folder: Path) -> Synthesizer:
    """Load the small bundle with some of its files replaced, hashes made right."""
    good, _ = fuzz._bundle()
    together = {**good, **files}
    if "bundle.json" not in files:
        together["bundle.json"] = fuzz._signed(together)
    for name, content in together.items():
        (folder / name).write_bytes(content)
    return Synthesizer.load(folder, device="cpu")


def changed(name: str, change: Change) -> dict[str, bytes]:
    """Return file `name` of the small bundle after `change` of what its JSON holds."""
    state = json.loads(fuzz._bundle()[0][name])
    change(state)
    return {name: json.dumps(state).encode()}


def number(key: str, value: Any, at: int | None = None) -> Change:
    """Return the change of one thing of the first column's encoder, which is numeric."""

    def change(state: Any) -> None:
        encoder = state["parts"][0]["encoder"]
        if at is None:
            encoder[key] = value
        else:
            encoder[key][at] = value

    return change


def level(key: str, value: Any) -> Change:
    """Return the change of one thing of the second column's encoder, which is categorical."""
    return lambda state: state["parts"][1]["encoder"].__setitem__(key, value)


NAN, INF = float("nan"), float("inf")
ENCODERS: dict[str, Change] = {
    "a level of 10^12": number("level", 10**12, 0),
    "a level below 0": number("level", -5, 0),
    "a fine token of 10^9": number("fine", 10**9, 0),
    "a bound of nan": number("lower", NAN, 0),
    "a bound of infinity": number("lower", -INF, 0),
    "bounds the wrong way": number("lower", [1e9, 1e9, 1e9]),
    "too few bounds": number("lower", [0.0]),
    "a count below 0": number("counts", -3.0, 0),
    "too few counts": number("counts", [1.0]),
    "a unit of 0": number("unit", 0),
    "a unit of nan": number("unit", NAN),
    "a unit that is a text": number("unit", "1"),
    "steps of 0": number("steps", [0] * 11),
    "steps that are texts": number("steps", ["a"] * 11),
    "no steps": number("steps", []),
    "tails of nan": number("tails", [NAN, 1.0]),
    "tails below 0": number("tails", [-1.0, 1.0]),
    "habits of nan": number("habits", [[NAN] * 11] * 4),
    "too few habits": number("habits", [[0.0] * 11]),
    "a type that is code": number("type", "os.system"),
    "levels that are numbers": level("levels", [1, 2]),
    "levels that are nothing": level("levels", [None, None]),
    "levels twice": level("levels", ["a", "a"]),
    "a million levels": level("levels", [str(i) for i in range(10**6)]),
    "level counts of nan": level("counts", [1.0, NAN, 1.0, 1.0]),
    "level counts below 0": level("counts", [1.0, -5.0, 1.0, 1.0]),
    "a view that is code": lambda s: s["parts"][0].update(view="__class__"),
    "a column that is a table": lambda s: s["parts"][0].update(column={}),
    "a part twice": lambda s: s["parts"].append(s["parts"][0]),
    "a relation that is code": lambda s: s["relations"].append({"type": "eval", "derived": "x"}),
    "a relation to nowhere": lambda s: s["relations"].append(
        {"type": "difference", "derived": "x", "total": "y", "other": "z", "decimals": 0,
         "minimum": None}
    ),
    "a list": lambda s: s.clear(),
}  # fmt: skip


@survives(FILES, "bundles: an encoder or network that does not fit, or asks for terabytes: refused")
@pytest.mark.parametrize("case", ENCODERS)
def test_a_bundle_with_a_hostile_encoder_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        loaded(changed("encoder.json", ENCODERS[case]), tmp_path)


INDEXES: dict[str, Change] = {
    "a newer version": lambda i: i.update(format=99),
    "a width of 10^6": lambda i: i["network"].update(width=10**6),
    "a depth of 10^8": lambda i: i["network"].update(depth=10**8),
    "a depth below 0": lambda i: i["network"].update(depth=-1),
    "a width without end": lambda i: i["network"].update(width=INF),
    "another network": lambda i: i["network"].update(tree=True),
    "no files": lambda i: i.pop("files"),
    "rows without end": lambda i: i["facts"].update(rows=INF),
    "facts that are a text": lambda i: i.update(facts="x"),
    "namespaces that are a text": lambda i: i.update(namespaces="x"),
}


@survives(FILES, "bundles: an encoder or network that does not fit, or asks for terabytes: refused")
@pytest.mark.parametrize("case", INDEXES)
def test_a_bundle_with_a_hostile_index_is_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        loaded(changed("bundle.json", INDEXES[case]), tmp_path)


@survives(FILES, "bundles: paths and links that lead elsewhere: not followed")
def test_a_path_in_the_index_is_never_opened(tmp_path: Path) -> None:
    outside = changed("bundle.json", lambda i: i["files"].update({"../../etc/passwd": "0"}))
    assert loaded(outside, tmp_path).schema.name == "small"
    assert {p.name for p in tmp_path.iterdir()} == {*fuzz._bundle()[0]}


@survives(FILES, "bundles: an encoder or network that does not fit, or asks for terabytes: refused")
def test_json_that_is_too_deep_or_too_long_is_refused(tmp_path: Path) -> None:
    for content in (b"[" * 200_000, b'{"format":' + DIGITS.encode() + b"}", b"\xff\xfe"):
        for name in ("bundle.json", "encoder.json"):
            with pytest.raises(BundleError):
                loaded({name: content}, tmp_path)


class _Runs:
    """Says so if it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/synthgen-was-run"),))


def _torch_file() -> bytes:
    file = io.BytesIO()
    torch.save({"weights": torch.zeros(1)}, file)
    return file.getvalue()


def _header(text: bytes, claimed: int | None = None) -> bytes:
    return (len(text) if claimed is None else claimed).to_bytes(8, "little") + text


WEIGHTS = {
    "a pickle": pickle.dumps(_Runs()),
    "a file of torch.save": _torch_file(),
    "a header of 2^62 bytes": _header(b"{}", 2**62),
    "a header of 20 MB": _header(b"{" + b" " * 20_000_000),
    "a shape of 2^60": _header(
        json.dumps(
            {"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 8]}}
        ).encode()
    )
    + bytes(8),
    "nothing": b"",
}


@survives(FILES, "bundles: pickles, headers and shapes that claim too much: refused")
@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_are_none_are_refused(case: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        loaded({"generator.safetensors": WEIGHTS[case]}, tmp_path)
    assert not Path("/tmp/synthgen-was-run").exists()


State = dict[str, torch.Tensor]
STATES: dict[str, Callable[[State], State]] = {
    "nan": lambda s: {name: t * NAN for name, t in s.items()},
    "infinity": lambda s: {name: t + INF for name, t in s.items()},
    "one more": lambda s: {**s, "more": torch.zeros(10**6)},
    "one less": lambda s: dict(list(s.items())[1:]),
    "a wrong shape": lambda s: {name: torch.zeros(7, 7) for name in s},
    "none": lambda s: {},
}


@survives(FILES, "bundles: tensors of NaN, of a wrong shape, too many: refused")
@pytest.mark.parametrize("case", STATES)
def test_tensors_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    state = load(fuzz._bundle()[0]["generator.safetensors"])
    with pytest.raises(BundleError):
        loaded({"generator.safetensors": save(STATES[case](state))}, tmp_path)


@survives(FILES, "bundles: tensors of NaN, of a wrong shape, too many: refused")
def test_huge_weights_draw_rows_that_keep_the_schema(tmp_path: Path) -> None:
    state = load(fuzz._bundle()[0]["generator.safetensors"])
    huge = save({name: torch.full_like(t, -3e38) for name, t in state.items()})
    drawn = loaded({"generator.safetensors": huge}, tmp_path).sample(5, seed=0)
    assert set(drawn.data["c"]) <= {"a", "b", "__rare__"}


@survives(FILES, "bundles: an encoder or network that does not fit, or asks for terabytes: refused")
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("schema.toml", '"x"', '"y"'),
        ("schema.toml", 'kind = "datetime"\nresolution = "minute"', 'kind = "numeric"'),
        ("schema.toml", 'name = "small"', 'name = "../small"'),
        ("config.toml", 'architecture = "mlp"', 'architecture = "conv"'),
        ("config.toml", "rows = 1000", f"rows = {DIGITS}"),
    ],
)
def test_a_bundle_with_another_schema_or_configuration_is_refused(
    name: str, old: str, new: str, tmp_path: Path
) -> None:
    text = fuzz._bundle()[0][name].decode()
    assert old in text
    with pytest.raises(BundleError):
        loaded({name: text.replace(old, new).encode()}, tmp_path)
