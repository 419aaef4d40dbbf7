"""A file against its consumer's rules, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table


def rules_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """Return the rules: what the file has of each, and the mend where it is not kept."""
    table = Table(title=title, title_justify="left", show_lines=False)
    for name in ("rule", "found", "", "mend"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row["rule"], row["found"], row["verdict"], row["mend"])
    return table
