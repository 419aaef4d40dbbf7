"""Accuracy against what it costs, with the Pareto front."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mobileseg.report.html.svg import TOP, WIDTH, Drawing, Scale, log_spread, spread, wide

_HEIGHT = 330.0
_LETTER_HEIGHT = 13.0
# Where a label may stand, from its dot: right, left, above, below, and farther off.
_PLACES = ((8, 4), (-8, 4), (0, -9), (0, 18), (8, -8), (8, 16), (-8, -8), (-8, 16))


@dataclass(frozen=True)
class Point:
    """A network's cost and accuracy; `kind` 0 is float, 1 int8. band: of the cost, if known."""

    name: str
    cost: float
    score: float
    kind: int
    band: tuple[float, float] | None = None


KINDS = ("float32", "int8")
SCORES = ("miou_percent", "miou_int8_percent")  # of each kind


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that none beats in both cost and score, the cheapest first."""
    best: list[Point] = []
    for point in sorted(points, key=lambda each: (each.cost, -each.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return best


def accuracy_chart(points: Sequence[Point], title: str, cost: str, unit: str) -> Markup:
    """Draw the points; a line joins the Pareto front. `cost` is what the x axis counts."""
    front = pareto(points)
    says = "On the front: " + "; ".join(_words(point, unit) for point in front)
    drawing = Drawing(title, says, _HEIGHT)
    x = Scale(*log_spread([each.cost for each in points]), 46, WIDTH - 8, log=True)
    y = Scale(*spread([each.score for each in points], 0.1), _HEIGHT - 44, TOP)
    drawing.axes(x, y, f"{cost}, {unit} (logarithmic)", "mIoU, %")
    # Up a step only where the better one is reached.
    corners = [(x(each.cost), y(each.score)) for each in front]
    stairs = [corners[0]]
    for before, after in itertools.pairwise(corners):
        stairs += [(after[0], before[1]), after]
    drawing.polyline("front", stairs)
    for each in points:
        if each.band is not None:
            low, high = (min(max(x(end), x.start), x.end) for end in each.band)
            at = y(each.score)
            drawing.add("line", f"band s{each.kind}", x1=low, x2=high, y1=at, y2=at)
    for each in points:
        _dot(drawing, each, x(each.cost), y(each.score), each in front, unit)
    _labels(drawing, points, front, x, y)
    return drawing.markup()


def _words(point: Point, unit: str) -> str:
    return f"{point.name} {KINDS[point.kind]}: {point.score:.2f} % at {point.cost:.3g} {unit}"


def _dot(drawing: Drawing, point: Point, x: float, y: float, best: bool, unit: str) -> None:
    style = f"dot s{point.kind}" + (" best" if best else "")
    hover = _words(point, unit)
    if point.kind == 0:
        drawing.add("circle", style, hover, cx=x, cy=y, r=5.0)
    else:
        drawing.add("rect", style, hover, x=x - 4.5, y=y - 4.5, width=9.0, height=9.0)


def _labels(
    drawing: Drawing, points: Sequence[Point], front: Sequence[Point], x: Scale, y: Scale
) -> None:
    """Name the points where there is room, those of the front first; the others on hovering."""
    taken = [(x(p.cost) - 5, y(p.score) - 5, x(p.cost) + 5, y(p.score) + 5) for p in points]
    for point in sorted(points, key=lambda each: each not in front):
        long = wide(point.name)
        for dx, dy in _PLACES:
            at, base = x(point.cost) + dx, y(point.score) + dy
            left = at - (0 if dx > 0 else long if dx < 0 else long / 2)
            box = (left, base - _LETTER_HEIGHT + 3, left + long, base + 3)
            inside = box[0] > x.start and box[2] < WIDTH and box[1] > 16 and box[3] < y.start
            if inside and not any(_meet(box, other) for other in taken):
                drawing.text(at, base, point.name, "start" if dx > 0 else "end" if dx else "middle")
                taken.append(box)
                break


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
