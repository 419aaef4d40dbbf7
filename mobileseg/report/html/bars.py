"""Lying bars in groups: the same figure of several networks or files, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mobileseg.report.html.svg import WIDTH, Drawing, Scale, shortened

_LABEL, _VALUE = 108.0, 74.0
_BAR, _GAP = 12.0, 8.0
_TOP = 8.0


@dataclass(frozen=True)
class Group:
    """Bars that belong together, one per series; None where there is nothing to show."""

    name: str
    values: tuple[float | None, ...]


def bars_chart(
    groups: Sequence[Group],
    series: Sequence[str],
    title: str,
    text: Callable[[float], str],
) -> Markup:
    """Draw the groups from top to bottom; the series' colours are those of the legend beside."""
    high = _BAR * len(series) + _GAP
    says = f"{len(groups)} groups of {', '.join(series)}; the figures stand in the table"
    drawing = Drawing(title, says, _TOP + high * len(groups))
    longest = max((value or 0.0 for group in groups for value in group.values), default=1.0)
    x = Scale(0.0, longest or 1.0, _LABEL, WIDTH - _VALUE)
    for number, group in enumerate(groups):
        top = _TOP + number * high
        middle = top + (high - _GAP) / 2 + 4
        drawing.text(_LABEL - 6, middle, shortened(group.name, _LABEL - 8), "end", group.name)
        for at, (name, value) in enumerate(zip(series, group.values, strict=True)):
            y = top + at * _BAR
            if value is None:
                continue
            wide = max(0.6, x(value) - _LABEL)
            hover = f"{group.name}, {name}: {text(value)}"
            drawing.add("rect", f"bar s{at}", hover, x=_LABEL, y=y, width=wide, height=_BAR - 2)
            drawing.text(_LABEL + wide + 4, y + _BAR - 2, text(value), "small")
    return drawing.markup()
