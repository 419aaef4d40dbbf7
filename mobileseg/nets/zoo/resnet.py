"""PSPNet and ICNet: residual networks with dilated stages and a pyramid of means."""

from __future__ import annotations

from collections.abc import Sequence

from mobileseg.nets.blocks import IMAGE, Bins, Conv, Pool, Sum, Upsample
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.draft import Draft, bottleneck, pyramid

# Bottlenecks of ResNet-50's four stages, their dilations at an output stride of 8.
_BLOCKS = (3, 4, 6, 3)


def pspnet(image_size: tuple[int, int], classes: int) -> NetSpec:
    """PSPNet over ResNet-50 of output stride 8 with three convolutions for a stem.

    Source: Zhao et al., PSPNet, 2017, with an auxiliary head behind the third stage.
    """
    net = Draft()
    last = net.add(Conv("stem1", (IMAGE,), 32, stride=2))
    last = net.add(Conv("stem2", (last,), 32))
    last = net.add(Conv("stem3", (last,), 64))
    last = net.add(Pool("stem_pool", (last,), kernel=3))
    into = 64
    for stage, (inner, stride, dilation) in enumerate(
        ((64, 1, 1), (128, 2, 1), (256, 1, 2), (512, 1, 4)), 1
    ):
        for number in range(1, _BLOCKS[stage - 1] + 1):
            step, reach = (stride, max(dilation // 2, 1)) if number == 1 else (1, dilation)
            name = f"stage{stage}_{number}"
            last = bottleneck(net, name, last, into, inner, step, reach)
            into = 4 * inner
        if stage == 3:
            net.classify(net.add(Conv("aux", (last,), 256)), "aux_classifier")
    last = pyramid(net, last, (1, 2, 3, 6), 512)
    last = net.add(Conv("head", (last,), 512))
    return NetSpec("pspnet", image_size, classes, net.finish(net.classify(last)))


def icnet(image_size: tuple[int, int], classes: int) -> NetSpec:
    """ICNet before its pruning: the picture at 1, 1/2 and 1/4, fused in a cascade.

    The half- and quarter-size branches share their first layers. Two auxiliary heads.
    Source: Zhao et al., ICNet, 2018, figure 2; layers as its published model has them.
    """
    net = Draft()
    half = net.add(Upsample("at_half", (IMAGE,), factor=0.5))
    last = net.add(Conv("stem1", (half,), 64, stride=2))
    last = net.add(Conv("stem2", (last,), 64))
    last = net.add(Conv("stem3", (last,), 128))
    last = net.add(Pool("stem_pool", (last,), kernel=3))
    last, into = _stage(net, 1, range(1, 4), last, 128, 64)
    middle, into = _stage(net, 2, range(1, 2), last, into, 128, stride=2)
    last = net.add(Upsample("at_quarter", (middle,), factor=0.5))
    last, into = _stage(net, 2, range(2, 5), last, into, 128)
    last, into = _stage(net, 3, range(1, 7), last, into, 256, dilation=2)
    last, into = _stage(net, 4, range(1, 4), last, into, 512, dilation=4)
    last = net.add(Conv("low", (_means(net, last),), 512, 1))
    last = _fuse(net, "fuse1", last, middle)
    fine = net.add(Conv("fine1", (IMAGE,), 64, stride=2))
    fine = net.add(Conv("fine2", (fine,), 64, stride=2))
    fine = net.add(Conv("fine3", (fine,), 128, stride=2))
    last = _fuse(net, "fuse2", last, fine)
    last = net.add(Upsample("wide", (last, "fine2")))
    return NetSpec("icnet", image_size, classes, net.finish(net.classify(last)))


def _stage(
    net: Draft,
    stage: int,
    numbers: Sequence[int],
    last: str,
    into: int,
    inner: int,
    stride: int = 1,
    dilation: int = 1,
) -> tuple[str, int]:
    """Append bottlenecks with these numbers; return the last and its channels."""
    for number in numbers:
        name = f"stage{stage}_{number}"
        last = bottleneck(net, name, last, into, inner, stride, dilation, early=True)
        into = 4 * inner
    return last, into


def _means(net: Draft, source: str) -> str:
    """The means over grids of bins added to what they are of: ICNet's cheaper pyramid."""
    parts = [source]
    for bins in (1, 2, 3, 6):
        mean = net.add(Bins(f"pyramid{bins}_mean", (source,), bins))
        parts.append(net.add(Upsample(f"pyramid{bins}_spread", (mean, source))))
    return net.add(Sum("pyramid_sum", tuple(parts)))


def _fuse(net: Draft, name: str, low: str, high: str) -> str:
    """Cascade feature fusion: `low` twice as large and dilated, `high` projected, added."""
    wide = net.add(Upsample(f"{name}_wide", (low, high)))
    net.classify(wide, f"{name}_aux")
    dilated = net.add(Conv(f"{name}_low", (wide,), 256, dilation=2, activation="none"))
    point = net.add(Conv(f"{name}_high", (high,), 256, 1, activation="none"))
    return net.add(Sum(f"{name}_sum", (dilated, point), activation="relu"))
