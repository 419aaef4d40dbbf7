"""Which charts a report has, each with its legend; what they are drawn from is in the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mobileseg.report.cells import Facts, size
from mobileseg.report.html.bars import Group, bars_chart
from mobileseg.report.html.curves import Curve, curves_chart
from mobileseg.report.html.roofline import roofline_chart
from mobileseg.report.html.scatter import KINDS, SCORES, Point, accuracy_chart
from mobileseg.report.html.svg import SERIES
from mobileseg.report.html.tables import SIZES, device_names, estimate, is_figure


@dataclass(frozen=True)
class Chart:
    """A drawing, what stands under it, and the names of its series in the colours' order.

    shape: how the legend shows a series: `dot`, `bar` or `line`.
    """

    title: str
    svg: Markup
    legend: tuple[str, ...]
    shape: str = "dot"


def all_charts(facts: Facts) -> dict[str, list[Chart]]:
    """Return the charts by the section that they stand in; a section may have none."""
    rows = facts["ladder"]
    return {
        "front": [*_fronts(rows), *_measured_front(rows, facts["measured"]), *_size_front(rows)],
        "layers": _before_after(facts["layers"]),
        "roofline": [_roofline(each) for each in facts["layers"][-1:]],
        "rooflines": [_roofline(each) for each in facts["layers"][:-1]],
        "int8": [_sensitivity(each) for each in facts["sensitivity"]],
        "sizes": _sizes(rows),
        "training": _training(facts["training"]),
    }


def _fronts(rows: Sequence[Facts]) -> list[Chart]:
    found = []
    for device in device_names(rows):
        points = []
        for row in rows:
            for kind, precision in enumerate(KINDS):
                score, time = row.get(SCORES[kind]), estimate(row, device, precision)
                if score is not None and time is not None:
                    band = (time["low_ms"], time["high_ms"])
                    points.append(Point(row["label"], time["ms"], score, kind, band))
        if points:
            title = f"Accuracy against estimated time on {device}"
            svg = accuracy_chart(points, title, "time of one picture", "ms")
            found.append(Chart(title, svg, KINDS))
    return found


def _measured_front(rows: Sequence[Facts], measured: Sequence[Facts]) -> list[Chart]:
    by_label = {row["label"]: row for row in rows}
    points = []
    for each in measured:
        score = None
        if each["here"] and each["precision"] in KINDS and each["label"] in by_label:
            kind = KINDS.index(each["precision"])
            score = by_label[each["label"]].get(SCORES[kind])
        if score is not None:
            points.append(Point(each["label"], each["median_ms"], score, kind))
    if not points:
        return []
    title = "Accuracy against measured time"
    return [Chart(title, accuracy_chart(points, title, "median time", "ms"), KINDS)]


def _size_front(rows: Sequence[Facts]) -> list[Chart]:
    points = [
        Point(row["label"], row[key] / 1e3, row[score], kind)
        for row in rows
        for kind, (key, score) in enumerate(
            zip(("float32_bytes", "int8_bytes"), SCORES, strict=True)
        )
        if row.get(score) is not None
    ]
    if not points:
        return []
    title = "Accuracy against the file's size"
    return [Chart(title, accuracy_chart(points, title, "file", "KB"), KINDS)]


def _before_after(layers: Sequence[Facts]) -> list[Chart]:
    """Draw the first and the last network's time by block; of a single one its own."""
    if not layers:
        return []
    ends = [layers[0], layers[-1]] if len(layers) > 1 else [layers[0]]
    sums = [_by_block(each["rows"]) for each in ends]
    names = tuple(each["label"] for each in ends)
    groups = [
        Group(name, tuple(found.get(name) for found in sums)) for name in _merged(*map(list, sums))
    ]
    which = f"{ends[-1]['precision']} on {ends[-1]['device']}, ms"
    title = f"Time by block, {' and '.join(names)}: {which}"
    return [Chart(title, bars_chart(groups, names, title, "{:.3f}".format), names, "bar")]


def _by_block(rows: Sequence[Facts]) -> dict[str, float]:
    """Return the time of each block, in running order: what a layer's name says before the dot."""
    found: dict[str, float] = {}
    for row in rows:
        block = row["layer"].split(".")[0]
        found[block] = found.get(block, 0.0) + row["ms"]
    return found


def _merged(first: list[str], last: list[str] | None = None) -> list[str]:
    """Return the names of both in running order: one only in `last` after its predecessor there."""
    found, at = list(first), 0
    for name in last or []:
        if name in found:
            at = found.index(name) + 1
        else:
            found.insert(at, name)
            at += 1
    return found


def _roofline(priced: Facts) -> Chart:
    kinds = tuple(
        dict.fromkeys(
            kind
            for kind in priced["kinds"]
            if any(row["kernel"] == kind and row["macs"] and row["ms"] for row in priced["rows"])
        )
    )
    title = f"Roofline of {priced['label']}, {priced['precision']} on {priced['device']}"
    return Chart(title, roofline_chart(priced["rows"], priced["roof"], kinds, title), kinds)


def _sensitivity(tried: Facts) -> Chart:
    groups = [
        Group(str(each.get("layer")), (each["sqnr_db"],))
        for each in tried["errors"]
        if is_figure(each.get("sqnr_db"))
    ]
    title = f"{tried['label']}: SQNR with one layer in int8, dB (short is bad)"
    svg = bars_chart(groups, (tried["label"],), title, "{:.1f}".format)
    return Chart(title, svg, (tried["label"],), "bar")


def _sizes(rows: Sequence[Facts]) -> list[Chart]:
    """Draw raw beside gzipped bytes; for each precision that any step has."""
    found = []
    for name in SIZES:
        keys = (f"{name}_bytes", f"{name}_gzip_bytes")
        groups = [Group(row["label"], tuple(row.get(key) for key in keys)) for row in rows]
        legend: tuple[str, ...] = ("raw", "gzipped")
        if not any(group.values[1] for group in groups):
            groups = [Group(group.name, group.values[:1]) for group in groups]
            legend = legend[:1]
        if any(group.values[0] for group in groups):
            title = f"Size of the {name} file"
            svg = bars_chart(groups, legend, title, lambda value: size(round(value)))
            found.append(Chart(title, svg, legend, "bar"))
    return found


def _training(histories: Sequence[Facts]) -> list[Chart]:
    found = []
    for key, title in (("val_miou_percent", "Validation mIoU, %"), ("loss", "Training loss")):
        # More lines than colours say nothing: the rest goes on in a chart of its own.
        for start in range(0, len(histories), SERIES):
            curves = [_curve(each, key) for each in histories[start : start + SERIES]]
            curves = [curve for curve in curves if curve.points]
            if curves:
                names = tuple(curve.name for curve in curves)
                found.append(Chart(title, curves_chart(curves, title, title), names, "line"))
    return found


def _curve(history: Facts, key: str) -> Curve:
    points = [
        (float(record["epoch"]), float(record[key]))
        for record in history["history"]
        if is_figure(record.get("epoch")) and is_figure(record.get(key))
    ]
    return Curve(history["label"], tuple(points))
