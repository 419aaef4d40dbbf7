"""Lying bars in groups: the same figure of several networks or files, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mobileseg.report.html.svg import WIDTH, Drawing, Scale, shortened, wide

_LABEL, _VALUE = 150.0, 74.0
_BAR, _GAP = 12.0, 8.0
_TOP = 8.0
# More bars nobody reads.
_MOST = 40


@dataclass(frozen=True, eq=False)
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
    shown = _longest(groups)
    high = _BAR * len(series) + _GAP
    says = f"{len(groups)} groups of {', '.join(series)}; the figures stand in the table"
    drawing = Drawing(title, says, _TOP + high * len(shown))
    longest = max((value or 0.0 for group in shown for value in group.values), default=1.0)
    label = min(_LABEL, max((wide(group.name) for group in shown), default=0.0) + 8)
    x = Scale(0.0, longest or 1.0, label, WIDTH - _VALUE)
    for number, group in enumerate(shown):
        top = _TOP + number * high
        middle = top + (high - _GAP) / 2 + 4
        drawing.text(label - 6, middle, shortened(group.name, label - 8), "end", group.name)
        for at, (name, value) in enumerate(zip(series, group.values, strict=True)):
            y = top + at * _BAR
            if value is None:
                continue
            length = max(0.6, x(value) - label)
            hover = f"{group.name}, {name}: {text(value)}"
            drawing.add("rect", f"bar s{at}", hover, x=label, y=y, width=length, height=_BAR - 2)
            drawing.text(label + length + 4, y + _BAR - 2, text(value), "small bare")
    return drawing.markup()


def _longest(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that have the longest bars, in their order, and the sum of the others."""
    if len(groups) <= _MOST:
        return list(groups)
    ranked = sorted(groups, key=lambda group: -max(value or 0.0 for value in group.values))
    kept, others = ranked[: _MOST - 1], ranked[_MOST - 1 :]
    columns = zip(*(group.values for group in others), strict=True)
    sums = tuple(sum(value or 0.0 for value in column) or None for column in columns)
    rest = Group(f"{len(others)} others", sums)
    return [*(group for group in groups if group in kept), rest]
