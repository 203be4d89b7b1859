from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.errors import SchemaError
from synthgen.schema import KINDS, MAX_SCHEMA_BYTES, Column, TableSchema

SCHEMAS = Path(__file__).parents[1] / "schemas"
HEAD = 'format = 1\nname = "t"\n'


def table(*columns: Column, **facts: Any) -> TableSchema:
    return TableSchema(name="t", columns=columns or (Column(name="x", kind="numeric"),), **facts)


# --- TOML there and back --------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
_NUMBER = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
_COMMON = {
    "name": _TEXT,
    "nullable": st.booleans(),
    "missing": st.lists(_TEXT, max_size=2).map(tuple),
    "source": st.sampled_from(["declared", "data"]),
    "reason": st.text(st.characters(codec="utf-8"), max_size=20),
}


def _columns() -> st.SearchStrategy[Column]:
    def build(kind: str, **facts: st.SearchStrategy[Any]) -> st.SearchStrategy[Column]:
        return st.builds(Column, kind=st.just(kind), **{**_COMMON, **facts})

    texts = st.none() | st.lists(_TEXT, min_size=1, max_size=3, unique=True).map(tuple)
    pair = st.none() | st.lists(_TEXT, min_size=2, max_size=2, unique=True).map(tuple)
    return st.one_of(
        build("numeric", minimum=st.none() | _NUMBER, decimals=st.none() | st.integers(0, 15)),
        build("categorical", categories=texts),
        build("boolean", categories=pair),
        build("datetime", timezone=st.sampled_from([None, "UTC", "Europe/Berlin"]),
              resolution=st.sampled_from(["day", "microsecond"]), format=st.none() | _TEXT),
        build("id", minimum=st.none() | st.integers(0, 10**30)),
        build("text", pii=st.sampled_from([None, "name", "email"])),
    )  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(
    columns=st.lists(_columns(), min_size=1, max_size=4, unique_by=lambda c: c.name),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    strip=st.booleans(),
    missing=st.lists(_TEXT, max_size=2).map(tuple),
)
def test_toml_round_trip(
    columns: list[Column], delimiter: str, strip: bool, missing: tuple[str, ...]
) -> None:
    schema = table(*columns, delimiter=delimiter, strip=strip, missing=missing)
    again = TableSchema.from_toml(schema.to_toml())
    assert again == schema
    assert again.fingerprint == schema.fingerprint


def test_a_reason_is_a_comment_and_no_part_of_equality() -> None:
    schema = table(Column(name="x", kind="id", reason='two\nlines"]\n[evil]'))
    assert '# two lines"] [evil]' in schema.to_toml()
    assert TableSchema.from_toml(schema.to_toml()) == schema
    assert schema.fingerprint == table(Column(name="x", kind="id")).fingerprint


@pytest.mark.parametrize("name", ["demo", "adult", "bank", "king"])
def test_the_schemas_of_the_repository_load(name: str) -> None:
    schema = TableSchema.load(SCHEMAS / f"{name}.toml")
    assert schema.name == name
    assert schema.target is not None


def test_the_example_of_the_readme_loads() -> None:
    example = (SCHEMAS / "README.md").read_text().split("```toml\n")[1].split("```")[0]
    schema = TableSchema.from_toml(example)
    assert (schema.delimiter, schema.strip, schema.missing) == (";", True, ("?",))


def test_the_readme_names_every_key_and_kind() -> None:
    text = (SCHEMAS / "README.md").read_text()
    for key in (*Column.__dataclass_fields__, *KINDS):
        assert key == "reason" or f"`{key}`" in text


