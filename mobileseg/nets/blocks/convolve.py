"""Blocks with weights: convolutions, each with norm and activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from mobileseg.errors import MobilesegError
from mobileseg.nets.blocks.base import (
    Act,
    Axes,
    Block,
    Channels,
    Count,
    Reach,
    Role,
    Size,
    norm_axes,
)


@dataclass(frozen=True)
class Conv(Block):
    """Convolution with SAME padding, then batch norm and activation (or a bias and neither)."""

    kind: ClassVar[str] = "conv"
    channels: Channels
    kernel: Reach = 3
    stride: Reach = 1
    dilation: Reach = 1
    norm: bool = True
    activation: Act = "relu"

    def shape(self, inputs: Sequence[Size]) -> Size:
        _, h, w = self._one(inputs)
        return (self._number(self.channels), -(-h // self.stride), -(-w // self.stride))

    def params(self, inputs: Sequence[Size]) -> int:
        out = self._number(self.channels)
        return inputs[0][0] * out * self.kernel**2 + (2 * out if self.norm else out)

    def macs(self, inputs: Sequence[Size]) -> int:
        out, h, w = self.shape(inputs)
        return inputs[0][0] * out * self.kernel**2 * h * w

    def axes(self) -> Axes:
        conv: Axes = {"conv.weight": ("out", "in", None, None)}
        tail: Axes = norm_axes("norm", "out") if self.norm else {"conv.bias": ("out",)}
        return {**conv, **tail}


@dataclass(frozen=True)
class Depthwise(Block):
    """Depthwise convolution with SAME padding, batch norm and activation: one filter a channel."""

    kind: ClassVar[str] = "depthwise"
    kernel: Reach = 3
    stride: Reach = 1
    dilation: Reach = 1
    activation: Act = "relu"

    def shape(self, inputs: Sequence[Size]) -> Size:
        into, h, w = self._one(inputs)
        return (into, -(-h // self.stride), -(-w // self.stride))

    def params(self, inputs: Sequence[Size]) -> int:
        return inputs[0][0] * (self.kernel**2 + 2)

    def macs(self, inputs: Sequence[Size]) -> int:
        into, h, w = self.shape(inputs)
        return into * self.kernel**2 * h * w

    def axes(self) -> Axes:
        return {"conv.weight": ("in", None, None, None), **norm_axes("norm", "in")}


@dataclass(frozen=True)
class Separable(Block):
    """MobileNetV1's block: depthwise, then pointwise convolution, each with norm and activation.

    The stride is the depthwise layer's. With `crelu` the pointwise output x becomes
    concat(x, -x) before norm and activation, so the block hands on twice its channels. `depthwise`
    is the depthwise layer's channels, by default as many as come in. A smaller number must divide
    those: then the layer narrows, and each of its filters reads in / depthwise neighbouring
    channels; its weight is (depthwise, in / depthwise, kernel, kernel).
    Source: Howard et al., MobileNets, 2017; Shang et al., CReLU, 2016; grouped convolution as
    Caffe's Convolution layer has it, num_output = group.
    """

    kind: ClassVar[str] = "separable"
    channels: Count
    kernel: Reach = 3
    stride: Reach = 1
    dilation: Reach = 1
    crelu: bool = False
    activation: Act = "relu"
    depthwise: Count | None = None

    @property
    def out_channels(self) -> int:
        """Channels handed on."""
        return self.channels * (2 if self.crelu else 1)

    def hidden(self, into: int) -> int:
        """Return the depthwise layer's channels where `into` come in.

        Raises MobilesegError where `depthwise` does not divide `into`.
        """
        if self.depthwise is None:
            return into
        if self.depthwise < 1 or into % self.depthwise:
            most = max(1, min(self.depthwise, into))
            divisor = next(n for n in range(most, 0, -1) if into % n == 0)
            raise MobilesegError(
                f"{self.name}: depthwise {self.depthwise} does not divide the {into} channels that "
                f"the block reads; take a divisor of {into}, such as {divisor}"
            )
        return self.depthwise

    def shape(self, inputs: Sequence[Size]) -> Size:
        into, h, w = self._one(inputs)
        self.hidden(into)
        return (self.out_channels, -(-h // self.stride), -(-w // self.stride))

    def params(self, inputs: Sequence[Size]) -> int:
        into = inputs[0][0]
        hidden = self.hidden(into)
        # Fewer filters read more channels each: the depthwise weight has `into` slices either way.
        depthwise = into * self.kernel**2 + 2 * hidden
        return depthwise + hidden * self.channels + 2 * self.out_channels

    def macs(self, inputs: Sequence[Size]) -> int:
        into = inputs[0][0]
        _, h, w = self.shape(inputs)
        return (into * self.kernel**2 + self.hidden(into) * self.channels) * h * w

    def axes(self) -> Axes:
        between: Role = "in" if self.depthwise is None else "hidden"
        return {
            "dw.weight": (between, None, None, None),
            **norm_axes("dw_norm", between),
            "pw.weight": ("filters", between, None, None),
            **norm_axes("norm", "out"),
        }


@dataclass(frozen=True)
class Deconv(Block):
    """Transposed convolution that multiplies the resolution by its stride, norm, activation."""

    kind: ClassVar[str] = "deconv"
    channels: Channels
    kernel: Reach = 4
    stride: Reach = 2
    norm: bool = True
    activation: Act = "relu"

    def shape(self, inputs: Sequence[Size]) -> Size:
        _, h, w = self._one(inputs)
        if self.kernel < self.stride or (self.kernel - self.stride) % 2:
            raise MobilesegError(
                f"{self.name}: kernel {self.kernel} with stride {self.stride}; their difference "
                "is even and not negative, so that the size is exactly multiplied"
            )
        return (self._number(self.channels), h * self.stride, w * self.stride)

    def params(self, inputs: Sequence[Size]) -> int:
        out = self._number(self.channels)
        return inputs[0][0] * out * self.kernel**2 + (2 * out if self.norm else out)

    def macs(self, inputs: Sequence[Size]) -> int:
        into, h, w = inputs[0]
        return into * self._number(self.channels) * self.kernel**2 * h * w

    def axes(self) -> Axes:
        deconv: Axes = {"deconv.weight": ("in", "out", None, None)}
        tail: Axes = norm_axes("norm", "out") if self.norm else {"deconv.bias": ("out",)}
        return {**deconv, **tail}


@dataclass(frozen=True)
class Gate(Block):
    """Squeeze-and-excite: each channel times what two small layers make of all channels' means.

    `channels` are those between the two layers.
    Source: Hu et al., Squeeze-and-Excitation Networks, 2018; Howard et al., MobileNetV3, 2019.
    """

    kind: ClassVar[str] = "gate"
    channels: Count
    activation: Act = "hard_sigmoid"

    def shape(self, inputs: Sequence[Size]) -> Size:
        return self._one(inputs)

    def params(self, inputs: Sequence[Size]) -> int:
        into = inputs[0][0]
        return 2 * into * self.channels + self.channels + into

    def macs(self, inputs: Sequence[Size]) -> int:
        return 2 * inputs[0][0] * self.channels

    def axes(self) -> Axes:
        return {
            "squeeze.weight": ("hidden", "in", None, None),
            "squeeze.bias": ("hidden",),
            "excite.weight": ("in", "hidden", None, None),
            "excite.bias": ("in",),
        }
