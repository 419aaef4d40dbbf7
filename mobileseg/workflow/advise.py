"""`mobileseg latency --advise`: where the time goes, and what each cut would save.

Nothing is guessed from MACs: every cut is made to the network's spec and priced again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mobileseg.errors import MobilesegError
from mobileseg.graph.ir import Graph
from mobileseg.latency.advice import flags
from mobileseg.latency.table import Pricing, Row
from mobileseg.nets.spec import NetSpec
from mobileseg.slim.actions import Actions
from mobileseg.slim.steps import apply

# A cut that saves this share of the MACs promises time; one that saves less than the other share
# of the time has not kept the promise.
_PROMISED = 0.03
_KEPT = 0.02
# Sizes that every stride of our networks divides.
_GRAIN = 32

# A network has hundreds of blocks; cutting one saves little more than its own time.
_MOST_BLOCKS = 20

PriceOf = Callable[[NetSpec], Pricing]


def saves_no_time(macs: float, before_macs: float, ms: float, before_ms: float) -> bool:
    """Whether a cut saves MACs as it should, but by the estimate no time."""
    return macs < before_macs * (1 - _PROMISED) and ms > before_ms * (1 - _KEPT)


def slow_layers(graph: Graph, pricing: Pricing, half: bool) -> list[dict[str, Any]]:
    """Return the layers by time, and what is to be said of each: all that a file can be told."""
    keys = ("index", "layer", "kernel", "ms", "share", "bound", "basis")
    return [
        {key: getattr(row, key) for key in keys}
        | {"flags": flags(graph, row, pricing.profile, half)}
        for row in sorted(pricing.rows, key=lambda row: -row.ms)
        if row.ms
    ]


def block_cuts(
    spec: NetSpec, shipped: Pricing, price_of: PriceOf, say: Callable[[str], None]
) -> dict[str, Any]:
    """Return the blocks by time, and what a cut of each of the slowest would save.

    shipped: of the file. Cuts are compared with the spec's own graph, as its smaller ones are.
    """
    before = price_of(spec).ms
    blocks = _blocks(spec, shipped.rows)
    slowest = {block["block"] for block in blocks[:_MOST_BLOCKS]}
    wanted = [cut for cut in _cuts(spec) if not cut[1] or cut[1] in slowest]
    cuts, refused = [], []
    for number, (what, block, actions) in enumerate(wanted, 1):
        say(f"cut {number}/{len(wanted)}: {what}")
        try:
            smaller = apply(spec, actions, what)
        except MobilesegError as error:
            refused.append({"cut": what, "block": block, "why": str(error)})
            continue
        if smaller.macs < spec.macs or len(smaller.blocks) < len(spec.blocks):
            cuts.append(_saving(what, block, spec, smaller, before, price_of))
    return {
        "blocks": blocks,
        "cuts": sorted(cuts, key=lambda cut: -cut["saves_ms"]),
        "refused": refused,
        "blocks_cut": min(len(blocks), _MOST_BLOCKS),
    }


def _blocks(spec: NetSpec, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Sums per block; what stands outside of all (a file's own conversions) keeps its name."""
    sums: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row.layer.split(".")[0]
        one = sums.setdefault(name, {"block": name, "ms": 0.0, "share": 0.0, "macs": 0})
        one["ms"] += row.ms
        one["share"] += row.share
        one["macs"] += row.macs
    known = {block.name: block.kind for block in spec.blocks}
    found = [one | {"kind": known.get(one["block"], "-")} for one in sums.values()]
    return sorted(found, key=lambda one: -one["ms"])


def _cuts(spec: NetSpec) -> Iterator[tuple[str, str, Actions]]:
    """Every single cut that a recipe's step could make: its words, its block, its actions."""
    size = _smaller(spec.image_size)
    if size:
        yield f"image_size = [{size[0]}, {size[1]}]", "", Actions(image_size=size)
    for block in spec.blocks:
        if isinstance(getattr(block, "channels", None), int):
            yield (
                f'width = {{ "{block.name}" = 0.5 }}',
                block.name,
                Actions(width={block.name: 0.5}),
            )
        yield f'remove = ["{block.name}"]', block.name, Actions(remove=(block.name,))


def _smaller(size: tuple[int, int]) -> tuple[int, int] | None:
    """The next resolution: the shorter side one grain less, the longer in proportion."""
    short = min(size)
    less = (short - 1) // _GRAIN * _GRAIN
    if less < _GRAIN:
        return None
    height, width = (max(_GRAIN, round(side * less / short / _GRAIN) * _GRAIN) for side in size)
    return height, width


def _saving(
    what: str, block: str, spec: NetSpec, smaller: NetSpec, ms: float, price_of: PriceOf
) -> dict[str, Any]:
    after = price_of(smaller).ms
    return {
        "cut": what,
        "block": block,
        "saves_ms": ms - after,
        "ms": after,
        "saves_macs": spec.macs - smaller.macs,
        "saves_params": spec.params - smaller.params,
        "saves_no_time": saves_no_time(smaller.macs, spec.macs, after, ms),
    }
