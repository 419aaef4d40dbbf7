"""A recipe's keys as a table, and as the page in recipes/README.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from mobileseg.report.recipe_keys import ABSENT, NEEDED, Key, Section

_PAGE = """# What a recipe may say

Every key of every table, with its default. Made by `mobileseg recipes keys --markdown`; on the
terminal `mobileseg recipes keys augment` shows one table. What is wrong in a recipe is listed, with
its place and the nearest right name, by `mobileseg recipes validate FILE`.
"""


def keys_table(section: Section) -> Table:
    """Return one table's keys."""
    table = Table(title=_title(section), title_justify="left", caption=section.says)
    table.caption_justify = "left"
    for name in ("key", "values", "default", ""):
        table.add_column(name, overflow="fold")
    for key in section.keys:
        table.add_row(key.name, key.values.replace("`", ""), key.default, key.says)
    return table


def keys_page(sections: Sequence[Section]) -> str:
    """Return the page, as Markdown."""
    parts = [_PAGE]
    for section in sections:
        head = [f"## {_title(section)}", "", section.says, ""]
        head += ["| key | values | default | |", "|---|---|---|---|"]
        parts.append("\n".join([*head, *map(_row, section.keys)]) + "\n")
    return "\n".join(parts)


def _title(section: Section) -> str:
    return section.place or "Above all tables"


def _row(key: Key) -> str:
    default = key.default if key.default in (NEEDED, ABSENT) else f"`{key.default}`"
    return f"| `{key.name}` | {key.values} | {default} | {key.says} |"
