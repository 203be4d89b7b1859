"""How far training has come, as one picture: each column of real rows and of rows drawn just now.

What is drawn obeys the same rules as the report (`cells`): nothing that few real rows share.
"""

from __future__ import annotations

import pandas as pd
from markupsafe import escape

from synthgen.report import charts
from synthgen.report.cells import Three, picture
from synthgen.report.page import style
from synthgen.report.text import visible
from synthgen.schema import TableSchema

#: Columns beside each other, and the pixels that each one has.
ACROSS, WIDTH, HEIGHT = 4, 350, 300


def preview(schema: TableSchema, real: pd.DataFrame, drawn: pd.DataFrame, title: str) -> str:
    """Return an SVG that any browser shows, of every modelled column that may be drawn.

    Parameters
    ----------
    schema : TableSchema
    real, drawn : DataFrame
        Canonical dtypes; rows of the training table and rows of the generator as it is.
    title : str
        What stands above.
    """
    parts: list[str] = []
    for column in schema.modelled:
        values = real[column.name]
        seen = picture(
            column.kind, Three(values, values, drawn[column.name]), whole=column.decimals == 0
        )
        if not seen.cells:
            continue
        chart = charts.histogram if seen.is_ordered else charts.bars
        x, y = WIDTH * (len(parts) % ACROSS), 44 + HEIGHT * (len(parts) // ACROSS)
        key = f"p{len(parts)}"
        parts.append(
            f'<g transform="translate({x + 12} {y})"><text class="name" y="14">'
            f"{escape(visible(column.name, 40))}</text>"
            f'<g transform="translate(0 24)">{chart(key, seen, column.name)}</g></g>'
        )
    title = f"{title}; real rows blue, drawn rows orange"
    css = f"{style()} .name {{ font-size: 15px; font-weight: 650; }}"
    width, height = WIDTH * ACROSS, 54 + HEIGHT * (-(-len(parts) // ACROSS))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}"><style><![CDATA[{css}]]></style>'
        f'<rect width="{width}" height="{height}" fill="var(--paper)"/>'
        f'<text class="name" x="12" y="26">{escape(visible(title, 200))}</text>{"".join(parts)}'
        "</svg>"
    )
