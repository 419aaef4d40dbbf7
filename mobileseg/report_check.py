"""A file against its consumer's rules, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def rules_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the rules: what the file has of each, and the mend where it is not kept."""
    table = Table(title=title, title_justify="left")
    for name in ("rule", "found", "verdict", "mend"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["rule"], row["found"], row["verdict"], row["mend"] or "-")
    return table


def arm_table(check: Mapping[str, Any], title: str) -> Table:
    """Return how a file computes on each emulated core, and with how many instructions."""
    table = Table(title=title, title_justify="left", show_lines=False)
    for name in ("core", "int8 dot product", "million instructions", "against", "equal", "largest"):
        right = name in {"million instructions", "equal", "largest"}
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for core in check["cores"]:
        dot = "yes" if core["dot_product"] else "no"
        facts = [core["core"], dot, f"{core['instructions'] / 1e6:.2f}"]
        for name, found in core["against"].items():
            table.add_row(*facts, name, f"{100 * found['share_equal']:.3f} %", _largest(found))
            facts = ["", "", ""]
    return table


def arm_lines(check: Mapping[str, Any]) -> list[str]:
    """Return what the table cannot say."""
    return [
        *check["notes"],
        f"{check['images']} photos; instructions are per inference and are not time",
    ]


def _largest(found: Mapping[str, Any]) -> str:
    if found["max_steps"] is not None:
        return f"{found['max_steps']} steps"
    error = found["relative_error"]
    return "-" if error is None else f"{error:.1e}"
