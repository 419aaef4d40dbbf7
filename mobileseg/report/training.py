"""What a training keeps for the way back, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.cells import Facts, new_table, size

_TOP = 15
# What keeps but its statistics is less by any number.
_MOST = 999.0


def memory_tables(found: Facts) -> list[Table]:
    """Return the parts of the network, its largest blocks, and what was measured."""
    tables = [
        _table("Kept for the way back, by part", "part", found["parts"], found),
        _table(f"The {_TOP} blocks that keep most", "block", _largest(found["blocks"]), found),
    ]
    if "measured" in found:
        table = new_table("One step here", ["memory"], ["peak above the weights", "seconds"])
        for word, each in found["measured"].items():
            table.add_row(word, size(each["peak_bytes"]), f"{each['seconds']:.2f}")
        tables.append(table)
    return tables


def _largest(blocks: Sequence[Facts]) -> list[Facts]:
    return sorted(blocks, key=lambda block: -block["plain"])[:_TOP]


def _table(title: str, what: str, rows: Sequence[Facts], found: Facts) -> Table:
    table = new_table(title, [what], ["plain", "share", "lean", "less by"])
    for row in rows:
        table.add_row(row[what], *_cells(row["plain"], row["lean"], found))
    if what == "part":
        table.add_section()
        table.add_row("all", *_cells(found["plain_bytes"], found["lean_bytes"], found))
    return table


def _cells(plain: int, lean: int, found: Facts) -> list[str]:
    share = 100 * plain / max(1, found["plain_bytes"])
    less = f"{min(plain / lean, _MOST):.1f}x" if lean else "-"
    return [size(plain), f"{share:.1f} %", size(lean), less]


def rates_table(found: Facts) -> Table:
    """Return the loss at a few of the learning rates that were tried."""
    table = new_table(f"Step {found['step']}: loss by learning rate", ["lr"], ["loss around it"])
    tried = found["tried"]
    for each in tried[:: max(1, len(tried) // _TOP)]:
        table.add_row(f"{each['lr']:.2g}", f"{each['smooth']:.4f}")
    return table
