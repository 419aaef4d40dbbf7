"""What a search may change of a network: its sides, widths and depth, as a few choices.

Blocks are taken together by the size at which they work: a choice for each block would be more
than short trainings can tell apart. Filters that are tied together shrink together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks import MAX_SIDE
from mobileseg.nets.spec import NetSpec
from mobileseg.slim.actions import Actions
from mobileseg.slim.prune.groups import Group, groups, narrowed
from mobileseg.slim.steps import apply

SIDES = (0.5, 0.625, 0.75, 0.875, 1.0, 1.25)
WIDTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0)
# Kernels work in steps of eight channels.
_MULTIPLE = 8
# Of the blocks of one stage so many may go, the last first.
_MOST_GONE = 4
# A smaller picture than 1/32 is a pyramid's or a mean's: it goes with the coarsest stage.
_STRIDES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Space:
    """The choices that a network leaves.

    sides: sizes of the picture (height, width). stages: each block's, by name. wide: the stages
    whose filters may become fewer. removable: by stage the blocks that may go, in that order.
    """

    spec: NetSpec
    sides: tuple[tuple[int, int], ...]
    stages: Mapping[str, str]
    wide: tuple[str, ...]
    removable: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Choice:
    """One network of a space. widths: per stage a factor; gone: per stage how many blocks."""

    side: tuple[int, int]
    widths: Mapping[str, float]
    gone: Mapping[str, int]


def space_of(spec: NetSpec) -> Space:
    """Return what may be changed of a network."""
    stages = _stages(spec)
    names: dict[str, list[str]] = {}
    for name, stage in stages.items():
        names.setdefault(stage, []).append(name)
    removable = {stage: _removable(spec, these) for stage, these in names.items()}
    stride = max(int(each.removeprefix("stride")) for each in names if each.startswith("stride"))
    return Space(
        spec,
        _sides(spec, stride),
        stages,
        tuple(dict.fromkeys(stages[next(iter(group.places))] for group in _free(spec))),
        {stage: found for stage, found in removable.items() if found},
    )


def _free(spec: NetSpec) -> list[Group]:
    """Return the filters that may become fewer."""
    return [group for group in groups(spec) if not group.held and len(group) > _MULTIPLE]


def _stages(spec: NetSpec) -> dict[str, str]:
    """Return each block's stage: stride4 on the way down, up4 behind the coarsest."""
    sizes, height = spec.shapes(), spec.image_size[0]
    ratios = {block.name: round(height / sizes[block.name][1]) for block in spec.blocks}
    coarsest = max(ratio for ratio in ratios.values() if ratio in _STRIDES)
    deepest = max(i for i, block in enumerate(spec.blocks) if ratios[block.name] == coarsest)
    stages = {}
    for i, block in enumerate(spec.blocks):
        ratio = ratios[block.name]
        down = i <= deepest or ratio not in _STRIDES
        stages[block.name] = f"stride{min(ratio, coarsest)}" if down else f"up{ratio}"
    return stages


def _sides(spec: NetSpec, stride: int) -> tuple[tuple[int, int], ...]:
    found = []
    for factor in SIDES:
        height, width = (max(1, round(side * factor / stride)) * stride for side in spec.image_size)
        # What keeps the picture's proportions by a twentieth is the same picture.
        kept = abs(height * spec.image_size[1] / (width * spec.image_size[0]) - 1) < 0.05
        if kept and max(height, width) <= MAX_SIDE and _works(spec, (height, width)):
            found.append((height, width))
    return tuple(dict.fromkeys([*found, spec.image_size]))


def _works(spec: NetSpec, size: tuple[int, int]) -> bool:
    try:
        apply(spec, Actions(image_size=size), "space")
    except MobilesegError:
        return False
    return True


def _removable(spec: NetSpec, names: list[str]) -> tuple[str, ...]:
    """Return the blocks that can go one after the other, the last of the stage first."""
    gone: list[str] = []
    for name in reversed(names):
        if len(gone) == _MOST_GONE:
            break
        try:
            left = apply(spec, Actions(remove=(*gone, name)), "space")
        except MobilesegError:
            continue
        if left.macs < spec.macs:
            gone.append(name)
    return tuple(gone)


def actions_of(space: Space, choice: Choice) -> Actions:
    """Return the step that makes the chosen network of the space's.

    Raises MobilesegError where its parts do not go together.
    """
    gone = tuple(
        name
        for stage, names in space.removable.items()
        for name in names[: choice.gone.get(stage, 0)]
    )
    # What is tied to what follows from the blocks that are left.
    left = apply(space.spec, Actions(remove=gone), "search")
    counts = {}
    for group in _free(left):
        factor = choice.widths.get(space.stages[next(iter(group.places))], 1.0)
        if factor < 1:
            fewer = max(1, round(len(group) * factor / _MULTIPLE)) * _MULTIPLE
            counts[group.name] = min(fewer, len(group))
    narrow = narrowed(left, groups(left), counts)
    # The skips of a decoder of deconvolutions follow its stages.
    width = {
        block.name: block.channels
        for block, before in zip(narrow.blocks, left.blocks, strict=True)
        if block != before and hasattr(block, "channels") and not block.name.startswith("skip")
    }
    side = choice.side if choice.side != space.spec.image_size else None
    return Actions(image_size=side, remove=gone, width=width)
