"""MobileNets: the encoders of the zoo, and the networks that are little more than one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from mobileseg.nets.blocks import (
    IMAGE,
    Act,
    Bins,
    Block,
    Conv,
    Deconv,
    Product,
    Separable,
    Sum,
    Upsample,
)
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.draft import Draft, Inverted

# MobileNetV1's separable blocks: name, channels, stride.
# Source: Howard et al., MobileNets, 2017, table 1, in the layer names of its Caffe port.
_MOBILENET_V1 = (
    ("conv2_1", 64, 1),
    ("conv2_2", 128, 2),
    ("conv3_1", 128, 1),
    ("conv3_2", 256, 2),
    ("conv4_1", 256, 1),
    ("conv4_2", 512, 2),
    ("conv5_1", 512, 1),
    ("conv5_2", 512, 1),
    ("conv5_3", 512, 1),
    ("conv5_4", 512, 1),
    ("conv5_5", 512, 1),
    ("conv5_6", 1024, 2),
    ("conv6", 1024, 1),
)


def mobilenet_v1_encoder() -> list[Block]:
    """Return MobileNetV1's blocks, stride 32. ReLU6, for the ImageNet weights were trained so."""
    blocks: list[Block] = [Conv("conv1", (IMAGE,), 32, stride=2, activation="relu6")]
    for name, channels, stride in _MOBILENET_V1:
        source = (blocks[-1].name,)
        blocks.append(Separable(name, source, channels, stride=stride, activation="relu6"))
    return blocks


def mobilenet_deconv(image_size: tuple[int, int], classes: int) -> NetSpec:
    """MobileNetV1 encoder and five 4x4 deconvolutions of stride 2, the last to the classes.

    Source: the article behind SYSTEMS "Slimming a MobileNet segmenter", rung base160.
    """
    net = Draft(mobilenet_v1_encoder())
    _deconvolutions(net, net.blocks[-1].name, (512, 256, 128, 32))
    return NetSpec("mobilenet_deconv", image_size, classes, tuple(net.blocks))


def _deconvolutions(net: Draft, source: str, channels: Sequence[int]) -> None:
    """Append deconvolutions of stride 2 under the names that recipes' `deconv` knows."""
    for number, each in enumerate(channels, 1):
        source = net.add(Deconv(f"deconv{number}", (source,), each))
    last = f"deconv{len(channels) + 1}"
    net.add(Deconv(last, (source,), "classes", norm=False, activation="none"))


# MobileNetV2's inverted residuals: expansion, channels, repeats, stride of the first.
# Source: Sandler et al., MobileNetV2, 2018, table 2.
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2_encoder(net: Draft, output_stride: int = 32, until: int = 17) -> dict[int, str]:
    """Append MobileNetV2 to its 320 channels, or to `until`; return the last block of each stride.

    From `output_stride` on, strides become dilations.
    """
    last = net.add(Conv("conv1", (IMAGE,), 32, stride=2, activation="relu6"))
    parts = []
    into = 32
    for expansion, channels, repeats, stride in _MOBILENET_V2:
        for number in range(repeats):
            step = stride if number == 0 else 1
            parts.append(Inverted(into, expansion * into, channels, stride=step))
            into = channels
    return _inverted(net, last, parts[:until], output_stride)


def _inverted(
    net: Draft, last: str, parts: Sequence[Inverted], output_stride: int
) -> dict[int, str]:
    """Append block1, block2, ... behind a stride of 2; return the last block of each stride."""
    stride, dilation = 2, 1
    ends = {stride: last}
    for number, part in enumerate(parts, 1):
        block, after = replace(part, dilation=dilation), dilation
        if part.stride * stride > output_stride:
            # The layer that would have strided still looks at the undilated neighbours.
            block, after = replace(block, stride=1), dilation * part.stride
        stride *= block.stride
        last = block.add(net, f"block{number}", last)
        dilation = after
        ends[stride] = last
    return ends


def mobilenet_v2_deconv(image_size: tuple[int, int], classes: int) -> NetSpec:
    """MobileNetV2 encoder and five 4x4 deconvolutions of stride 2, the last to the classes."""
    net = Draft()
    ends = mobilenet_v2_encoder(net)
    _deconvolutions(net, ends[32], (256, 128, 64, 32))
    return NetSpec("mobilenet_v2_deconv", image_size, classes, tuple(net.blocks))


