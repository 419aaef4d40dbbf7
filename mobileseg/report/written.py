"""What a report holds and what it lacks, as tables."""

from __future__ import annotations

from collections.abc import Sequence

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
    for name in ("part", "runs", "why"):
        lacks.add_column(name, overflow="fold")
    for part, reasons in missing_by_part(done["missing"]).items():
        for each in reasons:
            lacks.add_row(part, each["runs"], each["why"])
    return [parts, lacks]


def missing_by_part(every: Sequence[Facts]) -> dict[str, list[dict[str, str]]]:
    """Return by part what is missing; runs that miss it for one reason stand together."""
    found: dict[str, dict[str, list[str]]] = {}
    for each in every:
        found.setdefault(each["part"], {}).setdefault(each["why"], []).append(each["run"])
    return {
        part: [{"runs": ", ".join(runs), "why": why} for why, runs in reasons.items()]
        for part, reasons in found.items()
    }
