"""What the tables share: their shape, and how a figure is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from rich.table import Table

Facts: TypeAlias = Mapping[str, Any]


def new_table(title: str, left: Sequence[str], right: Sequence[str]) -> Table:
    """Return an empty table: its columns of words, then its columns of figures."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def size(count: int) -> str:
    """Return bytes as people read them."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} KB"


def size_or_none(count: int | None) -> str:
    """Return bytes as people read them; a dash for none."""
    return "-" if count is None else size(count)


def shape_text(shape: Sequence[int]) -> str:
    """Return a tensor's shape without its batch axis."""
    return "x".join(map(str, shape[1:]))


def number(value: float | None) -> str:
    """Return a figure with two digits; a dash for none."""
    return "-" if value is None else f"{value:.2f}"


def signed(value: float | None) -> str:
    """Return a change with its sign and two digits; a dash for none."""
    return "-" if value is None else f"{value:+.2f}"
