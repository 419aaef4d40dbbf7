"""The zoo as tables: the list, and one network's tree of blocks."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.cells import Facts, size


def nets_table(rows: Sequence[Facts]) -> Table:
    """Return a row per network: what it costs at its recipe's size."""
    first = rows[0]
    table = Table(title="Networks", title_justify="left")
    table.add_column("name", no_wrap=True)
    priced = f"{first['device']} {first['precision']}, ms"
    for label in ("input", "classes", "parameters, M", "multiply-adds, M", "int8 file", priced):
        table.add_column(label, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            "x".join(map(str, row["image_size"])),
            str(row["classes"]),
            f"{row['params'] / 1e6:.3f}",
            f"{row['macs'] / 1e6:.1f}",
            size(row["int8_bytes"]),
            f"{row['ms']:.2f} ({row['low_ms']:.2f}-{row['high_ms']:.2f})",
        )
    return table


def net_table(facts: Facts) -> Table:
    """Return the network's tree: groups as the glob that names them, blocks indented below."""
    height, width = facts["image_size"]
    table = Table(
        title=f"{facts['name']} at {height}x{width}, {facts['classes']} classes",
        title_justify="left",
        caption=f"{facts['params'] / 1e6:.3f} M parameters, {facts['macs'] / 1e6:.1f} M "
        "multiply-adds",
        caption_justify="left",
    )
    for label in ("block", "kind", "reads"):
        table.add_column(label, no_wrap=True)
    for label in ("output", "parameters", "MMAC"):
        table.add_column(label, justify="right", no_wrap=True)
    for name, entry in _tree_lines(facts["tree"], 0):
        group = "group" in entry
        table.add_row(
            name,
            "" if group else entry["kind"],
            "" if group else ", ".join(entry["inputs"]),
            "" if group else "x".join(map(str, entry["size"])),
            f"{entry['params']:,}" if entry["params"] else "-",
            f"{entry['macs'] / 1e6:.2f}" if entry["macs"] else "-",
        )
    if facts["heads"]:
        table.caption = f"{table.caption}; in training alone: {', '.join(facts['heads'])}"
    return table


def _tree_lines(tree: Sequence[Facts], depth: int) -> list[tuple[str, Facts]]:
    lines: list[tuple[str, Facts]] = []
    for entry in tree:
        name = f"{entry['group']}_*" if "group" in entry else entry["block"]
        lines.append(("  " * depth + name, entry))
        lines += _tree_lines(entry.get("members", ()), depth + 1)
    return lines
