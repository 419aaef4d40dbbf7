"""A file against its consumer's rules, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.cells import Facts


def rules_table(rows: Sequence[Facts], title: str) -> Table:
    """Return the rules: what the file has of each, and the mend where it is not kept."""
    table = Table(title=title, title_justify="left")
    for name in ("rule", "found", "verdict", "mend"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["rule"], row["found"], row["verdict"], row["mend"] or "-")
    return table


def arm_table(check: Facts, title: str) -> Table:
    """Return how a file computes on each emulated core, and with how many instructions."""
    table = Table(title=title, title_justify="left", show_lines=False)
    for name in ("core", "int8 dot product", "million instructions", "against"):
        table.add_column(name, overflow="fold")
    for name in ("equal", "largest difference"):
        table.add_column(name, overflow="fold", justify="right")
    for core in check["cores"]:
        dot = "yes" if core["dot_product"] else "no"
        facts = [core["core"], dot, f"{core['instructions'] / 1e6:.2f}"]
        for name, found in core["against"].items():
            table.add_row(*facts, name, _equal(found), _largest(found))
            facts = ["", "", ""]
    return table


def arm_lines(check: Facts) -> list[str]:
    """Return what the table cannot say."""
    return [
        *check["notes"],
        f"{check['images']} photos; instructions are per inference and are not time",
    ]


def _equal(found: Facts) -> str:
    """Nobody expects reals to be equal to the last bit."""
    return "-" if found["relative_error"] is not None else f"{100 * found['share_equal']:.3f} %"


def _largest(found: Facts) -> str:
    steps, error = found["max_steps"], found["relative_error"]
    if steps is not None:
        return "1 step" if steps == 1 else f"{steps} steps"
    return "-" if error is None else f"{error:.1e}"
