"""A ladder's steps, their scores and their files, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.cells import Facts, number, signed, size, size_or_none

_TOP = 10


def ladder_tables(steps: Sequence[Facts], width: int, note: str = "") -> list[Table]:
    """Return the ladder: a column per step, what it costs, what it reaches, what it changed.

    A ladder wider than `width` characters goes on in a table below.
    """
    labels, columns = _ladder_columns(steps)
    room = width - max(map(len, labels)) - 4
    chunks: list[list[list[str]]] = []
    free = 0
    for cells in columns:
        # A cell has a space on both sides and a line on one.
        needed = max(map(len, cells)) + 3
        if not chunks or needed > free:
            chunks.append([])
            free = room
        chunks[-1].append(cells)
        free -= needed
    tables = [_ladder_table(labels, chunk) for chunk in chunks]
    notes = [note] if note else []
    if any(step["saves_no_time"] for step in steps):
        notes.append("* saves multiply-adds, but by the estimate no time")
    if any(step.get("foreseen") for step in steps):
        notes.append(
            "~ as if all filters were alike: which go is known when the step before is trained"
        )
    tables[-1].caption = "\n".join(notes) or None
    return tables


def _ladder_table(labels: Sequence[str], columns: Sequence[Sequence[str]]) -> Table:
    table = Table(title="The ladder", title_justify="left", caption_justify="left")
    table.add_column(labels[0], no_wrap=True)
    for head, *_ in columns:
        table.add_column(head, justify="right", no_wrap=True)
    for label, *cells in list(zip(labels, *columns, strict=True))[1:]:
        table.add_row(label, *cells)
    return table


def _ladder_columns(steps: Sequence[Facts]) -> tuple[list[str], list[list[str]]]:
    """Return the rows' labels and a column of cells per step, headings first."""
    rows: list[tuple[str, list[str]]] = [
        ("step", [step["step"] + _marks(step) for step in steps]),
        ("from", [step["parent"] or "-" for step in steps]),
        ("input", ["x".join(map(str, step["image_size"])) for step in steps]),
        ("parameters, M", [f"{step['params'] / 1e6:.3f}" for step in steps]),
        ("multiply-adds, M", [f"{step['macs'] / 1e6:.1f}" for step in steps]),
        ("float32 file", [size(step["float32_bytes"]) for step in steps]),
        ("int8 file", [size(step["int8_bytes"]) for step in steps]),
        ("int8 activations", [size(step["live_bytes"]["int8"]) for step in steps]),
    ]
    for device in steps[0]["estimated_ms"]:
        for precision in ("float32", "int8"):
            estimates = [step["estimated_ms"][device].get(precision) for step in steps]
            rows.append((f"{device} {precision}, ms", [_ms(each) for each in estimates]))
            rows.append(("", [_band(each) for each in estimates]))
    for precision in ("float32", "int8"):
        times = [step.get("measured_ms", {}).get(precision) for step in steps]
        if any(times):
            rows.append((f"measured {precision}, ms", [number(each) for each in times]))
    rows.append(("inherited", [_share(step.get("inherited_share")) for step in steps]))
    rows += [
        (label, [show(step.get(key)) for step in steps])
        for key, (label, show) in _LADDER.items()
        if key not in _SOMETIMES or any(step.get(key) for step in steps)
    ]
    columns = [[cells[i] for _, cells in rows] for i in range(len(steps))]
    return [label for label, _ in rows], columns


def _marks(step: Facts) -> str:
    return (" *" if step["saves_no_time"] else "") + (" ~" if step.get("foreseen") else "")


