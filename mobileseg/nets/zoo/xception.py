"""Xception-65 as DeepLabV3+ has it: separable convolutions throughout, residual modules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mobileseg.nets.blocks import IMAGE, Act, Activate, Conv, Depthwise, Separable, Sum
from mobileseg.nets.spec import NetSpec
from mobileseg.nets.zoo.deeplab import RATES, deeplab_head
from mobileseg.nets.zoo.draft import Draft


def deeplabv3plus_xception65(image_size: tuple[int, int], classes: int) -> NetSpec:
    """DeepLabV3+ over Xception-65 of output stride 16."""
    return _deeplab("deeplabv3plus_xception65", 16, image_size, classes)


def deeplabv3plus_xception65_os8(image_size: tuple[int, int], classes: int) -> NetSpec:
    """DeepLabV3+ over Xception-65 of output stride 8, its dilation rates doubled."""
    return _deeplab("deeplabv3plus_xception65_os8", 8, image_size, classes)


def _deeplab(name: str, output_stride: int, image_size: tuple[int, int], classes: int) -> NetSpec:
    """Source: Chen et al., DeepLabV3+, 2018, figure 4 (modified aligned Xception)."""
    net = Draft()
    last = net.add(Conv("stem1", (IMAGE,), 32, stride=2))
    last = net.add(Conv("stem2", (last,), 64))
    last = _Module((128,) * 3, stride=2).add(net, "entry1", last, into_relu=True)
    last = _Module((256,) * 3, stride=2).add(net, "entry2", last)
    # Before the stride: the decoder's skip is the second separable convolution's output.
    low = "entry2_point2"
    dilation = 1
    coarse = output_stride == 16
    last = _Module((728,) * 3, stride=2 if coarse else 1).add(net, "entry3", last)
    dilation = 1 if coarse else 2
    for number in range(1, 17):
        module = _Module((728,) * 3, dilation=dilation, shortcut="sum")
        last = module.add(net, f"middle{number}", last)
    last = _Module((728, 1024, 1024), dilation=dilation).add(net, "exit1", last)
    for number, channels in enumerate((1536, 1536, 2048), 1):
        block = Separable(f"exit2_sep{number}", (last,), channels, dilation=2 * dilation)
        last = net.add(block)
    rates = tuple(rate * dilation for rate in RATES)
    last = deeplab_head(net, last, low, rates)
    return NetSpec(name, image_size, classes, net.finish(last))


@dataclass(frozen=True)
class _Module:
    """Three separable convolutions without activations inside, ReLU before each, and a shortcut.

    The stride is the third one's. shortcut: "conv" (1x1, for a change of size) or "sum".
    """

    channels: Sequence[int]
    stride: int = 1
    dilation: int = 1
    shortcut: str = "conv"

    def add(self, net: Draft, name: str, source: str, into_relu: bool = False) -> str:
        """Append its blocks; `into_relu`: its input has been through a ReLU already."""
        last = source if into_relu else net.add(Activate(f"{name}_relu", (source,)))
        for number, channels in enumerate(self.channels, 1):
            end = number == len(self.channels)
            last = net.add(
                Depthwise(
                    f"{name}_dw{number}",
                    (last,),
                    stride=self.stride if end else 1,
                    dilation=self.dilation,
                    activation="none",
                )
            )
            function: Act = "none" if end else "relu"
            last = net.add(Conv(f"{name}_point{number}", (last,), channels, 1, activation=function))
        if self.shortcut == "conv":
            short = Conv(
                f"{name}_short", (source,), self.channels[-1], 1, self.stride, activation="none"
            )
            source = net.add(short)
        return net.add(Sum(f"{name}_sum", (source, last)))
