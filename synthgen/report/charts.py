"""Charts as inline SVG: pure functions from numbers to text, themed by the page's CSS classes.

Every chart is an image with a title and a description, so that a screen reader can read it out;
colour never says anything alone. All words are escaped here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from synthgen.report.cells import Cell, Picture
from synthgen.report.text import number, quantity, share, visible

#: Upper ends of the heat map's shades, and how the legend says them; beyond the last: class q5.
SHADES = (0.02, 0.05, 0.10, 0.20, 0.35)


@dataclass(frozen=True)
class Line:
    """One curve: `points` are (x, y) with finite numbers, x ascending."""

    name: str
    points: tuple[tuple[float, float], ...]


def histogram(key: str, picture: Picture, title: str) -> Markup:
    """Draw bins: real rows as filled bars, synthetic ones as an outline above them.

    Heights are shares a bin of equal width, so that areas compare when bins were merged.
    """
    width, height, floor = 320.0, 150.0, 124.0
    cells = picture.cells
    unit = (width - 2) / max(cells[-1].right, 1.0)
    tallest = max(max(c.real, c.synthetic) / (c.right - c.left) for c in cells) or 1.0

    def top(value: float, cell: Cell) -> float:
        return floor - (floor - 8) * value / (cell.right - cell.left) / tallest

    bars, outline = [], [f"M1 {floor:.0f}"]
    for cell in cells:
        left, right = 1 + cell.left * unit, 1 + cell.right * unit
        y, line = top(cell.real, cell), top(cell.synthetic, cell)
        said = f"{cell.label}: real {share(cell.real)}, synthetic {share(cell.synthetic)}"
        bars.append(
            f'<rect class="real" x="{left + 0.5:.1f}" y="{y:.1f}" '
            f'width="{max(right - left - 1, 0.5):.1f}" height="{floor - y:.1f}">'
            f"<title>{_text(said)}</title></rect>"
        )
        outline.append(f"V{line:.1f}H{right:.1f}")
    outline.append(f"V{floor:.0f}")
    axis = [f'<path class="axis" d="M0 {floor:.0f}H{width:.0f}"/>']
    last = -math.inf
    for position, label in picture.ticks:
        x, half = 1 + position * unit, 3.4 * len(label)
        middle = min(max(x, half), width - half)
        if middle - half < last:
            continue
        last = middle + half + 8
        axis.append(f'<path class="axis" d="M{x:.1f} {floor:.0f}v4"/>')
        axis.append(_label(middle, floor + 18, label, "middle"))
    body = [*bars, f'<path class="synthetic-line" d="{"".join(outline)}"/>', *axis]
    said = f"{len(cells)} bins; the numbers are in the table below the chart."
    return _svg(key, width, height, title, said, body)


def bars(key: str, picture: Picture, title: str) -> Markup:
    """Draw levels: for each one a bar of real rows and, below it, one of synthetic rows."""
    row, left, right = 24.0, 126.0, 252.0
    cells = picture.cells
    largest = max(max(c.real, c.synthetic) for c in cells) or 1.0
    body = []
    for i, cell in enumerate(cells):
        y = 4 + i * row
        body.append(_label(left - 8, y + 13, _short(cell.label, 17), "end"))
        for value, name, at in ((cell.real, "real", y + 1), (cell.synthetic, "synthetic", y + 11)):
            length = (right - left) * value / largest
            body.append(
                f'<rect class="{name}" x="{left:.0f}" y="{at:.0f}" width="{length:.1f}" '
                f'height="8"><title>{_text(f"{cell.label}: {name} {share(value)}")}</title></rect>'
            )
        body.append(_label(right + 8, y + 13, f"{share(cell.real)[:-2]}", "start"))
        body.append(_label(320, y + 13, f"{share(cell.synthetic)[:-2]}", "end", "synthetic-text"))
    said = f"{len(cells)} levels; the numbers are in the table below the chart."
    return _svg(key, 320, 8 + row * len(cells), title, said, body)


def heatmap(
    key: str, names: Sequence[str], distances: dict[tuple[str, str], float], title: str
) -> Markup:
    """Draw the lower triangle of a distance in [0, 1] between pairs of columns.

    `distances` has each pair once, in either order; a pair without one is left blank.
    """
    side, left, top = max(12.0, min(30.0, 620 / max(len(names), 1))), 132.0, 6.0
    body = []
    for i, row in enumerate(names[1:], 1):
        y = top + (i - 1) * side
        body.append(_label(left - 8, y + side / 2 + 4, _short(row, 20), "end"))
        for j, column in enumerate(names[:i]):
            value = distances.get((row, column), distances.get((column, row)))
            if value is not None:
                body.append(
                    f'<rect class="q{shade(value)}" x="{left + j * side:.1f}" y="{y:.1f}" '
                    f'width="{side - 1:.1f}" height="{side - 1:.1f}"><title>'
                    f"{_text(f'{row} and {column}: {number(value)}')}</title></rect>"
                )
    bottom = top + (len(names) - 1) * side
    for j, column in enumerate(names[:-1]):
        x, y = left + (j + 0.5) * side + 4, bottom + 8
        body.append(
            f'<text transform="translate({x:.1f} {y:.1f}) rotate(-55)" text-anchor="end">'
            f"{_text(_short(column, 20))}</text>"
        )
    said = f"{len(distances)} pairs of {len(names)} columns; the worst are in the table below."
    return _svg(key, left + len(names) * side, bottom + 108, title, said, body, "chart wide")


def shade(distance: float) -> int:
    """Return which of the six shades a distance has: 0 is calm.

    >>> shade(0.0), shade(0.07), shade(0.9)
    (0, 2, 5)
    """
    return sum(distance > end for end in SHADES)


def interval(
    key: str,
    title: str,
    value: float,
    low: float | None,
    high: float | None,
    *,
    scale: tuple[float, float],
    unit: str = "",
    control: float | None = None,
    threshold: float | None = None,
) -> Markup:
    """Draw a value as a dot on its interval, the control as a ring, the threshold as a tall line.

    All numbers lie on `scale` (left, right end); what lies beyond is drawn at the end.
    """
    width, middle = 180.0, 13.0

    def x(v: float) -> float:
        position = (v - scale[0]) / ((scale[1] - scale[0]) or 1.0)
        return 6 + (width - 12) * min(max(position, 0.0), 1.0)

    body = [f'<path class="track" d="M6 {middle:.0f}H{width - 6:.0f}"/>']
    said = [quantity(value, unit)]
    if threshold is not None:
        body.append(f'<path class="threshold" d="M{x(threshold):.1f} 2V24"/>')
        said.append(f"threshold {quantity(threshold, unit)}")
    if low is not None and high is not None:
        body.append(f'<path class="range" d="M{x(low):.1f} {middle:.0f}H{x(high):.1f}"/>')
        said.append(f"interval {quantity(low, unit)} to {quantity(high, unit)}")
    if control is not None:
        body.append(f'<circle class="control" cx="{x(control):.1f}" cy="{middle:.0f}" r="4"/>')
        said.append(f"fresh real rows {quantity(control, unit)}")
    body.append(f'<circle class="value" cx="{x(value):.1f}" cy="{middle:.0f}" r="4"/>')
    return _svg(key, width, 26, title, ", ".join(said), body, "interval")


def curves(key: str, lines: Sequence[Line], title: str, x_name: str) -> Markup:
    """Draw one to four lines over a shared axis; each is named at its end, not only by colour."""
    width, height, left, right, floor = 620.0, 220.0, 64.0, 500.0, 186.0
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    x_span, y_span = (x_high - x_low) or 1.0, (y_high - y_low) or 1.0

    def at(x: float, y: float) -> str:
        px = left + (right - left) * (x - x_low) / x_span
        return f"{px:.1f} {floor - (floor - 14) * (y - y_low) / y_span:.1f}"

    body = [f'<path class="axis" d="M{left:.0f} 10V{floor:.0f}H{right:.0f}"/>']
    for share_up in (0.0, 0.5, 1.0):
        y = floor - (floor - 14) * share_up
        body.append(f'<path class="grid" d="M{left:.0f} {y:.1f}H{right:.0f}"/>')
        body.append(_label(left - 8, y + 4, number(_round3(y_low + y_span * share_up)), "end"))
    body.append(_label(left, floor + 20, number(x_low), "start"))
    body.append(_label(right, floor + 20, f"{number(x_high)} {x_name}", "end"))
    for i, line in enumerate(lines):
        path = "L".join(at(x, y) for x, y in line.points)
        body.append(f'<path class="line l{i % 4}" d="M{path}"/>')
    ends = [(float(at(*line.points[-1]).split()[1]), line) for line in lines]
    for y, line in _spread(ends):
        css = f"l{lines.index(line) % 4}"
        body.append(_label(right + 10, y + 4, _short(line.name, 18), "start", css))
    said = "; ".join(f"{ln.name} ends at {number(_round3(ln.points[-1][1]))}" for ln in lines)
    return _svg(key, width, height, title, said, body, "chart wide")


def _spread(ends: list[tuple[float, Line]]) -> Iterable[tuple[float, Line]]:
    """Move the names of lines that end close to each other apart, top to bottom."""
    last = -math.inf
    for y, line in sorted(ends, key=lambda end: end[0]):
        last = max(y, last + 14)
        yield last, line


def _svg(
    key: str,
    width: float,
    height: float,
    title: str,
    description: str,
    body: Iterable[str],
    css: str = "chart",
) -> Markup:
    return Markup(
        f'<svg class="{css}" role="img" aria-labelledby="{key}-t {key}-d" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}">'
        f'<title id="{key}-t">{_text(title)}</title><desc id="{key}-d">{_text(description)}</desc>'
        f"{''.join(body)}</svg>"
    )


def _label(x: float, y: float, text: str, anchor: str, css: str = "") -> str:
    named = f' class="{css}"' if css else ""
    return f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_text(text)}</text>'


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _round3(value: float) -> float:
    return float(f"{value:.3g}")


def _text(text: str) -> str:
    return str(escape(visible(text, 200)))
