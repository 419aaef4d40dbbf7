"""Pictures of an estimate: time per operator as bars, and the roofline. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mobileseg.figure import COLOURS, OTHER, drawing
from mobileseg.latency.profile import Precision
from mobileseg.latency.roof import Roof, roof_of
from mobileseg.latency.table import Pricing, Row

# Beyond this many bars nobody reads them, nor shorter ones, unless together they are much of the
# time; the rest is summed up in one.
_BARS = 40
_LEAST_SHARE = 0.005
_LITTLE = 0.1
_WIDTH, _BAR_HEIGHT = 9.0, 0.24


def plot(pricing: Pricing, precision: Precision, title: str, folder: Path, stem: str) -> list[Path]:
    """Write STEM-layers.png and STEM-roofline.png, and return their paths.

    Raises MobilesegError where matplotlib is missing.
    """
    colours = _colours(pricing)
    written = []
    for name, draw in (("layers", _layers), ("roofline", _roofline)):
        path = folder / f"{stem}-{name}.png"
        with drawing(path) as figure:
            draw(figure, pricing, precision, title, colours)
        written.append(path)
    return written


def _colours(pricing: Pricing) -> dict[str, str]:
    """A colour per kernel; the least important ones share grey."""
    kernels = [kind.kernel for kind in pricing.by_kind() if kind.ms]
    return {kernel: COLOURS[i] if i < len(COLOURS) else OTHER for i, kernel in enumerate(kernels)}


def _layers(figure: Any, pricing: Pricing, _precision: Precision, title: str, colours: Any) -> None:
    """Bars in running order with the band of each."""
    rows = [row for row in pricing.rows if row.ms]
    shown = worth_a_bar(rows)
    rest = sum(row.ms for row in rows if row.index not in shown)
    rows = [row for row in rows if row.index in shown]
    count = len(rows) + bool(rest)
    figure.set_size_inches(_WIDTH, 1.6 + _BAR_HEIGHT * count)
    axes = figure.add_subplot()
    for at, row in enumerate(rows):
        reach = [[row.ms - row.low_ms], [row.high_ms - row.ms]]
        axes.barh(at, row.ms, color=colours[row.kernel], height=0.75)
        axes.errorbar(row.ms, at, xerr=reach, color="#333333", linewidth=0.8, capsize=1.5)
    names = [f"{row.layer}  {row.index}" for row in rows]
    longest = _longest(rows)
    if rest:
        # Hundreds of short layers may sum up to more than the picture is wide.
        axes.barh(len(rows), min(rest, longest), color="white", edgecolor=OTHER, height=0.75)
        axes.annotate(f"{rest:.3g} ms", (0, len(rows)), (4, -3), textcoords="offset points")
        names.append(f"{sum(bool(row.ms) for row in pricing.rows) - len(rows)} others together")
    axes.set_yticks(range(count), names)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, longest)
    axes.set_xlabel("ms; line: 80 % band of a single layer (cut where it leaves the picture)")
    axes.set_title(
        f"{title}\n{pricing.ms:.2f} ms ({pricing.low_ms:.2f}-{pricing.high_ms:.2f})", loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_axisbelow(True)
    _legend(axes, pricing, colours)


def worth_a_bar(rows: Sequence[Row]) -> set[int]:
    """Return the longest rows' indices: those worth a bar, until little is left without one."""
    shown: set[int] = set()
    left = sum(row.share for row in rows)
    for row in sorted(rows, key=lambda row: -row.ms)[:_BARS]:
        if row.share < _LEAST_SHARE and left <= _LITTLE:
            break
        shown.add(row.index)
        left -= row.share
    return shown


def _longest(rows: list[Row]) -> float:
    """Wide enough for every bar; one assumed kernel's wide band must not flatten all the rest."""
    tops = [min(row.high_ms, 3.0 * row.ms) for row in rows]
    return 1.08 * max([*tops, 1e-6])


def _legend(axes: Any, pricing: Pricing, colours: dict[str, str]) -> None:
    from matplotlib.patches import Patch  # noqa: PLC0415

    named = [
        Patch(color=colours[kind.kernel], label=f"{kind.kernel} {100 * kind.share:.0f} %")
        for kind in pricing.by_kind()
        if kind.share >= _LEAST_SHARE and colours.get(kind.kernel, OTHER) != OTHER
    ]
    if OTHER in colours.values():
        named.append(Patch(color=OTHER, label="other"))
    axes.figure.legend(handles=named, loc="outside right upper", frameon=False)


def _roofline(
    figure: Any, pricing: Pricing, precision: Precision, title: str, colours: Any
) -> None:
    """Arithmetic against traffic per multiply-add, under what the device reaches at best."""
    from matplotlib.ticker import LogLocator, NullFormatter  # noqa: PLC0415

    figure.set_size_inches(_WIDTH, 5.0)
    axes = figure.add_subplot()
    rows = [row for row in pricing.rows if row.ms and row.macs]
    longest = max((row.ms for row in rows), default=1.0)
    for row in sorted(rows, key=lambda row: -row.ms):
        axes.scatter(
            row.macs / row.bytes_moved,
            row.macs / row.ms / 1e6,
            s=12 + 160 * row.ms / longest,
            color=colours[row.kernel],
            alpha=0.75,
            linewidths=0.4,
            edgecolors="white",
        )
    intensities = [row.macs / row.bytes_moved for row in rows] or [1.0]
    _roof(axes, roof_of(pricing, precision), min(intensities) / 2, max(intensities) * 2)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("multiply-adds per byte moved")
    axes.set_ylabel("1e9 multiply-adds a second (estimated)")
    axes.set_title(f"{title}: roofline; a dot is a layer, its area the time", loc="left")
    axes.grid(linewidth=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes, pricing, {row.kernel: colours[row.kernel] for row in rows})


def _roof(axes: Any, roof: Roof, low: float, high: float) -> None:
    """The slopes of the caches and of memory, and the best rate of the kernels in use."""
    peak, caches, memory = roof.giga_per_s, roof.caches_gb_per_s, roof.memory_gb_per_s
    # Both slopes are in the picture, wherever the layers are.
    low = min(low, 0.5 * peak / caches)
    for name, rate, style in (("caches", caches, "-"), ("memory", memory, "--")):
        knee = min(max(peak / rate, low), high)
        axes.plot([low, knee], [low * rate, knee * rate], style, color="#555555", linewidth=0.9)
        axes.annotate(
            f"{name} {rate:.0f} GB/s",
            (low, low * rate),
            textcoords="offset points",
            xytext=(14, 0),
            color="#555555",
        )
    start = min(max(peak / caches, low), high)
    axes.plot([start, high], [peak, peak], "-", color="#555555", linewidth=0.9)
    axes.annotate(
        f"{peak:.0f} GMAC/s",
        (high, peak),
        textcoords="offset points",
        xytext=(-4, 4),
        ha="right",
        color="#555555",
    )