# --- what a schema refuses ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"kind": "number"}, "kind is unknown; use one of numeric, categorical"),
        ({"kind": "numeric", "role": "label"}, "role is unknown"),
        ({"kind": "numeric", "minimum": "0"}, "minimum of kind 'numeric' must be a number"),
        ({"kind": "numeric", "minimum": 2, "maximum": 1}, "minimum is above maximum"),
        ({"kind": "numeric", "maximum": float("inf")}, "must be finite"),
        ({"kind": "numeric", "maximum": True}, "maximum does not apply"),
        ({"kind": "numeric", "decimals": 16}, "lies in 0..15"),
        ({"kind": "categorical", "decimals": 1}, "decimals applies to kind 'numeric'"),
        ({"kind": "categorical", "categories": ()}, "at least one"),
        ({"kind": "categorical", "categories": ("a", "a")}, "distinct"),
        ({"kind": "categorical", "minimum": 1}, "minimum does not apply"),
        ({"kind": "boolean", "categories": ("a", "b", "c")}, "two categories"),
        ({"kind": "numeric", "categories": ("1",)}, "categories do not apply"),
        ({"kind": "numeric", "timezone": "UTC"}, "apply to kind 'datetime'"),
        ({"kind": "datetime", "timezone": "Mars/Olympus"}, "no IANA zone"),
        ({"kind": "datetime", "timezone": "../../etc/passwd"}, "no IANA zone"),
        ({"kind": "datetime", "minimum": "31.12.2020"}, "not ISO 8601"),
        ({"kind": "id", "maximum": 5}, "maximum does not apply"),
        ({"kind": "id", "role": "target"}, "a target must be modelled"),
        ({"kind": "categorical", "pii": "name", "role": "target"}, "a target must be modelled"),
    ],
)
def test_a_column_that_contradicts_itself(facts: dict[str, Any], problem: str) -> None:
    with pytest.raises(SchemaError, match="column 'x': ") as caught:
        Column(name="x", **facts)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("format = ", "not valid TOML"),
        ("", "'format' must be 1"),
        ('format = 2\nname = "t"\n[[column]]\nname = "x"\nkind = "id"', "'format' must be 1"),
        (HEAD, "at least one column"),
        (HEAD + "colour = 1", "unknown key 'colour'"),
        (HEAD + "column = 3", "array of tables"),
        (HEAD + 'column = ["x"]', "must be a table"),
        (HEAD + '[csv]\nquote = "x"', "'csv.quote' is unknown"),
        (HEAD + '[[column]]\nkind = "id"', "'name' is required"),
        (HEAD + '[[column]]\nname = "x"', "column 'x': 'kind' is required"),
        (HEAD + '[[column]]\nname = "x"\nkind = "id"\nsize = 3', "unknown key 'size'"),
        (HEAD + '[[column]]\nname = "x"\nkind = "id"\nnullable = "no"', "'nullable' has the wrong"),
        (HEAD + '[[column]]\nname = "x"\nkind = "categorical"\ncategories = [1]', "list of texts"),
        (HEAD + '[[column]]\nname = "x"\nkind = "id"\n' * 2, "listed twice"),
        ('format = 1\nname = "../x"\n[[column]]\nname = "x"\nkind = "id"', "name: letters, digits"),
    ],
)
def test_a_file_that_is_no_schema(text: str, problem: str) -> None:
    with pytest.raises(SchemaError) as caught:
        TableSchema.from_toml(text)
    assert problem in str(caught.value)


def test_all_problems_are_listed_at_once() -> None:
    text = HEAD + '[[column]]\nname = "a"\nkind = "x"\n[[column]]\nname = "b"\nkind = "y"\nz = 1'
    with pytest.raises(SchemaError) as caught:
        TableSchema.from_toml(text)
    assert "column 'a'" in str(caught.value)
    assert "column 'b'" in str(caught.value)


def test_roles_are_unique() -> None:
    columns = [Column(name=n, kind="numeric", role="target") for n in "ab"]
    with pytest.raises(SchemaError, match="more than one column has the role 'target'"):
        table(*columns)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="cannot read schema"):
        TableSchema.load(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b"name = '\xe9'")
    with pytest.raises(SchemaError, match="UnicodeDecodeError"):
        TableSchema.load(tmp_path / "latin.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (MAX_SCHEMA_BYTES + 1))
    with pytest.raises(SchemaError, match="larger than"):
        TableSchema.load(tmp_path / "large.toml")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 10_000)
    with pytest.raises(SchemaError, match="not valid TOML"):
        TableSchema.load(tmp_path / "deep.toml")


# --- lookups --------------------------------------------------------------------------------------


def test_lookups() -> None:
    schema = table(
        Column(name="id", kind="id", role="entity"),
        Column(name="x", kind="numeric"),
        Column(name="y", kind="boolean", role="target"),
        Column(name="phone", kind="categorical", pii="phone"),
        Column(name="notes", kind="text"),
    )
    assert schema.names == ["id", "x", "y", "phone", "notes"]
    assert [c.name for c in schema.modelled] == ["x", "y"]
    assert [c.is_regenerated for c in schema.columns] == [True, False, False, True, False]
    assert schema.entity is schema.column("id")
    assert schema.target is schema.column("y")
    with pytest.raises(SchemaError, match="column 'z' is not in the schema; it has id, x"):
        schema.column("z")


def test_with_target_moves_the_role() -> None:
    schema = table(
        Column(name="a", kind="numeric", role="target"), Column(name="b", kind="boolean")
    )
    moved = schema.with_target("b")
    assert [c.role for c in moved.columns] == [None, "target"]
    assert schema.column("a").role == "target"


def test_save_and_load(tmp_path: Path) -> None:
    schema = table(Column(name="größe", kind="numeric", reason="why"))
    schema.save(tmp_path / "t.toml")
    assert TableSchema.load(tmp_path / "t.toml") == schema
    assert tomllib.loads((tmp_path / "t.toml").read_text(encoding="utf-8"))["format"] == 1
