"""Which of a parent's channels each channel of a child network is.

Every output channel of the parent has an identity; channels that a Sum adds share one. A child's
block keeps the filters of largest L1 norm among the parent's block of the same name, and whatever
reads them finds them again by identity, through sums, products, joins, pools and resizes. A
depthwise filter that reads several channels is the parent's only if that read the very same ones,
in the same order. Between a gate's two layers those of largest L1 norm are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import IMAGE, Block, Gate, Join, Separable
from mobileseg.nets.spec import NetSpec

if TYPE_CHECKING:
    from torch import Tensor

Index: TypeAlias = NDArray[np.int64]
NONE = -1


@dataclass(frozen=True)
class Maps:
    """Per channel of a child's block the parent block's channel, or -1. Keys are axis roles."""

    out: Index
    into: Index
    filters: Index
    hidden: Index

    def role(self, role: str) -> Index:
        """Return the map of an axis role of `Block.axes`."""
        maps = {"out": self.out, "in": self.into, "filters": self.filters, "hidden": self.hidden}
        return maps[role]


def channel_maps(
    parent: NetSpec,
    weights: Mapping[str, Tensor],
    child: NetSpec,
    scores: Mapping[str, NDArray[np.float64]] | None = None,
) -> dict[str, Maps]:
    """Return the maps of every child block that the parent has too and that has weights.

    scores: per block of the parent how much each filter is worth, instead of its L1 norm.
    """
    old = identities(parent)
    worth = filter_norms(parent, weights) if scores is None else scores
    chosen = _choose(parent, old, worth, child)
    outs = {
        name: _outputs(filters, child[name], parent[name], old[name])
        for name, filters in chosen.items()
    }
    found = _flow(child, old, outs)
    maps = {}
    there = {block.name for block in parent.blocks}
    for block in child.concrete():
        if not block.axes() or block.name not in there:
            continue
        before = np.concatenate([old[name] for name in parent[block.name].inputs])
        now = np.concatenate([found[name] for name in block.inputs])
        into = _positions(before, now)
        if (into == NONE).all():
            into = _by_position(block, before, now, old)
        hidden = _hidden(block, parent[block.name], into, len(before))
        if isinstance(block, Gate):
            hidden = _squeezed(block, parent[block.name], weights)
        maps[block.name] = Maps(
            outs.get(block.name, into), into, chosen.get(block.name, into), hidden
        )
    return maps


def identities(spec: NetSpec) -> dict[str, Index]:
    """Return the identity of every output channel of every block; added channels share one."""
    sizes = spec.shapes()
    owner: list[int] = list(range(sum(size[0] for size in sizes.values())))

    def root(channel: int) -> int:
        while owner[channel] != channel:
            channel = owner[channel]
        return channel

    def unite(parts: Sequence[Index]) -> Index:
        for part in parts[1:]:
            for pair in zip(parts[0].tolist(), part.tolist(), strict=True):
                low, high = sorted(root(channel) for channel in pair)
                owner[high] = low
        return parts[0]

    channels = {IMAGE: np.arange(sizes[IMAGE][0])}
    start = sizes[IMAGE][0]
    for block in spec.concrete():
        count = sizes[block.name][0]
        inputs = [channels[name] for name in block.carriers()]
        own = np.arange(start, start + count)
        channels[block.name] = _through(block, inputs, own, unite)
        start += count
    roots = np.array([root(channel) for channel in range(len(owner))])
    return {name: roots[index] for name, index in channels.items()}


def _through(
    block: Block,
    inputs: Sequence[Index],
    own: Index,
    merge: Callable[[Sequence[Index]], Index],
) -> Index:
    """Return a block's output channels: made anew, strung together, or merged one by one."""
    if produces(block):
        return own
    if isinstance(block, Join):
        return np.concatenate(inputs)
    if len({len(part) for part in inputs}) != 1:
        raise MobilesegError(f"{block.name}: no rule says what a {block.kind} does to channels")
    return merge(inputs)


def produces(block: Block) -> bool:
    """Whether the block makes channels of its own, with filters."""
    return any(role in {"out", "filters"} for axes in block.axes().values() for role in axes)


def copies(block: Block) -> int:
    """Return how many output channels a filter makes: 2 in a CReLU block."""
    return 2 if getattr(block, "crelu", False) else 1


def filter_norms(spec: NetSpec, weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.float64]]:
    """Return per block the L1 norm of every filter, over all weights that produce it."""
    norms: dict[str, NDArray[np.float64]] = {}
    for block in spec.concrete():
        for tensor, axes in block.axes().items():
            role = next((r for r in axes if r in {"out", "filters"}), None)
            if role is None or len(axes) < 2:
                continue
            weight = weights[f"{block.name}.{tensor}"].detach()
            rest = [axis for axis, r in enumerate(axes) if r != role]
            norm = (
                np.zeros(weight.shape[axes.index(role)])
                if weight.is_meta
                else weight.double().abs().sum(dim=rest).numpy()
            )
            norms[block.name] = norms.get(block.name, 0) + norm
    return norms


