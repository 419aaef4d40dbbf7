"""A network as a picture: a box per block, further right where the picture is smaller.

Skips, and the ways back up, are seen as arcs. SVG is text: nothing is needed to draw it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log2

from mobileseg.nets.blocks import IMAGE, Block, Size
from mobileseg.nets.outline import Group, outline
from mobileseg.nets.spec import NetSpec

# Beyond so many boxes nobody reads names: groups are drawn in the place of their blocks.
_MANY = 130
_ROW, _HEIGHT, _STEP, _LEFT, _TOP = 30, 22, 70, 24, 56
_WIDTH = 250
_COLOURS: Mapping[str, str] = {
    "conv": "#9ecae1",
    "depthwise": "#c6dbef",
    "separable": "#a6cee3",
    "deconv": "#fdae6b",
    "upsample": "#fdd0a2",
    "unpool": "#fdd0a2",
    "gate": "#c7b9e0",
    "product": "#c7b9e0",
    "sum": "#c7e9c0",
    "join": "#c7e9c0",
    "group": "#e3e3e3",
}


def draw(spec: NetSpec) -> str:
    """Return the network as SVG: name, kind and output of each block, and who reads whom."""
    sizes = spec.shapes()
    boxes: list[Group | Block] = list(spec.blocks)
    if len(boxes) > _MANY:
        boxes = _folded(spec)
    rows = {IMAGE: 0}
    for row, box in enumerate(boxes, 1):
        inside = box.blocks() if isinstance(box, Group) else [box]
        rows |= {block.name: row for block in inside}
    places = [_place(IMAGE, 0, sizes, spec)]
    places += [_place(_last(box).name, row, sizes, spec) for row, box in enumerate(boxes, 1)]
    edges = [
        (rows[source], row)
        for row, box in enumerate(boxes, 1)
        for source in _sources(box)
        if rows[source] != row
    ]
    parts = [_arc(places[a : b + 1]) for a, b in dict.fromkeys(edges)]
    parts.append(_box(places[0], IMAGE, "image", sizes[IMAGE]))
    for box, place in zip(boxes, places[1:], strict=True):
        kind = "group" if isinstance(box, Group) else box.kind
        parts.append(_box(place, box.name, kind, sizes[_last(box).name]))
    width = max(x for x, _ in places) + _WIDTH + 260
    height = _TOP + _ROW * len(places) + 10
    h, w = spec.image_size
    title = (
        f"{spec.name}, {h}x{w}: {spec.params / 1e6:.2f} M parameters, "
        f"{spec.macs / 1e9:.2f} G multiply-adds"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="white"/>\n'
        f'<text x="{_LEFT}" y="28" font-size="16">{escape(title)}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _folded(spec: NetSpec) -> list[Group | Block]:
    """Return the finest groups in the place of their blocks."""

    def unfold(member: Group | Block) -> list[Group | Block]:
        if isinstance(member, Group) and any(isinstance(inner, Group) for inner in member.members):
            return [box for inner in member.members for box in unfold(inner)]
        return [member]

    return [box for member in outline(spec) for box in unfold(member)]


def _last(box: Group | Block) -> Block:
    return box.blocks()[-1] if isinstance(box, Group) else box


def _sources(box: Group | Block) -> list[str]:
    inside = box.blocks() if isinstance(box, Group) else [box]
    return [name for block in inside for name in block.carriers()]


def _place(name: str, row: int, sizes: Mapping[str, Size], spec: NetSpec) -> tuple[int, int]:
    """Return a box's left upper corner: a column per halving of the picture."""
    column = min(log2(max(1.0, spec.image_size[0] / sizes[name][1])), 7.0)
    return _LEFT + round(_STEP * column), _TOP + _ROW * row


def _box(place: tuple[int, int], name: str, kind: str, size: Size) -> str:
    x, y = place
    c, h, w = size
    text = f"{name} · {kind}" if name != kind else name
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="4" '
        f'fill="{_COLOURS.get(kind, "#eeeeee")}" stroke="#555"/>'
        f'<text x="{x + 6}" y="{y + 15}">{escape(text)}</text>'
        f'<text x="{x + _WIDTH - 6}" y="{y + 15}" text-anchor="end" fill="#333">{c}x{h}x{w}</text>'
    )


def _arc(places: Sequence[tuple[int, int]]) -> str:
    """Return the line from the first to the last place, around the boxes between them."""
    (x1, y1), (x2, y2) = places[0], places[-1]
    if len(places) == 2:
        x = max(x1, x2) + 30
        return f'<path d="M{x} {y1 + _HEIGHT} L{x} {y2}" stroke="#555" fill="none"/>'
    reach = max(x for x, _ in places) + _WIDTH
    a, b = (x1 + _WIDTH, y1 + _HEIGHT // 2), (x2 + _WIDTH, y2 + _HEIGHT // 2)
    # The middle of such a curve lies three quarters of the way to its control points.
    bend = reach + (reach - min(a[0], b[0])) // 3 + 24 + min(100, 2 * len(places))
    return (
        f'<path d="M{a[0]} {a[1]} C{bend} {a[1]} {bend} {b[1]} {b[0]} {b[1]}" '
        'stroke="#b04a2f" stroke-width="1.3" fill="none" opacity="0.8"/>'
    )
