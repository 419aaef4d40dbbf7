"""The roofline: what each layer reaches, under what the device reaches at best."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from markupsafe import Markup

from mobileseg.report.cells import Facts
from mobileseg.report.html.svg import SERIES, TOP, WIDTH, Drawing, Scale, log_spread

_HEIGHT = 320.0


def roofline_chart(rows: Sequence[Facts], roof: Facts, kinds: Sequence[str], title: str) -> Markup:
    """Draw a dot per layer that multiplies, its area the time, its colour the kernel.

    roof: `giga_per_s` at best, and `caches_gb_per_s` and `memory_gb_per_s`. kinds: the kernels in
    the order of their colours.
    """
    drawn = [row for row in rows if row["ms"] and row["macs"]]
    says = f"{len(drawn)} layers under {roof['giga_per_s']:.3g} GMAC/s"
    drawing = Drawing(title, says, _HEIGHT)
    at = [(row["macs"] / row["bytes_moved"], row["macs"] / row["ms"] / 1e6) for row in drawn]
    peak, slopes = roof["giga_per_s"], (roof["caches_gb_per_s"], roof["memory_gb_per_s"])
    # The slopes are in the picture, wherever the layers are.
    x_ends = log_spread([*(x for x, _ in at), *(0.5 * peak / slope for slope in slopes)])
    y_ends = log_spread([*(y for _, y in at), peak])
    x = Scale(*x_ends, 46, WIDTH - 8, log=True)
    y = Scale(*y_ends, _HEIGHT - 44, TOP, log=True)
    drawing.axes(x, y, "multiply-adds per byte moved", "1e9 multiply-adds a second")
    names = []
    for name, slope, style in zip(("caches", "memory"), slopes, ("roof", "roof far"), strict=True):
        low = max(x_ends[0], y_ends[0] / slope)
        knee = min(max(peak / slope, low), x_ends[1])
        drawing.polyline(style, [(x(low), y(low * slope)), (x(knee), y(knee * slope))])
        words = f"{name} {slope:.3g} GB/s"
        # Halfway up, where few layers are.
        middle = sqrt(low * knee)
        names.append((x(middle) + 6, y(middle * slope) + 4, words))
    start = min(max(peak / max(slopes), x_ends[0]), x_ends[1])
    drawing.polyline("roof", [(x(start), y(peak)), (x.end, y(peak))])
    drawing.text(x.end, y(peak) - 5, f"{peak:.3g} GMAC/s", "small end")
    longest = max((row["ms"] for row in drawn), default=1.0)
    # The large ones first: a small dot is not hidden.
    for row, (across, up) in sorted(zip(drawn, at, strict=True), key=lambda each: -each[0]["ms"]):
        style = f"dot s{kinds.index(row['kernel']) % SERIES}"
        hover = f"{row['layer']} ({row['kernel']}): {row['ms']:.3f} ms, bound by {row['bound']}"
        area = 2.5 + 7.5 * sqrt(row["ms"] / longest)
        drawing.add("circle", style, hover, cx=x(across), cy=y(up), r=area)
    for left, base, words in names:
        drawing.text(left, base, words, "small")
    return drawing.markup()