def _choose(
    parent: NetSpec,
    old: Mapping[str, Index],
    norms: Mapping[str, NDArray[np.float64]],
    child: NetSpec,
) -> dict[str, Index]:
    """Return per child block its filters as the parent's filters, -1 for new ones.

    Blocks whose outputs are added choose by the sum of their norms, hence alike; where a sum ties
    blocks of different sizes (by way of a join), the smaller ones choose and the larger follow.
    """
    scores = np.zeros(1 + max(int(index.max()) for index in old.values()))
    for name, norm in norms.items():
        np.add.at(scores, old[name], np.tile(norm, len(old[name]) // len(norm)))
    now = identities(child)
    agreed: dict[int, int] = {}
    chosen: dict[str, Index] = {}
    producers = [block for block in child.concrete() if produces(block)]
    for block in sorted(producers, key=lambda block: len(now[block.name])):
        if block.name not in norms:
            continue
        ids = now[block.name].reshape(copies(block), -1)
        if not _same_meaning(parent[block.name], child[block.name], parent, child):
            chosen[block.name] = np.full(ids.shape[1], NONE)
            continue
        theirs = old[block.name].reshape(copies(parent[block.name]), -1)
        shared = min(len(ids), len(theirs))
        filters = _agreed(ids[:shared], theirs[:shared], agreed)
        _fill(filters, scores[theirs].sum(axis=0))
        chosen[block.name] = filters
        for mine, their in zip(ids[:shared], theirs[:shared], strict=True):
            for channel, filter_ in zip(mine.tolist(), filters.tolist(), strict=True):
                if filter_ != NONE:
                    agreed.setdefault(channel, int(their[filter_]))
    return chosen


def _same_meaning(old: Block, new: Block, parent: NetSpec, child: NetSpec) -> bool:
    # Class scores are the classes in their order, and nothing else: they are not ranked.
    classes = [getattr(block, "channels", None) == "classes" for block in (old, new)]
    if any(classes):
        return all(classes) and parent.classes == child.classes
    return True


def _agreed(ids: Index, theirs: Index, agreed: Mapping[int, int]) -> Index:
    """Return the filters that blocks tied to this one have chosen already, -1 elsewhere."""
    filters = np.full(ids.shape[1], NONE)
    for mine, their in zip(ids.tolist(), theirs.tolist(), strict=True):
        place = {identity: filter_ for filter_, identity in enumerate(their)}
        for number, channel in enumerate(mine):
            if channel in agreed:
                filters[number] = place.get(agreed[channel], NONE)
    return filters


def _fill(filters: Index, scores: NDArray[np.float64]) -> None:
    """Give the open places the best of the filters that are left, in the parent's order."""
    places = np.flatnonzero(filters == NONE)
    left = np.setdiff1d(np.arange(len(scores)), filters)
    best = np.sort(left[np.argsort(-scores[left], kind="stable")[: len(places)]])
    filters[places[: len(best)]] = best


def _outputs(filters: Index, block: Block, parent: Block, old: Index) -> Index:
    """Return the output map of a block: its filters, then their negatives in a CReLU block."""
    count = len(old) // copies(parent)
    parts = [
        np.where(filters == NONE, NONE, filters + copy * count)
        if copy < copies(parent)
        else np.full(len(filters), NONE)
        for copy in range(copies(block))
    ]
    return np.concatenate(parts)


def _flow(child: NetSpec, old: Mapping[str, Index], outs: Mapping[str, Index]) -> dict[str, Index]:
    """Return the parent's identity of every output channel of every child block, or -1."""
    sizes = child.shapes()
    found = {IMAGE: old[IMAGE]}
    for block in child.concrete():
        own = np.full(sizes[block.name][0], NONE)
        if block.name in outs:
            own = np.where(outs[block.name] == NONE, NONE, old[block.name][outs[block.name]])
        inputs = [found[name] for name in block.carriers()]
        found[block.name] = _through(block, inputs, own, _first)
    return found


def _first(parts: Sequence[Index]) -> Index:
    merged = parts[0]
    for part in parts[1:]:
        merged = np.where(merged == NONE, part, merged)
    return merged


def _positions(before: Index, now: Index) -> Index:
    """Return where each identity of `now` stands in `before`: its n-th time to the n-th place."""
    places: dict[int, list[int]] = {}
    for place, identity in enumerate(before.tolist()):
        places.setdefault(identity, []).append(place)
    queues = {identity: iter(where) for identity, where in places.items()}
    return np.array([next(queues.get(i, iter(())), NONE) for i in now.tolist()], dtype=np.int64)


def _hidden(block: Block, parent: Block, into: Index, before: int) -> Index:
    """Return the map of the channels between depthwise and pointwise layer; else the input map.

    A depthwise channel is found again where its filter reads the channels that the parent's read.
    """
    if not isinstance(block, Separable) or not isinstance(parent, Separable):
        return into
    mine = into.reshape(block.hidden(len(into)), -1).tolist()
    theirs = np.arange(before).reshape(parent.hidden(before), -1).tolist()
    places = {tuple(read): place for place, read in enumerate(theirs)}
    return np.array([places.get(tuple(read), NONE) for read in mine], dtype=np.int64)


def _squeezed(block: Gate, parent: Block, weights: Mapping[str, Tensor]) -> Index:
    """Return which of the parent's channels between a gate's layers the child keeps."""
    kept = np.full(block.channels, NONE)
    if isinstance(parent, Gate):
        weight = weights[f"{block.name}.squeeze.weight"].detach()
        norms = np.zeros(len(weight))
        if not weight.is_meta:
            norms = weight.double().abs().sum(dim=(1, 2, 3)).numpy()
        _fill(kept, norms)
    return kept


def _by_position(block: Block, before: Index, now: Index, old: Mapping[str, Index]) -> Index:
    """Return the input map of a block that reads another block than in the parent.

    Equal numbers of channels, in the parent or at least now, are matched one by one.
    """
    if len(block.inputs) == 1 and len(old.get(block.inputs[0], ())) == len(before):
        return _positions(old[block.inputs[0]], now)
    if len(now) == len(before):
        return np.arange(len(now))
    return np.full(len(now), NONE)
