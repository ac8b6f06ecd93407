"""Loss curves as a small drawing that follows the page's colours, and the same numbers as a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tabs.text import escaped
from training.config import in_digits

Points = Sequence[tuple[int, float]]
DRAWN_POINTS = 400
LISTED_ROWS = 60


@dataclass(frozen=True)
class Curve:
    """One line of the drawing; `dots` marks each point, for values measured now and then."""

    kind: str
    label: str
    points: Points
    dots: bool = False


def drawing(curves: Sequence[Curve], steps: int, title: str) -> str:
    """All curves in one frame, from step 0 to `steps`. The lines stretch with the page, the words do not."""
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    right = max([steps, 1, *(step for curve in curves for step, _ in curve.points)])
    marks = nice_marks(max(value for curve in curves for _, value in curve.points))
    top = marks[-1]
    lines = "".join(_line(curve, right, top) for curve in curves)
    grid = "".join(f'<path class="grid" d="M0 {_y(mark, top)}H100"/>' for mark in marks)
    ticks = "".join(f'<span style="bottom:{100 * mark / top:.1f}%">{mark:g}</span>' for mark in marks)
    return (f'<div class="plot" role="img" aria-label="{escaped(title)}. {escaped(in_words(curves))}">'
            f'<div class="y-marks" aria-hidden="true">{ticks}</div>'
            '<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
            f"{grid}{lines}</svg>"
            f'<div class="x-marks" aria-hidden="true"><span>0</span><span>{_middle(right)}</span>'
            f"<span>step {right}</span></div></div>")


def table(curves: Sequence[Curve]) -> str:
    """The same numbers for those who don't see the drawing; long runs are thinned, first and last kept."""
    columns = [dict(curve.points) for curve in curves]
    steps = sorted({step for column in columns for step in column})
    kept = _thinned([(step, 0.0) for step in steps], LISTED_ROWS)
    head = "".join(f'<th scope="col">{escaped(curve.label)}</th>' for curve in curves)
    rows = "".join(f'<tr><th scope="row">{step}</th>'
                   + "".join(f"<td>{_number(column.get(step))}</td>" for column in columns) + "</tr>"
                   for step, _ in kept)
    return ('<table class="numbers"><thead><tr><th scope="col">Step</th>'
            f"{head}</tr></thead><tbody>{rows}</tbody></table>")


def in_words(curves: Sequence[Curve]) -> str:
    """First and last value of each curve."""
    ends = ((curve.label, *curve.points[0], *curve.points[-1]) for curve in curves if curve.points)
    return " ".join(f"{label}: {in_digits(first, 3)} at step {start}, {in_digits(last, 3)} at step {end}."
                    for label, start, first, end, last in ends)


def nice_marks(highest: float) -> list[float]:
    """From 0 in a few even steps of 1, 2 or 5 to at least `highest`; from 0 to 1 where that can't be drawn."""
    if not 1e-9 <= highest <= 1e12:
        return [0.0, 1.0]
    rough = highest / 4
    size = 10 ** math.floor(math.log10(rough))
    gap = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    return [float(f"{gap * count:.10g}") for count in range(math.ceil(highest / gap - 1e-9) + 1)]


def _line(curve: Curve, right: int, top: float) -> str:
    places = [(100 * step / right, _y(value, top)) for step, value in _thinned(curve.points, DRAWN_POINTS)
              if math.isfinite(value)]
    if not places:
        return ""
    path = "M" + "L".join(f"{x:.2f} {y}" for x, y in places)
    # A line of no length with round ends is a dot that stays round however the drawing is stretched.
    dots = "".join(f'<path class="{curve.kind} dot" d="M{x:.2f} {y}h0"/>' for x, y in places) if curve.dots else ""
    return f'<path class="{curve.kind}" d="{path}"/>{dots}'


def _y(value: float, top: float) -> float:
    return round(100 - 100 * min(max(value, 0.0), top) / top, 2)


def _thinned(points: Points, most: int) -> Points:
    if len(points) <= most:
        return points
    stride = (len(points) - 1) / (most - 1)
    return [points[round(place * stride)] for place in range(most)]


def _middle(right: int) -> str:
    return str(right // 2) if right >= 4 else ""


def _number(value: float | None) -> str:
    return "" if value is None else in_digits(value, 4)
