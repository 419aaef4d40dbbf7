"""What passes do and where memory goes: tables, and a picture, which needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from mobileseg.figure import COLOURS, OTHER, drawing
from mobileseg.graph.ir import Graph
from mobileseg.graph.memory import live_bytes, live_ranges, lower_bound, plan
from mobileseg.report.cells import Facts

_KB = 1000


def explain_tables(explained: Facts) -> list[Table]:
    """Return the passes with what the network is behind each, and the memory of its activations.

    Where only a picture was asked for there is neither.
    """
    return [_passes(explained), _memory(explained["memory"])] if "passes" in explained else []


def _passes(explained: Facts) -> Table:
    table = Table(title="What the passes do", title_justify="left", caption_justify="left")
    table.add_column("behind", no_wrap=True)
    for name in ("nodes", "multiply-adds, M"):
        table.add_column(name, justify="right")
    for precision in ("float32", "int8"):
        table.add_column(f"{precision}: live at most", justify="right")
        table.add_column("here, ms", justify="right")
    idle = dict.fromkeys(row["pass"] for row in explained["passes"] if not row["changed"])
    for row in explained["passes"]:
        if row["changed"]:
            table.add_row(*_behind(row))
    table.caption = (
        f"Found nothing: {', '.join(idle)}.\n"
        "Bytes and times are of the file that would be written there, with every operator that is "
        "left said as it stands.\n"
        f"Medians of {explained['rounds']} rounds in turns, one thread; rounds of one file differ "
        f"by {explained['spread_percent']:.0f} %. int8 has made-up ranges.\n"
        "Layout is no pass: weights are turned as the file is written, and it holds no TRANSPOSE."
    )
    return table


def _behind(row: Facts) -> list[str]:
    cells = [row["pass"], str(row["nodes"]), f"{row['macs'] / 1e6:.1f}"]
    for precision in ("float32", "int8"):
        cells += [_kb(row["live_bytes"][precision]), f"{row['host_ms'][precision]:.2f}"]
    return cells


def _kb(nbytes: int) -> str:
    return f"{nbytes / _KB:,.1f} KB"


def _memory(memory: Facts) -> Table:
    table = Table(
        title="Memory of the activations",
        caption="LiteRT keeps the input for the whole run, and some kernels need scratch memory.",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    table.add_column("bytes", justify="right")
    table.add_column("of the least", justify="right")
    least = memory["lower_bound_bytes"]
    litert, shared = memory["litert_bytes"], memory["in_place"]
    rows: list[tuple[str, int | None]] = [
        ("every tensor for itself", memory["apart_bytes"]),
        ("least: what lives at once", least),
        *((f"plan: {name}", nbytes) for name, nbytes in memory["plans"].items()),
        ("least, written in place", shared["lower_bound_bytes"]),
        ("plan, written in place", shared["plan_bytes"]),
        ("LiteRT, plain kernels: span of its tensors", litert["plain_addresses"]),
        ("LiteRT, plain kernels: all", litert["plain_heap"]),
        ("LiteRT, XNNPACK: all", litert["xnnpack_heap"]),
    ]
    for name, nbytes in rows:
        told = "-" if nbytes is None else f"{nbytes:,}"
        table.add_row(name, told, "-" if nbytes is None else f"{nbytes / least:.2f}")
    return table


# Shares of the picture's width and height that a name needs.
_LONG, _THICK = 0.1, 0.035


def memory_picture(graph: Graph, title: str, path: Path) -> Path:
    """Draw the planned arena over the run of the nodes: a rectangle per tensor. Return `path`.

    Raises MobilesegError where matplotlib is missing.
    """
    with drawing(path, (11.0, 5.5)) as figure:
        _draw(figure, graph, title)
    return path


def _draw(figure: Any, graph: Graph, title: str) -> None:
    from matplotlib.patches import Patch, Rectangle  # noqa: PLC0415

    made, count = plan(graph), len(graph.nodes)
    colours = _kinds(graph)
    axes = figure.add_subplot()
    for buffer in live_ranges(graph):
        name = buffer.tensors[0]
        at, wide = made.offsets[name] / _KB, buffer.last + 1 - buffer.first
        high = buffer.nbytes / _KB
        colour = colours.get(_kind(graph, name), OTHER)
        box = Rectangle((buffer.first, at), wide, high, facecolor=colour, edgecolor="white")
        axes.add_patch(box)
        angle = _angle(wide / count, high * _KB / made.nbytes)
        if angle is not None:
            where = (buffer.first + wide / 2, at + high / 2)
            style = {"ha": "center", "va": "center", "fontsize": 6, "color": "white"}
            axes.annotate(name, where, rotation=angle, **style)
    live = [each / _KB for each in live_bytes(graph)]
    axes.step([*range(count + 1)], [*live, live[-1]], where="post", color="black", linewidth=1.0)
    axes.set_xlim(0, count)
    axes.set_ylim(0, 1.06 * made.nbytes / _KB)
    axes.set_xlabel("node, in running order; line: bytes that live at once")
    axes.set_ylabel("place in the arena, KB")
    axes.set_title(
        f"{title}: activations in {_kb(made.nbytes)} "
        f"(plan {made.method}; at least {_kb(lower_bound(graph))})",
        loc="left",
    )
    axes.spines[["top", "right"]].set_visible(False)
    named = [Patch(color=colour, label=kind) for kind, colour in colours.items()]
    figure.legend(handles=named, loc="outside right upper", frameon=False)


def _angle(wide: float, high: float) -> int | None:
    """Return how a name is turned to fit a box of these shares of the picture; None: not at all."""
    if wide >= _LONG and high >= _THICK:
        return 0
    return 90 if high >= 2 * _LONG and wide >= _THICK / 2 else None


def _kind(graph: Graph, name: str) -> str:
    node = graph.producers.get(name)
    return "input" if node is None else node.op.kind


def _kinds(graph: Graph) -> dict[str, str]:
    """Return a colour for each kind of operator, those that make the most bytes first."""
    made: dict[str, int] = {}
    for buffer in live_ranges(graph):
        kind = _kind(graph, buffer.tensors[0])
        made[kind] = made.get(kind, 0) + buffer.nbytes
    kinds: Sequence[str] = sorted(made, key=lambda kind: -made[kind])
    return dict(zip(kinds, COLOURS, strict=False))
