"""Fast-SCNN: two resolutions that share their first layers."""

from __future__ import annotations

from mobileseg.nets.blocks import IMAGE, Conv, Depthwise, Separable, Sum, Upsample
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.draft import Draft, Inverted, pyramid

# Channels, repeats and stride of the first of each row of inverted residuals.
_DEEP = ((64, 3, 2), (96, 3, 2), (128, 3, 1))


def fast_scnn(image_size: tuple[int, int], classes: int) -> NetSpec:
    """Fast-SCNN. Source: Poudel et al., Fast-SCNN, 2019, table 1.

    The pyramid ends in a 3x3 convolution and an auxiliary head reads the finer resolution, both as
    PaddleSeg has them.
    """
    net = Draft()
    last = net.add(Conv("down1", (IMAGE,), 32, stride=2))
    last = net.add(Separable("down2", (last,), 48, stride=2))
    high = last = net.add(Separable("down3", (last,), 64, stride=2))
    net.classify(net.add(Conv("aux", (high,), 32)), "aux_classifier")
    into, number = 64, 1
    for channels, repeats, stride in _DEEP:
        for step in [stride] + [1] * (repeats - 1):
            part = Inverted(into, 6 * into, channels, stride=step, activation="relu")
            last = part.add(net, f"block{number}", last)
            into, number = channels, number + 1
    last = pyramid(net, last, (1, 2, 3, 6), 32)
    last = net.add(Conv("context", (last,), 128))
    wide = net.add(Upsample("fuse_wide", (last, high)))
    wide = net.add(Depthwise("fuse_dw", (wide,), dilation=4))
    wide = net.add(Conv("fuse_low", (wide,), 128, 1, activation="none"))
    high = net.add(Conv("fuse_high", (high,), 128, 1, activation="none"))
    last = net.add(Sum("fuse", (wide, high), activation="relu"))
    last = net.add(Separable("head1", (last,), 128))
    last = net.add(Separable("head2", (last,), 128))
    return NetSpec("fast_scnn", image_size, classes, net.finish(net.classify(last)))
