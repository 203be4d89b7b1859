r"""Numbers and foreign words as a reader sees them.

Names of columns and levels come from outside: they may hold markup, invisible characters or
characters that turn the line around. Markup is escaped where text becomes HTML; the rest here.

>>> visible("a\u202eb\n")
'a[U+202E]b[U+000A]'
>>> share(0.1234), share(0.0002), number(0.98765), number(16281.0)
('12.3\xa0%', '<\xa00.1\xa0%', '0.988', '16,281')
"""

from __future__ import annotations

import unicodedata

MAX_TEXT = 600
DASH = "\u2013"


def visible(text: str, limit: int = MAX_TEXT) -> str:
    """Return `text` with control, format and unassigned characters spelled out, cut to `limit`."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) in _HIDDEN else c for c in cut)


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def share(value: float | None) -> str:
    """Write a share in [0, 1] as percent."""
    if value is None:
        return DASH
    if value == 0:
        return "0\u00a0%"
    if abs(value) < 0.0005:
        return "<\u00a00.1\u00a0%"
    return f"{100 * value:.1f}\u00a0%"


def number(value: float | int | bool | None) -> str:
    """Write a number with three digits that matter, whole numbers in full."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.3f}" if 0.001 <= abs(value) < 1000 else f"{value:.3g}"


def quantity(value: float | None, unit: str) -> str:
    """Write a measured value in its unit: shares as percent, everything else as a number."""
    return share(value) if unit == "share" else number(value)
