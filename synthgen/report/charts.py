"""Charts as inline SVG: pure functions from numbers to text, themed by the page's CSS classes.

Every chart is an image with a title and a description, so that a screen reader can read it out;
colour never says anything alone. All words are escaped here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from synthgen.report.cells import Cell, Joint, Picture
from synthgen.report.text import number, quantity, share, visible

#: Upper ends of the shades of a strength in [0, 1]; beyond the last: class q5.
STRENGTHS = (0.1, 0.2, 0.35, 0.5, 0.7)
#: The same for shares in the cells of two columns, which are many.
CELL_SHADES = (0.005, 0.02, 0.05, 0.10, 0.20)
#: Steps of a difference, either way: of strengths, and of shares in cells.
STEPS, CELL_STEPS = (0.02, 0.05, 0.10), (0.005, 0.015, 0.03)

Matrix = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class Line:
    """One curve: `points` are (x, y) with finite numbers, x ascending."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Estimate:
    """One row of a forest plot: a value on its interval, and what it is to be compared with."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    control: float | None = None
    threshold: float | None = None
    is_refused: bool = False


def histogram(key: str, picture: Picture, title: str) -> Markup:
    """Draw bins: train rows as filled bars, holdout rows dotted, synthetic ones as an outline.

    Heights are shares a bin of equal width, so that areas compare when bins were merged.
    """
    width, floor = 320.0, 124.0
    cells = picture.cells
    unit = (width - 2) / max(cells[-1].right, 1.0)
    tallest = max(max(c.shares) / (c.right - c.left) for c in cells) or 1.0

    def top(value: float, cell: Cell) -> float:
        return floor - (floor - 8) * value / (cell.right - cell.left) / tallest

    bars, synthetic, holdout = [], [f"M1 {floor:.0f}"], [f"M1 {floor:.0f}"]
    for cell in cells:
        left, right = 1 + cell.left * unit, 1 + cell.right * unit
        y = top(cell.train, cell)
        bars.append(
            f'<rect class="train" x="{left + 0.5:.1f}" y="{y:.1f}" '
            f'width="{max(right - left - 1, 0.5):.1f}" height="{floor - y:.1f}">'
            f"<title>{_text(_said(cell))}</title></rect>"
        )
        holdout.append(f"V{top(cell.holdout, cell):.1f}H{right:.1f}")
        synthetic.append(f"V{top(cell.synthetic, cell):.1f}H{right:.1f}")
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
    lines = [
        f'<path class="holdout-line" d="{"".join(holdout)}V{floor:.0f}"/>',
        f'<path class="synthetic-line" d="{"".join(synthetic)}V{floor:.0f}"/>',
    ]
    said = f"{len(cells)} bins; the numbers are in the table below the chart."
    return _svg(key, width, 150, title, said, [*bars, *lines, *axis])


def bars(key: str, picture: Picture, title: str) -> Markup:
    """Draw levels: a bar of train rows, ticked where the holdout ends, above a synthetic one."""
    row, left, right = 26.0, 126.0, 248.0
    cells = picture.cells
    largest = max(max(c.shares) for c in cells) or 1.0

    def length(value: float) -> float:
        return (right - left) * value / largest

    body = []
    for i, cell in enumerate(cells):
        y, at = 4 + i * row, left + length(cell.holdout)
        body.append(_label(left - 8, y + 14, _short(cell.label, 17), "end"))
        body.append(
            f"<g><title>{_text(_said(cell))}</title>"
            f'<rect class="train" x="{left:.0f}" y="{y + 1:.0f}" width="{length(cell.train):.1f}" '
            f'height="9"/><path class="holdout-tick" d="M{at:.1f} {y - 0.5:.1f}v12"/>'
            f'<rect class="synthetic" x="{left:.0f}" y="{y + 12:.0f}" '
            f'width="{length(cell.synthetic):.1f}" height="9"/></g>'
        )
        body.append(_label(right + 36, y + 14, _percent(cell.train), "end"))
        body.append(_label(320, y + 14, _percent(cell.synthetic), "end", "synthetic-text"))
    said = f"{len(cells)} levels; the numbers are in the table below the chart."
    return _svg(key, 320, 8 + row * len(cells), title, said, body)


def _said(cell: Cell) -> str:
    train, holdout, synthetic = map(share, cell.shares)
    return f"{cell.label}: train {train}, holdout {holdout}, synthetic {synthetic}"


def _percent(value: float) -> str:
    return share(value).removesuffix("\u00a0%")


def triangle(
    key: str,
    names: Sequence[str],
    values: Matrix,
    title: str,
    css: Callable[[float], str],
    *,
    labels: bool = True,
) -> Markup:
    """Draw the lower triangle of a number between pairs of columns, shaded by `css`.

    `values` has each pair once, in either order; a pair without one is left blank. Without
    `labels` the drawing is as large, so that several of them stand beside each other.
    """
    side = max(7.0, min(22.0, 300 / max(len(names), 1)))
    left, top = (104.0 if labels else 4.0), 4.0
    body = []
    for i, row in enumerate(names[1:], 1):
        y = top + (i - 1) * side
        if labels:
            body.append(_label(left - 6, y + side / 2 + 4, _short(row, 15), "end"))
        for j, column in enumerate(names[:i]):
            value = values.get((row, column), values.get((column, row)))
            if value is not None:
                body.append(
                    f'<rect class="{css(value)}" x="{left + j * side:.1f}" y="{y:.1f}" '
                    f'width="{side - 1:.1f}" height="{side - 1:.1f}"><title>'
                    f"{_text(f'{row} and {column}: {value:.2f}')}</title></rect>"
                )
    bottom = top + (len(names) - 1) * side
    for j, column in enumerate(names[:-1]):
        x, y = left + (j + 0.5) * side + 4, bottom + 8
        body.append(
            f'<text transform="translate({x:.1f} {y:.1f}) rotate(-55)" text-anchor="end">'
            f"{_text(_short(column, 12))}</text>"
        )
    said = f"{len(values)} pairs of {len(names)} columns; the numbers are in the table below."
    return _svg(key, left + len(names) * side, bottom + 76, title, said, body, "chart heat")


def strength_class(value: float) -> str:
    """Return the class of a strength in [0, 1].

    >>> strength_class(0.0), strength_class(0.4), strength_class(1.0)
    ('q0', 'q3', 'q5')
    """
    return f"q{sum(value > end for end in STRENGTHS)}"


def change_class(value: float, steps: Sequence[float] = STEPS) -> str:
    """Return the class of a difference: ``less1`` to ``less3``, ``same``, ``more1`` to ``more3``.

    >>> change_class(-0.2), change_class(0.01), change_class(0.03)
    ('less3', 'same', 'more1')
    """
    step = sum(abs(value) > end for end in steps)
    return "same" if not step else f"{'more' if value > 0 else 'less'}{step}"


def cell_class(value: float) -> str:
    """Return the class of a share of all rows in a cell."""
    return f"q{sum(value > end for end in CELL_SHADES)}"


def cell_change_class(value: float) -> str:
    """Return the class of a difference of such shares."""
    return change_class(value, CELL_STEPS)


def crossed(key: str, joint: Joint, title: str) -> tuple[Markup, Markup, Markup]:
    """Draw the cells of two columns three times: real, synthetic, and synthetic less real."""
    real, synthetic = joint.real, joint.synthetic
    change = [
        [s - (r or 0.0) for r, s in zip(*line, strict=True)]
        for line in zip(real, synthetic, strict=True)
    ]

    def grid(
        name: str, values: Sequence[Sequence[float | None]], css: Callable[[float], str]
    ) -> Markup:
        wide, high, left = 34.0, 22.0, 104.0
        body = []
        for i, (row, line) in enumerate(zip(joint.rows, values, strict=True)):
            y = 4 + i * high
            body.append(_label(left - 6, y + 15, _short(row, 16), "end"))
            for j, (column, value) in enumerate(zip(joint.columns, line, strict=True)):
                text = "fewer than 10 rows" if value is None else share(value)
                kind = "blank" if value is None else css(value)
                body.append(
                    f'<rect class="{kind}" x="{left + j * wide:.0f}" y="{y:.0f}" '
                    f'width="{wide - 1:.0f}" height="{high - 1:.0f}"><title>'
                    f"{_text(f'{row}, {column}: {text}')}</title></rect>"
                )
        bottom = 4 + len(values) * high
        longest = max(len(_short(column, 13)) for column in joint.columns)
        for j, column in enumerate(joint.columns):
            x = left + (j + 0.5) * wide + 4
            body.append(
                f'<text transform="translate({x:.1f} {bottom + 10:.1f}) rotate(-40)" '
                f'text-anchor="end">{_text(_short(column, 13))}</text>'
            )
        said = f"{len(joint.rows)} by {len(joint.columns)} cells; the numbers are in the table."
        width = left + wide * len(joint.columns) + 8
        return _svg(
            f"{key}-{name}",
            width,
            bottom + 18 + 4 * longest,
            f"{title}: {name}",
            said,
            body,
            "chart crossed",
        )

    return (
        grid("real", real, cell_class),
        grid("synthetic", synthetic, cell_class),
        grid("difference", change, cell_change_class),
    )


def forest(
    key: str,
    rows: Sequence[Estimate],
    title: str,
    *,
    unit: str = "",
    log: bool = False,
    start: float | None = None,
) -> Markup:
    """Draw estimates below each other on one axis: the value as a dot on its interval.

    A ring is what fresh real rows score, a tall dashed line the threshold; a refused row has a
    cross beside its number. With `log` the axis is the logarithm of values in (0, 1]; `start` is
    where it begins at the latest.
    """
    width, left, right, row = 780.0, 290.0, 688.0, 25.0
    numbers = [
        v
        for e in rows
        for v in (e.value, e.low, e.high, e.control, e.threshold, start)
        if v is not None
    ]
    floor = 1e-6
    low, high = (floor, 1.0) if log else (min(numbers), max(numbers))
    ticks = [10.0**p for p in range(-6, 1)] if log else _ticks(low, high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])

    def x(v: float) -> float:
        a, b, c = (math.log(max(u, floor)) for u in (v, low, high)) if log else (v, low, high)
        return left + (right - left) * min(max((a - b) / ((c - b) or 1.0), 0.0), 1.0)

    bottom = 8 + row * len(rows)
    body = []
    for tick in ticks:
        body.append(f'<path class="grid" d="M{x(tick):.1f} 4V{bottom:.0f}"/>')
        shown = f"{tick:g}" if log else quantity(_round3(tick), unit)
        body.append(_label(x(tick), bottom + 16, shown, "middle"))
    for i, e in enumerate(rows):
        y = 8 + row * (i + 0.5)
        said = [quantity(e.value, unit)]
        marks = []
        if e.threshold is not None:
            marks.append(f'<path class="threshold" d="M{x(e.threshold):.1f} {y - 10:.1f}v20"/>')
            said.append(f"threshold {quantity(e.threshold, unit)}")
        if e.low is not None and e.high is not None:
            marks.append(f'<path class="range" d="M{x(e.low):.1f} {y:.1f}H{x(e.high):.1f}"/>')
            said.append(f"interval {quantity(e.low, unit)} to {quantity(e.high, unit)}")
        if e.control is not None:
            marks.append(f'<circle class="control" cx="{x(e.control):.1f}" cy="{y:.1f}" r="5"/>')
            said.append(f"fresh real rows {quantity(e.control, unit)}")
        css = "refused" if e.is_refused else "value"
        marks.append(f'<circle class="{css}" cx="{x(e.value):.1f}" cy="{y:.1f}" r="3.6"/>')
        told = _text(f"{e.name}: {', '.join(said)}")
        body.append(f"<g><title>{told}</title>{''.join(marks)}</g>")
        body.append(_label(left - 12, y + 4, _short(e.name, 44), "end"))
        body.append(
            _label(
                width - 2,
                y + 4,
                f"{'✕ ' if e.is_refused else ''}{quantity(e.value, unit)}",
                "end",
                "refused-text" if e.is_refused else "",
            )
        )
    said_all = f"{len(rows)} rows; the numbers are in the table below the chart."
    return _svg(key, width, bottom + 24, title, said_all, body, "chart wide")


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers within or around the range.

    >>> _ticks(0.0, 0.43)
    [0.0, 0.1, 0.2, 0.3, 0.4]
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= 5)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


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
