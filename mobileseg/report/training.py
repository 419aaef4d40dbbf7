"""What a training keeps for the way back, as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.cells import Facts, new_table, size

_TOP = 15
# What keeps but its statistics is less by any number.
_MOST = 999.0
_SHOWN = ("plain", "lean", "recompute", "lean, recompute")


def memory_tables(found: Facts) -> list[Table]:
    """Return the ways to save memory, the network's parts and largest blocks, what was measured."""
    tables = [
        _ways(found),
        _table("Kept for the way back, by part", "part", _by_side(found), found),
        _table(f"The {_TOP} blocks that keep most", "block", _largest(found["blocks"]), found),
    ]
    if "measured" in found:
        tables.append(_measured(found["measured"]))
    return tables


def _ways(found: Facts) -> Table:
    table = new_table(
        "A step's memory, counted",
        ["[train]"],
        ["kept for the way back", "less by", "peak above the weights", "less by"],
    )
    plain = found["ways"][0]
    for way in found["ways"]:
        cells = [
            cell
            for key in ("kept_bytes", "peak_bytes")
            for cell in (size(way[key]), _less(plain[key], way[key]))
        ]
        table.add_row(way["way"], *cells)
    return table


def _measured(found: Facts) -> Table:
    sides = "x".join(map(str, found["image_size"]))
    table = new_table(
        f"A step's memory and time here, at {sides}, {found['threads']} threads",
        ["[train]"],
        ["peak, counted", "measured", "seconds", "time"],
    )
    plain = found["ways"][0]["seconds"]
    for way in found["ways"]:
        table.add_row(
            way["way"],
            size(way["counted_bytes"]),
            size(way["peak_bytes"]),
            f"{way['seconds']:.2f}",
            f"{way['seconds'] / plain:.2f}x",
        )
    return table


def _by_side(found: Facts) -> list[Facts]:
    """Return encoder, decoder and heads as rows, each before its parts."""
    rows: list[Facts] = []
    for side in found["sides"]:
        rows.append({**side, "part": side["side"]})
        inside = [part for part in found["parts"] if part["side"] == side["side"]]
        rows += ({**part, "part": f"  {part['part']}"} for part in inside)
    return rows


def _largest(blocks: Sequence[Facts]) -> list[Facts]:
    return sorted(blocks, key=lambda block: -block["plain"])[:_TOP]


def _table(title: str, what: str, rows: Sequence[Facts], found: Facts) -> Table:
    there = [way["way"] for way in found["ways"]]
    shown = [way for way in _SHOWN if way in there]
    table = new_table(title, [what], ["share", *shown])
    whole = sum(row["plain"] for row in found["parts"])
    for row in rows:
        share = f"{100 * row['plain'] / max(1, whole):.1f} %"
        table.add_row(row[what], share, *(size(row[way]) for way in shown))
    return table


def _less(plain: int, now: int) -> str:
    return f"{min(plain / now, _MOST):.1f}x" if now else "-"


def rates_table(found: Facts) -> Table:
    """Return the loss at a few of the learning rates that were tried."""
    table = new_table(f"Step {found['step']}: loss by learning rate", ["lr"], ["loss around it"])
    tried = found["tried"]
    for each in tried[:: max(1, len(tried) // _TOP)]:
        table.add_row(f"{each['lr']:.2g}", f"{each['smooth']:.4f}")
    return table
