"""Drawings as inline SVG. Colours are classes, so that the page's light and dark decide them.

Text goes through ElementTree, which escapes it, whatever a layer or a class is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from xml.etree import ElementTree as ET

from markupsafe import Markup

# Units of a drawing's width: 13 of them are a letter's height, on a phone and on a large screen.
WIDTH = 400.0
# Where charts begin, below the title of their y axis.
TOP = 30.0
# How many series have a colour of their own, `.s0` to `.s8`.
SERIES = 9
# What a letter is wide on average, in the widest of the usual fonts.
_LETTER = 7.8


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` to units from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = log10(low), log10(high), log10(value)
        share = (at - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round values between low and high, at most `most` of them."""
        found = _log_ticks(self.low, self.high) if self.log else []
        if len(found) > most + 2:
            found = [value for value in found if f"{value:.0e}".startswith("1")]
        if len(found) > 2:
            return found
        step = _round_step((self.high - self.low) / max(1, most - 1))
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    every = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return [value for value in every if low * 0.999 <= value <= high * 1.001]


def _round_step(least: float) -> float:
    power = 10.0 ** floor(log10(max(least, 1e-12)))
    return next((d * power for d in (1, 2, 5) if d * power >= least * 0.999), 10 * power)


def tick_texts(ticks: Sequence[float], log: bool) -> list[str]:
    """Return the ticks as people read them: with as many digits as they differ by."""
    if log:
        return [f"{value:,.0f}" if value >= 1000 else f"{value:g}" for value in ticks]
    for digits in range(6):
        texts = [f"{value:,.{digits}f}" for value in ticks]
        near = (abs(round(value, digits) - value) < 1e-9 * max(1.0, abs(value)) for value in ticks)
        if all(near):
            break
    return texts


class Drawing:
    """A picture `WIDTH` wide, with a title and a description for who cannot see it."""

    def __init__(self, title: str, says: str, height: float) -> None:
        box = f"0 0 {WIDTH:g} {height:g}"
        words = {"viewBox": box, "role": "img", "aria-label": title, "class": "chart"}
        self._root = ET.Element("svg", words)
        self.height = height
        ET.SubElement(self._root, "desc").text = says

    def add(self, tag: str, style: str, hover: str = "", **where: float | str) -> None:
        """Add an element of a class, its attributes rounded; `hover` shows under the mouse."""
        given = {
            name.replace("_", "-"): value if isinstance(value, str) else f"{value:.1f}"
            for name, value in where.items()
        }
        element = ET.SubElement(self._root, tag, {"class": style, **given})
        if hover:
            ET.SubElement(element, "title").text = hover

    def text(self, x: float, y: float, words: str, style: str = "", hover: str = "") -> None:
        """Add text; style: `end` or `middle` say where x is."""
        place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": style or "start"}
        element = ET.SubElement(self._root, "text", place)
        element.text = words
        if hover:
            ET.SubElement(element, "title").text = hover

    def polyline(self, style: str, points: Sequence[tuple[float, float]]) -> None:
        """Add a line through points."""
        self.add("polyline", style, points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points))

    def axes(self, x: Scale, y: Scale, x_title: str, y_title: str) -> None:
        """Add grid lines, ticks and the axes' titles."""
        for value, words in zip(y.ticks(), tick_texts(y.ticks(), y.log), strict=True):
            self.add("line", "grid", x1=x.start, x2=x.end, y1=y(value), y2=y(value))
            self.text(x.start - 5, y(value) + 4, words, "end")
        for value, words in zip(x.ticks(), tick_texts(x.ticks(), x.log), strict=True):
            self.add("line", "grid", x1=x(value), x2=x(value), y1=y.start, y2=y.end)
            self.text(x(value), y.start + 16, words, "middle")
        self.text((x.start + x.end) / 2, y.start + 34, x_title, "middle")
        self.text(2, 13, y_title)

    def markup(self) -> Markup:
        """Return the picture for the page."""
        # Built from escaped text alone.
        return Markup(ET.tostring(self._root, encoding="unicode"))


def wide(words: str) -> float:
    """Return about how many units of width a text takes."""
    return _LETTER * len(words)


def shortened(words: str, room: float) -> str:
    """Return as much of a text as there is room for."""
    most = max(2, int(room / _LETTER))
    return words if len(words) <= most else words[: most - 1] + "…"


def spread(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """Return the ends of an axis that has room around its values."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def log_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic axis with room around its values."""
    low, high = spread([log10(value) for value in values])
    return 10.0**low, 10.0**high
