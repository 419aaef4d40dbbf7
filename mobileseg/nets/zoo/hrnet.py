"""HRNet: branches of several resolutions side by side, exchanged again and again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobileseg.nets.blocks import IMAGE, Conv, Join, Sum, Upsample
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.draft import Draft, basic, bottleneck


@dataclass(frozen=True)
class _Stages:
    """first: channels and number of the bottlenecks; modules: of the stages with 2, 3, 4 branches;
    width: of the finest branch; blocks: of each branch in a module.
    """

    first: tuple[int, int]
    modules: tuple[int, int, int]
    width: int
    blocks: int


def hrnet_w18(image_size: tuple[int, int], classes: int) -> NetSpec:
    """HRNetV2-W18. Source: Wang et al., HRNet, 2020, section 3 and its published configuration."""
    stages = _Stages(first=(64, 4), modules=(1, 4, 3), width=18, blocks=4)
    return _hrnet("hrnet_w18", stages, image_size, classes)


def hrnet_w18_small(image_size: tuple[int, int], classes: int) -> NetSpec:
    """HRNetV2-W18-Small-v1. Source: the published configuration of HRNet-Semantic-Segmentation."""
    stages = _Stages(first=(32, 1), modules=(1, 1, 1), width=16, blocks=2)
    return _hrnet("hrnet_w18_small", stages, image_size, classes)


def _hrnet(name: str, stages: _Stages, image_size: tuple[int, int], classes: int) -> NetSpec:
    net = Draft()
    last = net.add(Conv("stem1", (IMAGE,), 64, stride=2))
    last = net.add(Conv("stem2", (last,), 64, stride=2))
    inner, count = stages.first
    into = 64
    for number in range(1, count + 1):
        last = bottleneck(net, f"stage1_{number}", last, into, inner)
        into = 4 * inner
    branches = _split(net, 2, [last], [into], [stages.width, 2 * stages.width])
    for stage, modules in enumerate(stages.modules, 2):
        widths = [stages.width << branch for branch in range(stage)]
        if stage > 2:
            branches = _split(net, stage, branches, widths[:-1], widths)
        for module in range(1, modules + 1):
            branches = _module(net, f"stage{stage}_{module}", branches, widths, stages.blocks)
    spread = [branches[0]]
    for number, branch in enumerate(branches[1:], 2):
        spread.append(net.add(Upsample(f"head_wide{number}", (branch, branches[0]))))
    joined = net.add(Join("head_join", tuple(spread)))
    last = net.add(Conv("head", (joined,), 15 * stages.width, 1))
    return NetSpec(name, image_size, classes, net.finish(net.classify(last)))


def _split(
    net: Draft, stage: int, branches: Sequence[str], have: Sequence[int], want: Sequence[int]
) -> list[str]:
    """Bring the branches to the wanted channels, and make a coarser one of the coarsest."""
    made = []
    for number, (branch, old, new) in enumerate(zip(branches, have, want, strict=False), 1):
        block = Conv(f"stage{stage}_to{number}", (branch,), new)
        made.append(branch if old == new else net.add(block))
    coarser = Conv(f"stage{stage}_to{len(want)}", (branches[-1],), want[-1], stride=2)
    return [*made, net.add(coarser)]


def _module(
    net: Draft, name: str, branches: Sequence[str], widths: Sequence[int], blocks: int
) -> list[str]:
    """Residual blocks in each branch, then each branch the sum of all, resized to it."""
    grown = []
    for number, (branch, width) in enumerate(zip(branches, widths, strict=True), 1):
        last = branch
        for block in range(1, blocks + 1):
            last = basic(net, f"{name}_branch{number}_{block}", last, width)
        grown.append(last)
    return [_exchange(net, name, grown, widths, to) for to in range(len(grown))]


def _exchange(
    net: Draft, name: str, branches: Sequence[str], widths: Sequence[int], to: int
) -> str:
    parts = []
    for number, branch in enumerate(branches):
        path = f"{name}_from{number + 1}_to{to + 1}"
        if number > to:
            point = net.add(Conv(path, (branch,), widths[to], 1, activation="none"))
            branch = net.add(Upsample(f"{path}_wide", (point, branches[to])))  # noqa: PLW2901
        for step in range(number + 1, to + 1):
            if step < to:
                down = Conv(f"{path}_{step}", (branch,), widths[number], stride=2)
            else:
                down = Conv(path, (branch,), widths[to], stride=2, activation="none")
            branch = net.add(down)  # noqa: PLW2901
        parts.append(branch)
    return net.add(Sum(f"{name}_to{to + 1}", tuple(parts), activation="relu"))
