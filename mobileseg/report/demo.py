"""What browsers measured of a run, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.cells import Facts


def browser_table(measurements: Sequence[Facts], name: str) -> Table:
    """Return the run's measurements, the oldest first."""
    table = Table(title=f"{name} in browsers", title_justify="left")
    for column in ("time", "device", "browser", "runs on", "file"):
        table.add_column(column, overflow="fold")
    for column in ("median, ms", "p90, ms", "runs"):
        table.add_column(column, justify="right")
    for each in measurements:
        threads = each["threads"]
        table.add_row(
            each["time"].removesuffix("+00:00"),
            each["device"],
            each["browser"],
            each["backend"] if threads is None else f"{each['backend']}, threads {threads}",
            each["file"],
            f"{each['median_ms']:.2f}",
            f"{each['p90_ms']:.2f}",
            str(each["runs"]),
        )
    return table
