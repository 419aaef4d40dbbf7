"""What the zoo's networks are written with: blocks in the making, and the compounds they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mobileseg.nets.blocks import (
    Act,
    Bins,
    Block,
    Conv,
    Depthwise,
    Gate,
    Join,
    Separable,
    Sum,
    Upsample,
)


@dataclass
class Draft:
    """Blocks in the making, in running order."""

    blocks: list[Block] = field(default_factory=list)

    def add(self, block: Block) -> str:
        """Append a block; return its name, for others to read."""
        self.blocks.append(block)
        return block.name

    def classify(self, source: str, name: str = "classifier") -> str:
        """A 1x1 convolution to the classes."""
        head = Conv(name, (source,), "classes", kernel=1, norm=False, activation="none")
        return self.add(head)

    def finish(self, source: str) -> tuple[Block, ...]:
        """Return the blocks with a last resize of `source` to the image's size."""
        self.add(Upsample("upsample", (source, "image")))
        return tuple(self.blocks)


@dataclass(frozen=True)
class Inverted:
    """An inverted residual: expand, depthwise, squeeze-and-excite if `gate`, project.

    into, hidden, out, gate: channels. Where it changes neither size nor channels, its input is
    added. Source: Sandler et al., MobileNetV2, 2018; Howard et al., MobileNetV3, 2019.
    """

    into: int
    hidden: int
    out: int
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    activation: Act = "relu6"
    gate: int | None = None

    def add(self, net: Draft, name: str, source: str) -> str:
        """Append its blocks, `name_expand` to `name_sum`; return the last one's name."""
        last = source
        if self.hidden != self.into:
            expand = Conv(f"{name}_expand", (last,), self.hidden, 1, activation=self.activation)
            last = net.add(expand)
        last = net.add(
            Depthwise(
                f"{name}_dw", (last,), self.kernel, self.stride, self.dilation, self.activation
            )
        )
        if self.gate:
            last = net.add(Gate(f"{name}_gate", (last,), self.gate))
        last = net.add(Conv(f"{name}_project", (last,), self.out, 1, activation="none"))
        if self.stride == 1 and self.into == self.out:
            last = net.add(Sum(f"{name}_sum", (source, last)))
        return last


def aspp(
    net: Draft, source: str, channels: int, rates: Sequence[int], separable: bool = True
) -> str:
    """Atrous spatial pyramid pooling: 1x1, one 3x3 per dilation rate, the picture's mean; joined.

    Source: Chen et al., DeepLabV3+, 2018, section 3 (with separable convolutions).
    """
    kind = Separable if separable else Conv
    parts = [net.add(Conv("aspp_point", (source,), channels, 1))]
    for number, rate in enumerate(rates, 1):
        block = kind(f"aspp_rate{number}", (source,), channels, dilation=rate)
        parts.append(net.add(block))
    mean = net.add(Bins("aspp_mean", (source,)))
    point = net.add(Conv("aspp_mean_point", (mean,), channels, 1))
    parts.append(net.add(Upsample("aspp_mean_spread", (point, source))))
    joined = net.add(Join("aspp_join", tuple(parts)))
    return net.add(Conv("aspp", (joined,), channels, 1))


def pyramid(net: Draft, source: str, bins: Sequence[int], channels: int) -> str:
    """The means over grids of bins, each through a 1x1 convolution, joined to what they are of.

    Source: Zhao et al., PSPNet, 2017, section 3.2.
    """
    parts = [source]
    for each in bins:
        mean = net.add(Bins(f"pyramid{each}_mean", (source,), each))
        point = net.add(Conv(f"pyramid{each}_point", (mean,), channels, 1))
        parts.append(net.add(Upsample(f"pyramid{each}_spread", (point, source))))
    return net.add(Join("pyramid_join", tuple(parts)))


def basic(net: Draft, name: str, source: str, channels: int) -> str:
    """Two 3x3 convolutions and their input added. Source: He et al., ResNet, 2016, figure 5."""
    last = net.add(Conv(f"{name}_conv1", (source,), channels))
    last = net.add(Conv(f"{name}_conv2", (last,), channels, activation="none"))
    return net.add(Sum(f"{name}_sum", (source, last), activation="relu"))


def bottleneck(
    net: Draft,
    name: str,
    source: str,
    into: int,
    inner: int,
    stride: int = 1,
    dilation: int = 1,
    early: bool = False,
) -> str:
    """1x1, 3x3 and 1x1 convolution to four times `inner`, and their input added.

    The stride is the 3x3's, or where `early`, as Caffe's nets have it, the first 1x1's.
    Source: He et al., ResNet, 2016, figure 5.
    """
    first, second = (stride, 1) if early else (1, stride)
    last = net.add(Conv(f"{name}_conv1", (source,), inner, 1, first))
    last = net.add(Conv(f"{name}_conv2", (last,), inner, 3, second, dilation))
    last = net.add(Conv(f"{name}_conv3", (last,), 4 * inner, 1, activation="none"))
    if into != 4 * inner or stride != 1:
        short = Conv(f"{name}_short", (source,), 4 * inner, 1, stride, activation="none")
        source = net.add(short)
    return net.add(Sum(f"{name}_sum", (source, last), activation="relu"))
