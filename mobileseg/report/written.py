"""What a report holds and what it lacks, as tables."""

from __future__ import annotations

from rich.table import Table

from mobileseg.report.cells import Facts, new_table


def written_tables(done: Facts) -> list[Table]:
    """Return how much of each part was written, and what is missing."""
    parts = new_table("In the report", ["part"], ["shown"])
    for name, count in done["parts"].items():
        parts.add_row(name, str(count))
    if not done["missing"]:
        return [parts]
    lacks = Table(title="Missing, and said so on the page", title_justify="left")
    for name in ("part", "run", "why"):
        lacks.add_column(name, overflow="fold")
    for each in done["missing"]:
        lacks.add_row(each["part"], each["run"], each["why"])
    return [parts, lacks]
