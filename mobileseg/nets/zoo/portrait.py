"""Small networks of our own for people close to the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mobileseg.nets.blocks import (
    IMAGE,
    Bins,
    Conv,
    Depthwise,
    Pool,
    Product,
    Separable,
    Sum,
    Upsample,
)
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.draft import Draft
from mobileseg.nets.zoo.mobilenet import mobilenet_v1_encoder, mobilenet_v2_encoder


def portrait_lite(image_size: tuple[int, int], classes: int) -> NetSpec:
    """A separable encoder to stride 16 whose steps are added on the way back, as in PP-HumanSeg.

    Of the size of PP-HumanSeg-Lite, 0.14 M parameters, and of our own design.
    """
    net = Draft()
    last = net.add(Conv("stem", (IMAGE,), 16, stride=2, activation="relu6"))
    steps = [last]
    for stage, (channels, repeats) in enumerate(((32, 2), (64, 3), (128, 4)), 1):
        for number in range(1, repeats + 1):
            block = Separable(
                f"stage{stage}_{number}",
                (last,),
                channels,
                stride=2 if number == 1 else 1,
                activation="relu6",
            )
            last = net.add(block)
        steps.append(last)
    last = _context(net, last, 48)
    last = _back(net, last, steps[-2::-1], (32, 24, 16))
    return NetSpec("portrait_lite", image_size, classes, net.finish(net.classify(last)))


def _context(net: Draft, last: str, channels: int) -> str:
    """A 1x1 convolution whose channels the whole picture's mean lets through or holds back."""
    mean = net.add(Bins("context_mean", (last,)))
    gate = Conv("context_gate", (mean,), channels, 1, norm=False, activation="hard_sigmoid")
    last = net.add(Conv("context", (last,), channels, 1))
    return net.add(Product("context_gated", (last, net.add(gate))))


def _back(
    net: Draft, last: str, skips: Sequence[str], widths: Sequence[int], whole: int = 0
) -> str:
    """Resize to each skip in turn, add it through a 1x1 convolution, one 3x3 block.

    The first `whole` of those blocks are convolutions, the rest are separable.
    """
    for number, (skip, width) in enumerate(zip(skips, widths, strict=True), 1):
        point = net.add(Conv(f"up{number}_point", (last,), width, 1, activation="none"))
        wide = net.add(Upsample(f"up{number}_wide", (point, skip)))
        side = net.add(Conv(f"up{number}_skip", (skip,), width, 1, activation="none"))
        last = net.add(Sum(f"up{number}_sum", (wide, side), activation="relu"))
        block = Conv if number <= whole else Separable
        last = net.add(block(f"up{number}", (last,), width))
    return last


def portrait_large(image_size: tuple[int, int], classes: int) -> NetSpec:
    """MobileNetV2 to stride 32 and five steps back: the teacher of the networks for phones.

    Of our own design, 2.2 M parameters; its encoder takes the ImageNet weights.
    """
    net = Draft()
    ends = mobilenet_v2_encoder(net)
    last = _context(net, ends[32], 128)
    skips = [ends[stride] for stride in (16, 8, 4, 2)]
    last = _back(net, last, skips, (128, 96, 64, 32), whole=2)
    return NetSpec("portrait_large", image_size, classes, net.finish(net.classify(last)))


def portrait(image_size: tuple[int, int], classes: int) -> NetSpec:
    """Half of MobileNetV1's channels to stride 16, and three steps back, 0.33 M parameters.

    Of our own design. The encoder ends early, where a phone's milliseconds buy little more.
    """
    net = _narrow_encoder(2, "conv5_3")
    last = _context(net, net.blocks[-1].name, 64)
    last = _back(net, last, ("conv4_1", "conv3_1", "conv2_1"), (48, 32, 16))
    return NetSpec("portrait", image_size, classes, net.finish(net.classify(last)))


def portrait_tiny(image_size: tuple[int, int], classes: int) -> NetSpec:
    """The same of a quarter of the channels, and one block shorter: 0.07 M parameters."""
    net = _narrow_encoder(4, "conv5_2")
    last = _context(net, net.blocks[-1].name, 32)
    last = _back(net, last, ("conv4_1", "conv3_1", "conv2_1"), (24, 16, 8))
    return NetSpec("portrait_tiny", image_size, classes, net.finish(net.classify(last)))


def _narrow_encoder(divisor: int, until: str) -> Draft:
    """MobileNetV1 with its channels divided, up to a block."""
    net = Draft()
    for block in mobilenet_v1_encoder():
        assert isinstance(block, Conv | Separable) and isinstance(block.channels, int)
        net.add(replace(block, channels=block.channels // divisor))
        if block.name == until:
            break
    return net


def portrait_squeeze(image_size: tuple[int, int], classes: int) -> NetSpec:
    """Blocks that look twice, once at half size; the coarse classes gate the fine features.

    Of the size of SINet, 0.09 M parameters, and of our own design: its spatial squeeze, and its
    decoder that lets fine features through only where the coarse answer is unsure.
    """
    net = Draft()
    last = net.add(Conv("stem", (IMAGE,), 12, stride=2))
    fine = last = net.add(Separable("down1", (last,), 24, stride=2))
    for number in (1, 2):
        last = _squeezed(net, f"stage1_{number}", last, 24)
    last = net.add(Separable("down2", (last,), 64, stride=2))
    for number in (1, 2, 3, 4, 5):
        last = _squeezed(net, f"stage2_{number}", last, 64)
    last = net.add(Conv("deep", (last,), 32, 1))
    unsure = Conv("unsure", (last,), 24, 1, norm=False, activation="hard_sigmoid")
    gate = net.add(Upsample("unsure_wide", (net.add(unsure), fine)))
    point = net.add(Conv("deep_point", (last,), 24, 1, activation="none"))
    wide = net.add(Upsample("deep_wide", (point, fine)))
    let = net.add(Product("fine_let", (fine, gate)))
    last = net.add(Sum("both", (wide, let), activation="relu"))
    last = net.add(Separable("head", (last,), 24))
    return NetSpec("portrait_squeeze", image_size, classes, net.finish(net.classify(last)))


def _squeezed(net: Draft, name: str, source: str, channels: int) -> str:
    """A residual block of two depthwise views of the same channels, one of them at half size."""
    point = net.add(Conv(f"{name}_point", (source,), channels, 1))
    near = net.add(Depthwise(f"{name}_near", (point,), activation="none"))
    half = net.add(Pool(f"{name}_half", (point,), "mean"))
    far = net.add(Depthwise(f"{name}_far", (half,), 5, activation="none"))
    wide = net.add(Upsample(f"{name}_wide", (far, point)))
    seen = net.add(Sum(f"{name}_seen", (near, wide), activation="relu"))
    mixed = net.add(Conv(f"{name}_mix", (seen,), channels, 1, activation="none"))
    return net.add(Sum(f"{name}_sum", (source, mixed), activation="relu"))
