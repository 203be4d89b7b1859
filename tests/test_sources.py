from __future__ import annotations

import codecs
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen.errors import ConfigError, DataError
from synthgen.schema import Column, TableSchema
from synthgen.sources import delimited, open_source

CANARY = "c@nary"


def read(path: Path, schema: TableSchema | None = None) -> dict[str, list[str]]:
    source = open_source(str(path), schema)
    return pa.Table.from_batches(source.batches()).to_pydict()


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def schema(**dialect: object) -> TableSchema:
    columns = (Column(name="a", kind="categorical"), Column(name="b", kind="categorical"))
    return TableSchema(name="t", columns=columns, **dialect)  # type: ignore[arg-type]


def test_csv_cells_stay_text(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "zip,country,big\n00123,NA,9007199254740993\n1e5,,nan\n")
    assert read(path) == {
        "zip": ["00123", "1e5"],
        "country": ["NA", ""],
        "big": ["9007199254740993", "nan"],
    }


def test_quotes_newlines_and_blank_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", 'a,"b\nc"\r\n"x, ""y""",\r\n\r\n"two\nlines",2\r\n')
    assert read(path) == {"a": ['x, "y"', "two\nlines"], "b\nc": ["", "2"]}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_sniffed(tmp_path: Path, delimiter: str) -> None:
    rows = [["name", "price, gross"], ["x", "1,5"], ["y;z", "2,5"], ["q|", "3\t5"]]
    text = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    source = open_source(str(write(tmp_path / "t.csv", text)))
    assert (source.delimiter, source.names) == (delimiter, ["name", "price, gross"])


def test_decimal_commas_do_not_hide_the_semicolon(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a;b;c\n1,5;2,5;3,5\n1,5;2;3\n")
    assert open_source(str(path)).delimiter == ";"


def test_blank_lines_before_the_header(tmp_path: Path) -> None:
    assert read(write(tmp_path / "t.csv", "\n\na,b\n\n1,2\n")) == {"a": ["1"], "b": ["2"]}


def test_one_column_is_a_table(tmp_path: Path) -> None:
    assert read(write(tmp_path / "t.csv", "a\n1\n2\n")) == {"a": ["1", "2"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "t.csv", "a,b\né,ß\n", encoding)
    assert read(path) == {"a": ["é"], "b": ["ß"]}


def test_declared_dialect(tmp_path: Path) -> None:
    declared = schema(encoding="latin-1", delimiter=";", strip=True)
    path = write(tmp_path / "t.csv", "a; b\né; ß\n", "latin-1")
    assert open_source(str(path), declared).strip
    assert read(path, declared) == {"a": ["é"], "b": [" ß"]}  # conform strips cells


def test_batches_start_again_and_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 1_000)
    rows = [f"{i},{i}" for i in range(1_000)]
    source = open_source(str(write(tmp_path / "t.csv", "a,b\n" + "\n".join(rows))))
    for _ in range(2):
        batches = list(source.batches())
        assert len(batches) > 5
        assert sum(b.num_rows for b in batches) == 1_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "no rows"),
        ("a,b\n\n\n", "no rows"),
        (f'a,b\n1,"{CANARY}\n1,2\n1,2\n', "a quote is left open"),
        (f"a,a\n{CANARY},1\n", "column 'a' appears 2 times"),
        (f"a, a\n{CANARY},1\n", "column 'a' appears 2 times"),
        (f"a,,b,\n{CANARY},1,2,3\n", "2 columns have no name: number 2, 4"),
        (f"a,b\n1,2\n{CANARY},1,2\n3\n", "2 records .* header's 2 fields; .* record 3 with 3"),
        (f"a,b\n1,2\n{CANARY}\n", "1 records .* the first is record 3 with 1"),
        (f'a,b\n1,"2\n2"\n{CANARY}\n', "the first is record 3 with 1"),
    ],
)
def test_unusable_csv(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert CANARY not in str(caught.value)


def test_wrong_encoding_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(f"a,b\n{CANARY},1\n".encode() + b"\xe9,2\n")
    with pytest.raises(DataError, match=r"not utf-8 text at byte 13 \(line 3\)") as caught:
        read(path)
    assert CANARY not in str(caught.value)


def test_wrong_encoding_deep_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 300_000 + b"\xe9,2\n")
    with pytest.raises(DataError, match=r"byte 1,200,004 \(line 300,002\)"):
        read(path)


def test_half_a_character_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,b\n" + b"1,2\n" * 300_000 + "1,é".encode()[:-1])
    with pytest.raises(DataError, match="ends in the middle of a utf-8 character"):
        read(path)


def test_utf16_without_a_mark_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("a,b\n1,2\n".encode("utf-16")[len(codecs.BOM_UTF16) :])
    with pytest.raises(DataError, match="NUL bytes"):
        open_source(str(path))
    assert read(path, schema(encoding="utf-16-le")) == {"a": ["1"], "b": ["2"]}


def test_unknown_encoding(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b\n1,2\n")
    with pytest.raises(DataError, match="encoding is unknown"):
        open_source(str(path), schema(encoding="utf-9"))


def test_a_record_larger_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 100)
    path = write(tmp_path / "t.csv", "a,b\n" + CANARY * 100 + ",1\n" * 3)
    with pytest.raises(DataError, match="is a quote left open") as caught:
        read(path)
    assert CANARY not in str(caught.value)


def test_missing_and_foreign_places(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        open_source(str(tmp_path / "nothing.csv"))
    with pytest.raises(ConfigError, match="scheme 'mysql://' is unknown"):
        open_source("mysql://host/db")
    with pytest.raises(DataError, match="no Parquet or CSV parts"):
        open_source(str(tmp_path))
    (tmp_path / "t.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="ZIP archive; unpack it"):
        open_source(str(tmp_path / "t.zip"))


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_packed_csv_is_known_by_its_first_bytes(tmp_path: Path, codec: str) -> None:
    text = "a,b\n" + "".join(f"{i},é\n" for i in range(50_000))
    packed = pa.Codec(codec).compress(text.encode(), asbytes=True)
    path = tmp_path / "t.csv"  # not by its name
    path.write_bytes(packed)
    assert read(path) == {"a": [str(i) for i in range(50_000)], "b": ["é"] * 50_000}
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=f"{codec} data are damaged or end early"):
        read(path)


def test_csv_directory_in_name_order(tmp_path: Path) -> None:
    write(tmp_path / "2.csv", "a;b\n3;4\n")
    write(tmp_path / "1.csv", "a;b\n1;2\n")
    write(tmp_path / "3.csv", "a;b\n")  # a worker that had no rows
    write(tmp_path / "_x.csv", "not data")
    assert read(tmp_path) == {"a": ["1", "3"], "b": ["2", "4"]}
    write(tmp_path / "4.csv", "a;c\n1;2\n")
    with pytest.raises(DataError, match=r"4\.csv has other columns than 1\.csv: b, c"):
        read(tmp_path)


def test_a_file_that_changes_between_two_readings_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b\n1,2\n")
    source = open_source(str(path))
    assert pa.Table.from_batches(source.batches()).num_rows == 1
    write(path, "a,b\n1,2\n3,4\n")
    with pytest.raises(DataError, match="changed while it was read"):
        list(source.batches())


def test_digest_is_of_the_bytes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b\n1,2\n")
    assert open_source(str(path)).digest() == hashlib.sha256(b"a,b\n1,2\n").hexdigest()


def test_file_uri(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b\n1,2\n")
    assert open_source(f"file://{path}").names == ["a", "b"]


def test_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table({"a": [1, None], "b": ["x", "y"]})
    pq.write_table(table, tmp_path / "t.bin")  # recognised by content, not by name
    source = open_source(str(tmp_path / "t.bin"))
    assert source.format == "parquet"
    assert pa.Table.from_batches(source.batches()).equals(table)


def test_parquet_directory_in_name_order(tmp_path: Path) -> None:
    for i in (2, 1, 3):
        pq.write_table(pa.table({"a": [i]}), tmp_path / f"part-{i}.parquet")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "_metadata.parquet").write_text("not data")
    source = open_source(str(tmp_path))
    assert pa.Table.from_batches(source.batches())["a"].to_pylist() == [1, 2, 3]


def test_parquet_parts_must_agree(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": ["x"], "c": [1]}), tmp_path / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet has other columns .* a, b, c"):
        open_source(str(tmp_path))


def test_partitioned_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "year=2020").mkdir()
    pq.write_table(pa.table({"a": [1]}), tmp_path / "year=2020" / "1.parquet")
    with pytest.raises(DataError, match="partitioned by folders"):
        open_source(str(tmp_path))


def test_empty_and_repeated_parquet_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([], pa.int64())}), tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no rows"):
        open_source(str(tmp_path / "none.parquet"))
    pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match="'a' appears 2 times"):
        open_source(str(tmp_path / "twice.parquet"))


@pytest.mark.parametrize("keep", [2, 100, -20])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [CANARY] * 100}), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="truncated or damaged") as caught:
        read(path)
    assert CANARY not in str(caught.value)


def test_a_flipped_bit_in_a_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    values = pa.array(range(10_000))
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table({"a": values}), path, **options)
    content = bytearray(path.read_bytes())
    content[4_000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        read(path)


# No carriage return: a CSV reader may not tell it from the line feed that it becomes in quotes.
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=8)


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_any_quoted_text_survives(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    def quote(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = ["a,b", *(f"{quote(x)},{quote(y)}" for x, y in rows)]
    path = write(tmp_path_factory.mktemp("csv") / "t.csv", "\n".join(lines))
    assert read(path, schema()) == {"a": [x for x, _ in rows], "b": [y for _, y in rows]}


def test_a_parquet_file_is_not_kept_while_it_is_read(tmp_path: Path) -> None:
    """Of 16 MB in 20 row groups never more than a few groups are in memory."""
    numbers = np.random.default_rng(0).random(2_000_000)  # which do not compress
    pq.write_table(pa.table({"x": numbers}), tmp_path / "long.parquet", row_group_size=100_000)
    before, most = pa.total_allocated_bytes(), 0
    for _ in open_source(str(tmp_path / "long.parquet")).batches():
        most = max(most, pa.total_allocated_bytes() - before)
    assert 500_000 < most < 6_000_000
