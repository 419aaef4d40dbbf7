"""The page's tables: rows of cells that can be sorted by what they mean, not by how they read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeGuard

from mobileseg.report.cells import Facts, number, signed, size


@dataclass(frozen=True)
class Cell:
    """What is read, and the number that it is sorted by; `small` stands below."""

    text: str
    value: float | None = None
    small: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """A caption, the columns' names, and rows; the first cell of each names it."""

    caption: str
    columns: tuple[str, ...]
    rows: list[list[Cell]] = field(default_factory=list)

    def figures(self, column: int) -> bool:
        """Whether a column holds figures; the first one holds names."""
        return column > 0 and any(row[column].value is not None for row in self.rows)


NONE = Cell("-")


def ladder_table(rows: Sequence[Facts]) -> HtmlTable:
    """Return a row per step: what it costs and what it reaches."""
    devices = device_names(rows)
    priced = [(name, precision) for name in devices for precision in ("float32", "int8")]
    columns = ["step", "from", "mIoU float, %", "mIoU int8, %"]
    qat = any("miou_qat_percent" in row for row in rows)
    columns += ["mIoU int8, trained, %"] if qat else []
    columns += [f"{name} {precision}, ms" for name, precision in priced]
    columns += ["int8 file", "float32 file", "int8 activations"]
    columns += ["multiply-adds, M", "parameters, M", "input", "inherited, %"]
    table = HtmlTable("The ladder", tuple(columns))
    for row in rows:
        cells = [Cell(row["label"]), Cell(row.get("parent") or "-")]
        scores = ["miou_percent", "miou_int8_percent"] + (["miou_qat_percent"] if qat else [])
        cells += [_number(row.get(key)) for key in scores]
        cells += [_estimate(estimate(row, *each)) for each in priced]
        cells += [_size(row.get(key)) for key in ("int8_bytes", "float32_bytes")]
        cells += [_size(row.get("live_bytes", {}).get("int8"))]
        cells += [_millions(row["macs"], 1), _millions(row["params"], 3)]
        high, wide = row["image_size"]
        share = row.get("inherited_share")
        cells += [Cell(f"{high}x{wide}", high * wide)]
        cells += [NONE if share is None else Cell(f"{100 * share:.0f}", share)]
        table.rows.append(cells)
    return table


def device_names(rows: Sequence[Facts]) -> list[str]:
    """Return the devices that any row is priced for, in order."""
    return list(dict.fromkeys(name for row in rows for name in row["estimated_ms"]))


def estimate(row: Facts, device: str, precision: str) -> Facts | None:
    """Return a row's estimated time on a device, if it has one."""
    found: Facts | None = row["estimated_ms"].get(device, {}).get(precision)
    return found


def bought_table(rows: Sequence[Facts], judge: str) -> HtmlTable:
    """Return what each step changed against the one it starts from, or else the one above."""
    columns = ["step", "against", "mIoU float, points", "mIoU int8, points"]
    columns += [f"{judge} int8, ms", "time", "int8 file", "multiply-adds", "parameters"]
    table = HtmlTable("What each rung bought", tuple(columns))
    by_label = {row["label"]: row for row in rows}
    for above, row in itertools.pairwise(rows):
        before = by_label.get(row.get("parent"), above)
        table.rows.append(_bought(row, before, judge))
    if len(rows) > 2:
        table.rows.append(_bought(rows[-1], rows[0], judge))
    return table


def _bought(row: Facts, before: Facts, judge: str) -> list[Cell]:
    times = [(estimate(each, judge, "int8") or {}).get("ms") for each in (before, row)]
    keys = ("miou_percent", "miou_int8_percent")
    return [
        Cell(row["label"]),
        Cell(before["label"]),
        *(_difference(before.get(key), row.get(key)) for key in keys),
        _difference(*times),
        _ratio(*times),
        *(_ratio(before.get(key), row.get(key)) for key in ("int8_bytes", "macs", "params")),
    ]


def less(before: float, after: float) -> str:
    """Return in words how many times one number is less or more than another."""
    if before == after:
        return "the same"
    if before > after:
        return f"{before / after:.3g}x less"
    return f"{after / before:.3g}x more"


def sizes_table(rows: Sequence[Facts]) -> HtmlTable:
    """Return the files' sizes by precision, raw and as a store's compression leaves them."""
    ends = {"bytes": "", "gzip_bytes": ", gzipped"}
    every = {f"{name}_{end}": f"{name}{words}" for name in SIZES for end, words in ends.items()}
    known = {key: name for key, name in every.items() if any(key in row for row in rows)}
    table = HtmlTable("Sizes of the files", ("step", *known.values()))
    for row in rows:
        table.rows.append([Cell(row["label"]), *(_size(row.get(key)) for key in known)])
    return table


SIZES = ("float32", "float16", "int8")


def files_table(files: Sequence[Facts]) -> HtmlTable:
    """Return the exported files and what their runtime made of them."""
    columns = ("file", "step", "size", "gzipped", "operators", "checked in", "exactness")
    table = HtmlTable("Exported files", columns)
    for each in files:
        check = each.get("check") or {}
        operators = check.get("operators")
        table.rows.append(
            [
                Cell(each["file"]),
                Cell(each["label"]),
                _size(each["bytes"]),
                _size(each["gzip"]),
                Cell(str(operators), operators) if is_figure(operators) else NONE,
                Cell(str(check.get("runtime", "-"))),
                Cell(_exact(check)),
            ]
        )
    return table


