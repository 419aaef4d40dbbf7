"""Training curves: a line per network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mobileseg.report.html.svg import SERIES, TOP, WIDTH, Drawing, Scale, spread

_HEIGHT = 270.0


@dataclass(frozen=True)
class Curve:
    """One training: (epoch, value) in order, without the epochs that have no value."""

    name: str
    points: tuple[tuple[float, float], ...]


def curves_chart(curves: Sequence[Curve], title: str, unit: str) -> Markup:
    """Draw the curves over the epochs; colour and dashes are those of the legend beside."""
    ends = "; ".join(f"{each.name} ends at {each.points[-1][1]:.4g}" for each in curves)
    drawing = Drawing(title, f"{unit} over epochs. {ends}", _HEIGHT)
    points = [point for each in curves for point in each.points]
    epochs = [epoch for epoch, _ in points]
    x = Scale(min(epochs), max(epochs), 46, WIDTH - 12)
    y = Scale(*spread([value for _, value in points]), _HEIGHT - 44, TOP)
    drawing.axes(x, y, "epoch", unit)
    for number, each in enumerate(curves):
        style = f"s{number % SERIES}"
        drawn = [(x(epoch), y(value)) for epoch, value in each.points]
        drawing.polyline(f"curve {style}", drawn)
        for (epoch, value), (at, up) in zip(each.points, drawn, strict=True):
            hover = f"{each.name}, epoch {epoch:g}: {value:.4g}"
            drawing.add("circle", f"dot {style}", hover, cx=at, cy=up, r=2.6)
    return drawing.markup()