def scores_table(executors: Sequence[Facts], run: str, title: str) -> Table:
    """Return a run's executors side by side: a column each, a row per figure, in percent."""
    beginning = run.replace("/", "-") + "-"
    table = Table(title=title, title_justify="left")
    table.add_column("figure", no_wrap=True)
    for each in executors:
        # Of a file the end says which it is; its beginning is the run, which the title names.
        table.add_column(each["executor"].removeprefix(beginning), justify="right")
    for key, label in _FIGURES.items():
        values = [each["scores"].get(key) for each in executors]
        if any(value is not None for value in values):
            table.add_row(label, *map(number, values))
    for name in executors[0]["scores"]["iou_percent"]:
        values = [each["scores"]["iou_percent"].get(name) for each in executors]
        table.add_row(f"IoU {name}", *map(number, values))
    if len(executors) > 1:
        agreements = [number(100 * each["agreement"]) for each in executors]
        table.add_row("pixels called as the float net", *agreements)
    return table


_FIGURES = {
    "miou_percent": "mIoU, class mean over the data set",
    "foreground_iou_percent": "foreground IoU over the data set",
    "foreground_iou_per_image_percent": "foreground IoU, mean over images",
    "accuracy_percent": "pixel accuracy",
    "boundary_f_percent": "boundary F-score",
}


def exports_table(files: Sequence[Facts]) -> Table:
    """Return the written files: size, what the runtime made of them, how exact they are."""
    table = Table(title="Exported", title_justify="left")
    table.add_column("file", overflow="fold")
    for name in ("size", "operators", "checked in", "exactness"):
        table.add_column(name, justify="right")
    for each in files:
        check = each["check"]
        table.add_row(
            each["path"],
            size(each["bytes"]),
            str(check["operators"]),
            check["runtime"],
            _exact(check),
        )
    return table


def forms_tables(files: Sequence[Facts]) -> list[Table]:
    """Return which exact forms of operators the files have, and by whose prices; or nothing."""
    verdicts = files[0]["forms"]
    if not verdicts:
        return []
    devices = list(dict.fromkeys(name for each in verdicts for name in each["change_percent"]))
    table = Table(title="Forms of operators", title_justify="left", title_style="")
    for name in ("rewrite", "of", "taken", "because"):
        table.add_column(name, overflow="fold")
    for name in devices:
        table.add_column(f"price on {name}", justify="right")
    for each in verdicts:
        layers = each["layers"]
        table.add_row(
            each["rewrite"],
            layers[0] + (f" and {len(layers) - 1} more" if len(layers) > 1 else ""),
            "yes" if each["taken"] else "no",
            each["why"],
            *(f"{each['change_percent'].get(name, 0):+.1f} %" for name in devices),
        )
    return [table]


def _exact(check: Facts) -> str:
    if check.get("relative_error") is not None:
        return f"{check['relative_error']:.1e} relative"
    if check["classes"]:
        return f"{100 * check['share_equal']:.3f} % of the classes equal"
    share = 100 * check["share_within_one_step"]
    return f"{share:.3f} % within 1 step, at most {check['max_steps']}"


def _ms(estimate: Facts | None) -> str:
    return "-" if estimate is None else f"{estimate['ms']:.2f}"


def _band(estimate: Facts | None) -> str:
    return "" if estimate is None else f"({estimate['low_ms']:.2f}-{estimate['high_ms']:.2f})"


def _whole(value: int | None) -> str:
    return "-" if value is None else str(value)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


_LADDER = {
    "float32_gzip_bytes": ("float32 file, gzipped", size_or_none),
    "float16_bytes": ("float16 file", size_or_none),
    "float16_gzip_bytes": ("float16 file, gzipped", size_or_none),
    "int8_gzip_bytes": ("int8 file, gzipped", size_or_none),
    "zero_weights_percent": ("weights of zero, %", _whole),
    "miou_before_training_percent": ("mIoU as pruned, %", number),
    "miou_percent": ("mIoU float, %", number),
    "miou_int8_percent": ("mIoU int8, %", number),
    "miou_qat_percent": ("mIoU int8, trained, %", number),
    "change_parent_points": ("against from, points", signed),
    "change_base_points": ("against base, points", signed),
}
# Shown where a step has it.
_SOMETIMES = {
    "float32_gzip_bytes",
    "float16_bytes",
    "float16_gzip_bytes",
    "int8_gzip_bytes",
    "zero_weights_percent",
    "miou_before_training_percent",
    "miou_qat_percent",
}