def _exact(check: Facts) -> str:
    if is_figure(check.get("relative_error")):
        return f"{check['relative_error']:.1e} relative"
    share = check.get("share_within_one_step")
    if not is_figure(share):
        return "-"
    return f"{100 * share:.3f} % within 1 step, at most {check.get('max_steps')}"


def scores_table(row: Facts) -> HtmlTable | None:
    """Return a step's float and int8 figures side by side; None without either."""
    before, after = row.get("float"), row.get("int8")
    if not before and not after:
        return None
    table = HtmlTable(f"{row['label']}, percent", ("figure", "float", "int8", "difference"))
    sides = [side or {} for side in (before, after)]
    for key, label in FIGURES.items():
        values = [side.get(key) for side in sides]
        if values != [None, None]:
            table.rows.append([Cell(label), *map(_number, values), _difference(*values)])
    for name in dict.fromkeys(name for side in sides for name in side.get("iou_percent", {})):
        values = [side.get("iou_percent", {}).get(name) for side in sides]
        table.rows.append([Cell(f"IoU {name}"), *map(_number, values), _difference(*values)])
    return table


FIGURES = {
    "miou_percent": "mIoU, class mean",
    "foreground_iou_percent": "foreground IoU",
    "foreground_iou_per_image_percent": "foreground IoU, mean over images",
    "accuracy_percent": "pixel accuracy",
    "boundary_f_percent": "boundary F-score",
}


def operators_table(priced: Facts) -> HtmlTable:
    """Return a network's operators in running order."""
    columns = ["#", "layer", "kind", "output", "MMAC", "parameters", "KB moved", "ms", "share, %"]
    measured = any(row["measured_ms"] is not None for row in priced["rows"])
    columns += ["measured, ms", "bound by"] if measured else ["bound by"]
    table = HtmlTable(f"Operators of {priced['label']}", tuple(columns))
    for number_, row in enumerate(priced["rows"]):
        table.rows.append(
            [
                Cell(str(number_), number_),
                Cell(row["layer"]),
                Cell(row["kernel"]),
                Cell("x".join(map(str, row["output_shape"][1:]))),
                _millions(row["macs"], 2),
                Cell(f"{row['params']:,}", row["params"]),
                Cell(f"{row['bytes_moved'] / 1024:.1f}", row["bytes_moved"]),
                Cell(f"{row['ms']:.3f}", row["ms"]),
                Cell(f"{100 * row['share']:.1f}", row["share"]),
                *([_time(row["measured_ms"])] if measured else []),
                Cell(row["bound"]),
            ]
        )
    return table


def _time(value: float | None) -> Cell:
    return NONE if value is None else Cell(f"{value:.3f}", value)


def measured_table(measured: Sequence[Facts]) -> HtmlTable:
    """Return the times that were measured."""
    columns = ("step", "file", "median, ms", "p90, ms", "threads", "runtime")
    table = HtmlTable("Measured times", columns)
    for each in measured:
        table.rows.append(
            [
                Cell(each["label"]),
                Cell(each["precision"]),
                *(_number(each[key]) for key in ("median_ms", "p90_ms")),
                NONE if each["threads"] is None else Cell(str(each["threads"]), each["threads"]),
                Cell(each["runtime"]),
            ]
        )
    return table


def trainings_table(rows: Sequence[Facts]) -> HtmlTable:
    """Return how long each step was trained, and on what."""
    columns = ("step", "pictures", "epochs", "time, s", "pictures a second")
    table = HtmlTable("Trainings", columns)
    keys = ("train_images", "epochs", "train_seconds", "images_per_second")
    for row in rows:
        values = [row.get(key) for key in keys]
        if any(is_figure(value) for value in values):
            cells = [Cell(f"{value:,}", value) if is_figure(value) else NONE for value in values]
            table.rows.append([Cell(row["label"]), *cells])
    return table


def training_table(history: Facts) -> HtmlTable:
    """Return a training's log, a row per epoch."""
    columns = ("epoch", "loss", "val mIoU, %", "val foreground IoU, %", "learning rate", "s")
    table = HtmlTable(f"Training of {history['label']}", columns)
    keys = ("loss", "val_miou_percent", "val_foreground_iou_percent", "lr", "train_seconds")
    forms = ("{:.4f}", "{:.2f}", "{:.2f}", "{:.2e}", "{:.1f}")
    for record in history["history"]:
        cells = [
            Cell(form.format(record[key]), record[key]) if is_figure(record.get(key)) else NONE
            for key, form in zip(keys, forms, strict=True)
        ]
        epoch = record.get("epoch")
        table.rows.append([Cell(str(epoch), epoch) if is_figure(epoch) else NONE, *cells])
    return table


def is_figure(value: Any) -> TypeGuard[float]:
    """Whether a log says a number: a broken training says NaN or nothing."""
    return isinstance(value, int | float) and isfinite(value)


def _number(value: float | None) -> Cell:
    return Cell(number(value), value) if value is not None else NONE


def _millions(value: int, digits: int) -> Cell:
    return Cell(f"{value / 1e6:.{digits}f}", value)


def _size(count: int | None) -> Cell:
    return NONE if count is None else Cell(size(count), count)


def _estimate(found: Facts | None) -> Cell:
    if found is None:
        return NONE
    band = f"{found['low_ms']:.2f}-{found['high_ms']:.2f}"
    return Cell(f"{found['ms']:.2f}", found["ms"], band)


def _difference(before: Any, after: Any) -> Cell:
    if before is None or after is None:
        return NONE
    return Cell(signed(after - before), after - before)


def _ratio(before: float | None, after: float | None) -> Cell:
    if not before or not after:
        return NONE
    return Cell(less(before, after), before / after)