class _V3(NamedTuple):
    """A row of MobileNetV3's tables."""

    kernel: int
    hidden: int
    out: int
    gate: bool
    activation: Act
    stride: int


# Source: Howard et al., MobileNetV3, 2019, tables 1 and 2.
_LARGE = (
    _V3(3, 16, 16, False, "relu", 1),
    _V3(3, 64, 24, False, "relu", 2),
    _V3(3, 72, 24, False, "relu", 1),
    _V3(5, 72, 40, True, "relu", 2),
    _V3(5, 120, 40, True, "relu", 1),
    _V3(5, 120, 40, True, "relu", 1),
    _V3(3, 240, 80, False, "hard_swish", 2),
    _V3(3, 200, 80, False, "hard_swish", 1),
    _V3(3, 184, 80, False, "hard_swish", 1),
    _V3(3, 184, 80, False, "hard_swish", 1),
    _V3(3, 480, 112, True, "hard_swish", 1),
    _V3(3, 672, 112, True, "hard_swish", 1),
    _V3(5, 672, 160, True, "hard_swish", 2),
    _V3(5, 960, 160, True, "hard_swish", 1),
    _V3(5, 960, 160, True, "hard_swish", 1),
)
_SMALL = (
    _V3(3, 16, 16, True, "relu", 2),
    _V3(3, 72, 24, False, "relu", 2),
    _V3(3, 88, 24, False, "relu", 1),
    _V3(5, 96, 40, True, "hard_swish", 2),
    _V3(5, 240, 40, True, "hard_swish", 1),
    _V3(5, 240, 40, True, "hard_swish", 1),
    _V3(5, 120, 48, True, "hard_swish", 1),
    _V3(5, 144, 48, True, "hard_swish", 1),
    _V3(5, 288, 96, True, "hard_swish", 2),
    _V3(5, 576, 96, True, "hard_swish", 1),
    _V3(5, 576, 96, True, "hard_swish", 1),
)


def _mobilenet_v3(net: Draft, rows: Sequence[_V3], output_stride: int) -> dict[int, str]:
    """Append a MobileNetV3 with its last convolution; return the last block of each stride."""
    last = net.add(Conv("conv1", (IMAGE,), 16, stride=2, activation="hard_swish"))
    into, parts = 16, []
    for row in rows:
        gate = _of_eight(row.hidden / 4) if row.gate else None
        parts.append(
            Inverted(into, row.hidden, row.out, row.kernel, row.stride, 1, row.activation, gate)
        )
        into = row.out
    ends = _inverted(net, last, parts, output_stride)
    deepest = max(ends)
    conv = Conv("conv_last", (ends[deepest],), 6 * into, 1, activation="hard_swish")
    return ends | {deepest: net.add(conv)}


def _of_eight(channels: float) -> int:
    """Round to the nearest multiple of eight, but never below 90 % of what was wished."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def _lraspp(name: str, rows: Sequence[_V3], image_size: tuple[int, int], classes: int) -> NetSpec:
    """Lite reduced ASPP: a pointwise layer gated by the picture's mean, and a skip at stride 8.

    Source: Howard et al., MobileNetV3, 2019, section 6.4 and figure 10, with the mean over the
    whole picture as torchvision has it.
    """
    net = Draft()
    ends = _mobilenet_v3(net, rows, output_stride=16)
    point = net.add(Conv("head", (ends[16],), 128, 1))
    mean = net.add(Bins("head_mean", (ends[16],)))
    gate = Conv("head_gate", (mean,), 128, 1, norm=False, activation="sigmoid")
    gated = net.add(Product("head_gated", (point, net.add(gate))))
    wide = net.add(Upsample("head_wide", (gated, ends[8])))
    high = net.classify(wide, "classifier_high")
    low = net.classify(ends[8], "classifier_low")
    both = net.add(Sum("classes_sum", (high, low)))
    return NetSpec(name, image_size, classes, net.finish(both))


def lraspp_mobilenet_v3_large(image_size: tuple[int, int], classes: int) -> NetSpec:
    """MobileNetV3-Large of output stride 16 with an LR-ASPP head."""
    return _lraspp("lraspp_mobilenet_v3_large", _LARGE, image_size, classes)


def lraspp_mobilenet_v3_small(image_size: tuple[int, int], classes: int) -> NetSpec:
    """MobileNetV3-Small of output stride 16 with an LR-ASPP head."""
    return _lraspp("lraspp_mobilenet_v3_small", _SMALL, image_size, classes)
