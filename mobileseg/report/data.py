"""What a data set holds and what is wrong with it, as tables."""

from __future__ import annotations

from rich.table import Table

from mobileseg.report.cells import Facts, new_table

# Findings of one kind that a person reads; --json has all.
_MOST = 10


def data_tables(found: Facts) -> list[Table]:
    """Return the splits' classes, and what is wrong."""
    splits = found["splits"]
    table = new_table("Share of the pixels that count, %", ["class"], list(splits))
    for number, name in enumerate(found["classes"]):
        row = []
        for each in splits.values():
            total = max(1, sum(each["pixels"]))
            row.append(f"{100 * each['pixels'][number] / total:.2f}")
        table.add_row(name, *row)
    table.add_section()
    table.add_row("pairs", *(str(each["pairs"]) for each in splits.values()))
    if not found["findings"]:
        return [table]
    wrong = new_table("What is wrong", ["what", "split", "where"], [])
    for kind, count in found["counts"].items():
        rows = [each for each in found["findings"] if each["kind"] == kind]
        for each in rows[:_MOST]:
            wrong.add_row(each["kind"], each["split"], each["words"])
        if count > _MOST:
            wrong.add_row(kind, "", f"and {count - _MOST} more; --json lists all")
    return [table, wrong]
