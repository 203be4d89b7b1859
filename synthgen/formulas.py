"""Texts that a spreadsheet would run: an apostrophe before them, and off again.

A cell ``=cmd|...`` is a program to whoever opens the file (OWASP, "CSV Injection"; CWE-1236). A
leading apostrophe makes it a text. Texts that have one already get another, so that `unescape`
gives back exactly what `escape` took.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

# OWASP's list, with the full-width signs that some spreadsheets take for the others.
_SIGNS = "[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"
_RUNS = re.compile(f"'*{_SIGNS}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def escape(text: str) -> str:
    """Return `text` with a leading apostrophe if a spreadsheet would run it as a formula.

    Numbers such as -3.5 are harmless.

    >>> escape("=1+1"), escape("-3.5"), escape("-x"), escape("plain"), escape("'=1")
    ("'=1+1", '-3.5', "'-x", 'plain', "''=1")
    """
    return f"'{text}" if _RUNS.match(text) and not _NUMBER.fullmatch(text) else text


def unescape(texts: pa.Array) -> pa.Array:
    """Return (N,) texts as they were before `escape`.

    >>> unescape(pa.array(["'=1+1", "-3.5", "''=1", "'tis", None])).to_pylist()
    ['=1+1', '-3.5', "'=1", "'tis", None]
    """
    return pc.replace_substring_regex(texts, rf"\A'('*{_SIGNS})", r"\1")
