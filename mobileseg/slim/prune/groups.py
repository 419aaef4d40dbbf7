"""Which filters of a network can only go together, and what is left when they go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mobileseg.errors import matching
from mobileseg.nets.blocks import IMAGE, Block, Separable
from mobileseg.nets.spec import NetSpec
from mobileseg.slim.channels import Index, copies, identities, produces

Scores: TypeAlias = Mapping[str, NDArray[np.float64]]
"""Per block that makes channels the importance of each filter; those tied together are summed."""

Counts: TypeAlias = Mapping[str, int]
"""Per group the number of filters that stay; a group that is not named stays whole."""


@dataclass(frozen=True)
class Group:
    """Filters of the same blocks, each tied to one of every other: added, multiplied, doubled.

    `places`: per block where among its filters they stand. `held` says why none of them may go;
    empty where they may.
    """

    name: str
    places: Mapping[str, Index]
    held: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.places.values())))

    def importance(self, scores: Scores) -> NDArray[np.float64]:
        """Return the importance of each filter."""
        parts = [scores[block][places] for block, places in self.places.items()]
        total: NDArray[np.float64] = np.sum(parts, axis=0)
        return total


def groups(spec: NetSpec, keep: Sequence[str] = ()) -> tuple[Group, ...]:
    """Return all groups in running order. `keep`: globs over blocks that stay as they are.

    Raises MobilesegError for a glob that names no block with filters.
    """
    units = _units(spec)
    makers = {block.name: units[block.name] for block in spec.blocks if produces(block)}
    held = _held(spec, units, matching("keep", "block with filters", keep, makers))
    made_by: dict[int, list[str]] = {}
    for name, index in makers.items():
        for unit in dict.fromkeys(index.tolist()):
            made_by.setdefault(unit, []).append(name)
    inside: dict[tuple[str, ...], list[int]] = {}
    for unit, makes in made_by.items():
        inside.setdefault(tuple(makes), []).append(unit)
    found: list[Group] = []
    for names, members in inside.items():
        places = {name: np.flatnonzero(np.isin(makers[name], members)) for name in names}
        clash = any(names[0] == other[0] for other in inside if other != names)
        why = next((held[unit] for unit in members if unit in held), "")
        if len({len(index) for index in places.values()}) > 1:
            why = why or "is tied to itself: several of its channels to one of another block"
        found.append(Group("+".join(names) if clash else names[0], places, why))
    return tuple(found)


def narrowed(spec: NetSpec, of: Sequence[Group], counts: Counts) -> NetSpec:
    """Return the network with as many filters of each group as `counts` says."""
    width: dict[str, int] = {}
    for group in of:
        for block in group.places:
            width[block] = width.get(block, 0) + counts.get(group.name, len(group))
    return replace(spec, blocks=tuple(_with(block, width) for block in spec.blocks))


def _with(block: Block, width: Mapping[str, int]) -> Block:
    if not isinstance(getattr(block, "channels", None), int) or block.name not in width:
        return block
    return replace(block, channels=width[block.name])  # type: ignore[call-arg]


def _units(spec: NetSpec) -> dict[str, Index]:
    """Return per block what each output channel is a part of: the two of a CReLU filter are one.

    Of a block that makes channels only its filters are given.
    """
    found = identities(spec)
    owner: dict[int, int] = {}

    def root(unit: int) -> int:
        while unit in owner:
            unit = owner[unit]
        return unit

    for block in spec.blocks:
        if produces(block):
            for same in found[block.name].reshape(copies(block), -1).T.tolist():
                first, *others = sorted({root(unit) for unit in same})
                owner.update(dict.fromkeys(others, first))
    units = {
        name: np.array([root(unit) for unit in index.tolist()], dtype=np.int64)
        for name, index in found.items()
    }
    for block in spec.blocks:
        if produces(block):
            units[block.name] = units[block.name][: len(units[block.name]) // copies(block)]
    return units


def _held(spec: NetSpec, units: Mapping[str, Index], keep: set[str]) -> dict[int, str]:
    """Return per unit that has to stay the reason."""
    held: dict[int, str] = {}

    def hold(name: str, why: str) -> None:
        for unit in units[name].tolist():
            held.setdefault(unit, why)

    hold(IMAGE, "is added to the picture")
    for name in spec.heads():
        hold(name, "is an auxiliary head")
    for block in spec.blocks:
        if getattr(block, "channels", None) == "classes":
            hold(block.name, "gives the classes")
        if isinstance(block, Separable) and block.depthwise is not None:
            for source in block.inputs:
                hold(source, f"each depthwise filter of {block.name} reads several of its channels")
        if block.name in keep:
            hold(block.name, "is to be kept")
    return held
