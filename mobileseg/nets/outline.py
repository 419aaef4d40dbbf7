"""A network's blocks as a tree by their names: `stage1_2_conv1` stands in stage1, in stage1_2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobileseg.nets.blocks import Block
from mobileseg.nets.spec import NetSpec


@dataclass(frozen=True)
class Group:
    """Neighbours whose names begin alike; `name` followed by `_*` is the recipe's glob for them."""

    name: str
    members: tuple[Group | Block, ...]

    def blocks(self) -> list[Block]:
        """Return the blocks in it, at any depth."""
        found: list[Block] = []
        for member in self.members:
            found += member.blocks() if isinstance(member, Group) else [member]
        return found


def outline(spec: NetSpec) -> tuple[Group | Block, ...]:
    """Return the network's groups and the blocks that are in none, in running order."""
    return _grouped(spec.blocks, 1)


def _grouped(blocks: Sequence[Block], words: int) -> tuple[Group | Block, ...]:
    """Gather neighbours that share their first `words` words and have more; one alone stays."""
    members: list[Group | Block] = []
    start = 0
    while start < len(blocks):
        head = _head(blocks[start], words)
        end = start + 1
        while head and end < len(blocks) and _head(blocks[end], words) == head:
            end += 1
        same = blocks[start:end]
        if end - start == 1:
            members.append(same[0])
        else:
            inside = _grouped(same, words + 1)
            # A level that holds nothing but one further level says nothing.
            only = inside[0]
            alone = len(inside) == 1 and isinstance(only, Group)
            members.append(only if alone else Group(head, inside))
        start = end
    return tuple(members)


def _head(block: Block, words: int) -> str:
    parts = block.name.split("_")
    return "_".join(parts[:words]) if len(parts) > words else ""
