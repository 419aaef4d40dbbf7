"""A ladder's accuracy against what it costs, as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mobileseg.figure import COLOURS, OTHER, drawing
from mobileseg.report.cells import Facts
from mobileseg.report.html.scatter import KINDS, SCORES, Point, pareto
from mobileseg.report.html.tables import device_names, estimate

_WIDTH, _HEIGHT = 4.6, 4.0
_DOT = 4.0  # pixels
# Where a name may stand, in points from its dot, and which of its edges is there.
_PLACES = (
    (0, 5, "center", "bottom"),
    (0, -5, "center", "top"),
    (5, 0, "left", "center"),
    (-5, 0, "right", "center"),
    (5, 6, "left", "bottom"),
    (5, -6, "left", "top"),
    (-5, 6, "right", "bottom"),
    (-5, -6, "right", "top"),
)


def front_picture(steps: Sequence[Facts], path: Path) -> Path:
    """Draw the trained steps by time and by size, with the Pareto fronts. Return `path`.

    Raises MobilesegError where matplotlib is missing.
    """
    device = device_names(steps)[0]
    costs: list[tuple[str, Callable[[Facts, str], float | None]]] = [
        (
            f"estimated on {device}, ms",
            lambda step, kind: (estimate(step, device, kind) or {}).get("ms"),
        ),
        ("measured here, ms", lambda step, kind: step.get("measured_ms", {}).get(kind)),
        ("file, KB", lambda step, kind: step[f"{kind}_bytes"] / 1e3),
    ]
    panels = [(label, found) for label, cost in costs if (found := _points(steps, cost))]
    with drawing(path, (_WIDTH * len(panels), _HEIGHT)) as figure:
        every = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (label, points) in zip(every, panels, strict=True):
            _draw(axes, label, points)
        # Where a name fits is known when everything else has its place.
        figure.draw_without_rendering()
        for axes, (_, points) in zip(every, panels, strict=True):
            _name(axes, points)
    return path


def _points(steps: Sequence[Facts], cost: Callable[[Facts, str], float | None]) -> list[Point]:
    return [
        Point(step["step"].rsplit("/", 1)[-1], spent, step[score], kind)
        for step in steps
        for kind, score in enumerate(SCORES)
        if (spent := cost(step, KINDS[kind])) is not None and step.get(score) is not None
    ]


def _draw(axes: Any, label: str, points: Sequence[Point]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter  # noqa: PLC0415

    front = pareto(points)
    xs, ys = ([getattr(each, what) for each in front] for what in ("cost", "score"))
    axes.step(xs, ys, where="post", color=OTHER, linewidth=1.0, zorder=1)
    for kind, name in enumerate(KINDS):
        some = [each for each in points if each.kind == kind]
        where = [each.cost for each in some], [each.score for each in some]
        axes.scatter(*where, color=COLOURS[kind], label=name, s=22)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{label} (logarithmic)")
    axes.set_ylabel("mIoU, %")
    axes.margins(x=0.15, y=0.08)
    axes.grid(alpha=0.25)
    axes.legend(loc="best")


def _name(axes: Any, points: Sequence[Point]) -> None:
    """Write names where there is room, those of the front first."""
    from matplotlib.transforms import Bbox  # noqa: PLC0415

    front = pareto(points)
    dots = [axes.transData.transform((each.cost, each.score)) for each in points]
    taken = [Bbox.from_bounds(x - _DOT, y - _DOT, 2 * _DOT, 2 * _DOT) for x, y in dots]
    taken.append(axes.get_legend().get_window_extent())
    for point in sorted(points, key=lambda each: each not in front):
        for dx, dy, across, up in _PLACES:
            text = axes.annotate(
                point.name,
                (point.cost, point.score),
                (dx, dy),
                textcoords="offset points",
                ha=across,
                va=up,
                fontsize=6,
            )
            box = text.get_window_extent()
            inside = axes.bbox.containsx(box.x0) and axes.bbox.containsx(box.x1)
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
