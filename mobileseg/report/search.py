"""What a search found, as a table."""

from __future__ import annotations

from rich.table import Table

from mobileseg.report.cells import Facts, new_table


def search_table(found: Facts) -> Table:
    """Return the candidates that none surpasses in time and accuracy, the fastest first."""
    title = f"Nothing faster is better: {found['trained']} of {found['candidates']} trained"
    columns = ["ms", "val mIoU, %", "parameters, M", "multiply-adds, M"]
    table = new_table(title, ["candidate", "step"], columns)
    for row in found["front"]:
        step = ", ".join(_said(key, value) for key, value in row["step"].items())
        table.add_row(
            str(row["candidate"]),
            step,
            f"{row['ms']:.2f}",
            f"{row['val_miou_percent']:.2f}",
            f"{row['params'] / 1e6:.3f}",
            f"{row['macs'] / 1e6:.1f}",
        )
    return table


def _said(key: str, value: object) -> str:
    if isinstance(value, dict):
        return f"{len(value)} blocks narrower"
    if isinstance(value, list) and key == "remove":
        return f"without {' '.join(map(str, value))}"
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)
