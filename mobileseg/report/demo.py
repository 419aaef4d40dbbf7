"""What browsers measured of a run, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.cells import Facts


def browser_table(measurements: Sequence[Facts], name: str) -> Table:
    """Return the run's measurements, the oldest first."""
    table = Table(title=f"{name} in browsers", title_justify="left")
    for column in ("time, UTC", "device", "browser", "file", "runs on"):
        table.add_column(column, overflow="fold")
    for column in ("threads", "median, ms", "p90, ms", "runs"):
        table.add_column(column, justify="right")
    for each in measurements:
        table.add_row(
            each["time"][:16].replace("T", " "),
            each["device"],
            each["browser"],
            each["file"],
            each["backend"],
            "-" if each["threads"] is None else str(each["threads"]),
            f"{each['median_ms']:.2f}",
            f"{each['p90_ms']:.2f}",
            str(each["runs"]),
        )
    return table
