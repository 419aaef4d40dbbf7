"""What int8 costs a network, as tables that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from mobileseg.report.cells import Facts, number


def verdict_tables(verdict: Facts) -> list[Table]:
    """Return float beside int8, per class, and the pictures that lose most."""
    images = verdict["float"]["images"]
    title = f"Verdict on {images} pictures of {verdict['split']}, percent"
    table = Table(title=title, title_justify="left")
    table.add_column("figure", no_wrap=True)
    for name in ("float", "int8", "difference"):
        table.add_column(name, justify="right")
    for label, *values in _figures(verdict):
        table.add_row(label, *values)
    return [table, _worst(verdict)]


def qat_table(report: Facts) -> Table:
    """Return float beside int8, by post-training quantization and as trained."""
    before, after = report["post_training"], report["trained"]
    title = f"{report['run']} on {after['float']['images']} pictures of {after['split']}, percent"
    table = Table(title=title, title_justify="left")
    table.add_column("figure", no_wrap=True)
    for name in ("float", "int8, not trained", "int8, trained", "difference to float"):
        table.add_column(name, justify="right")
    for untrained, trained in zip(_figures(before), _figures(after), strict=True):
        table.add_row(*untrained[:3], *trained[2:])
    return table


def verdict_line(verdict: Facts) -> str:
    """Return the verdict as one line."""
    word = "passed" if verdict["passed"] else "FAILED"
    return f"{word}: int8 {change(verdict['drop_points'], verdict['max_drop_points'])}"


def change(drop: float, max_drop: float, where: str = "") -> str:
    """Return what int8 loses or gains, and what of that was asked."""
    made = f"loses {drop:.2f}" if drop > 0 else f"gains {-drop:.2f}"
    asked = f"a loss of {max_drop:g} is allowed"
    if max_drop < 0:
        asked = f"a gain of {-max_drop:g} is asked"
    return f"{made} points of mIoU{where}; {asked}"


def _figures(verdict: Facts) -> list[list[str]]:
    before, after = verdict["float"], verdict["int8"]
    rows = [
        ("mIoU, class mean", before["miou_percent"], after["miou_percent"]),
        ("pixel accuracy", before["accuracy_percent"], after["accuracy_percent"]),
    ]
    rows += [
        (f"IoU {name}", value, after["iou_percent"][name])
        for name, value in before["iou_percent"].items()
    ]
    made = [[label, number(a), number(b), _difference(a, b)] for label, a, b in rows]
    agreement = verdict["agreement_percent"]
    return [*made, ["pixels called alike", "100.00", number(agreement), number(agreement - 100)]]


def quantize_tables(done: Facts) -> list[Table]:
    """Return all that `mobileseg quantize` found out."""
    tables = verdict_tables(done["verdict"])
    if done["trials"]:
        tables.append(_trials(done))
    if done["sensitivity"]:
        tables.append(_sensitivity(done["sensitivity"]))
    if done["costs"]:
        tables.append(_costs(done))
    return tables


def _trials(done: Facts) -> Table:
    table = Table(title="Tried on training pictures; * is taken", title_justify="left")
    for name in ("ranges", "repair"):
        table.add_column(name, no_wrap=True)
    split = done["verdict"]["split"]
    for name in ("called alike, %", "loss, points", f"loss on {split}, points", "s"):
        table.add_column(name, justify="right")
    taken = done["quantize"]
    for row in done["trials"]:
        mark = (
            " *" if all(list(row[key]) == list(taken[key]) for key in ("ranges", "repair")) else ""
        )
        table.add_row(
            row["ranges"],
            ("+".join(row["repair"]) or "-") + mark,
            number(row["agreement_percent"]),
            number(row["drop_points"]),
            number(row["val_drop_points"]),
            f"{row['seconds']:.1f}",
        )
    return table


def _sensitivity(rows: Sequence[Facts]) -> Table:
    title = "One layer in int8, as repaired, all others in float; the worst first"
    table = Table(title=title, title_justify="left")
    for name in ("layer", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("SQNR, dB", "called otherwise, %", "loss, points"):
        table.add_column(name, justify="right")
    for row in sorted(rows, key=lambda row: row["sqnr_db"]):
        cells = [number(row[key]) for key in ("sqnr_db", "disagreement_percent", "drop_points")]
        table.add_row(row["layer"], row["kind"], *cells)
    return table


def _costs(done: Facts) -> Table:
    kept, fine = done["quantize"]["keep_float"], done["quantize"]["activations"] == "int16"
    said = ["Activations of int16, which no device's profile prices"] if fine else []
    said += [f"Kept in float: {', '.join(kept)}"] if kept else []
    table = Table(title="; ".join(said), title_justify="left")
    table.add_column("where")
    for name in ("all int8, ms", "so, ms", "difference"):
        table.add_column(name, justify="right")
    for row in done["costs"]:
        before, after = row["int8_ms"], row["mixed_ms"]
        table.add_row(row["where"], f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}")
    return table


def _worst(verdict: Facts) -> Table:
    table = Table(title="Pictures that lose most", title_justify="left")
    table.add_column("picture", overflow="fold")
    for name in ("float mIoU", "int8 mIoU", "difference", "called alike"):
        table.add_column(name, justify="right")
    for row in verdict["worst"]:
        before, after = row["float_miou_percent"], row["int8_miou_percent"]
        cells = [number(before), number(after), _difference(before, after)]
        table.add_row(Path(row["image"]).name, *cells, number(row["agreement_percent"]))
    return table


def _difference(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{after - before:+.2f}"
