"""The blocks of a network as data: what each makes of its inputs, and what that costs.

A size is (channels, height, width). Counting convention: a MAC is one multiply-add and only
convolutions have any; parameters are the trainable ones, so a batch norm has two per channel and
the convolution before it no bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, TypeAlias

from annotated_types import Gt, Le

from mobileseg.errors import MobilesegError
from mobileseg.validate import Table

Size: TypeAlias = tuple[int, int, int]
# Beyond these a typing mistake is likelier than a wish.
MAX_CHANNELS = 16384
MAX_SIDE = 8192
Count: TypeAlias = Annotated[int, Gt(0), Le(MAX_CHANNELS)]
Side: TypeAlias = Annotated[int, Gt(0), Le(MAX_SIDE)]
Reach: TypeAlias = Annotated[int, Gt(0), Le(255)]  # of a kernel, a stride or a dilation
Channels: TypeAlias = Count | Literal["classes"]
Act: TypeAlias = Literal["none", "relu", "relu6"]
# The axes of a parameter by role: "out" channels that the block hands on, "in" channels that it
# gets, "filters" that a CReLU doubles into "out", "hidden" between a block's two convolutions where
# they are fewer than "in"; None for the kernel's own axes.
Role: TypeAlias = Literal["out", "in", "filters", "hidden", None]
Axes: TypeAlias = Mapping[str, tuple[Role, ...]]

IMAGE = "image"
_BATCH_NORM = ("weight", "bias", "running_mean", "running_var")


def same_pads(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Return TensorFlow's SAME padding (before, after) of one axis: the odd row goes after.

    Source: tensorflow.org, "Notes on padding in tf.nn.convolution".
    """
    reach = (kernel - 1) * dilation + 1
    total = max((-(-size // stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


@dataclass(frozen=True)
class Block(Table):
    """A named part of a network; `inputs` names the blocks, or the image, that it reads."""

    kind: ClassVar[str]
    name: str
    inputs: tuple[str, ...]

    def resolve(self, classes: int) -> Block:
        """Return the block with the word "classes" replaced by the number."""
        if getattr(self, "channels", None) == "classes":
            return replace(self, channels=classes)  # type: ignore[call-arg]
        return self

    def shape(self, inputs: Sequence[Size]) -> Size:
        """Return the output's size. Raises MobilesegError where the inputs do not fit."""
        raise NotImplementedError

    def params(self, inputs: Sequence[Size]) -> int:  # noqa: ARG002
        """Return the number of trainable parameters."""
        return 0

    def macs(self, inputs: Sequence[Size]) -> int:  # noqa: ARG002
        """Return the multiply-adds for one image."""
        return 0

    def axes(self) -> Axes:
        """Return the role of every axis of every parameter and buffer, by name."""
        return {}

    def _one(self, inputs: Sequence[Size]) -> Size:
        if len(inputs) != 1:
            raise MobilesegError(f"{self.name}: reads one block, not {len(inputs)}")
        return inputs[0]

    def _number(self, channels: Channels) -> int:
        if isinstance(channels, str):
            raise MobilesegError(f"{self.name}: channels {channels!r} is not yet a number")
        return channels


def _norm_axes(name: str, role: Role) -> dict[str, tuple[Role, ...]]:
    return {f"{name}.{part}": (role,) for part in _BATCH_NORM}


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
        tail: Axes = _norm_axes("norm", "out") if self.norm else {"conv.bias": ("out",)}
        return {**conv, **tail}


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
            **_norm_axes("dw_norm", between),
            "pw.weight": ("filters", between, None, None),
            **_norm_axes("norm", "out"),
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
        tail: Axes = _norm_axes("norm", "out") if self.norm else {"deconv.bias": ("out",)}
        return {**deconv, **tail}


@dataclass(frozen=True)
class Sum(Block):
    """Addition of two blocks of one size."""

    kind: ClassVar[str] = "sum"

    def shape(self, inputs: Sequence[Size]) -> Size:
        if len(inputs) != 2 or inputs[0] != inputs[1]:
            raise MobilesegError(f"{self.name}: adds two blocks of one size, not {list(inputs)}")
        return inputs[0]


@dataclass(frozen=True)
class Join(Block):
    """Concatenation of blocks along the channels."""

    kind: ClassVar[str] = "join"

    def shape(self, inputs: Sequence[Size]) -> Size:
        if len(inputs) < 2 or len({size[1:] for size in inputs}) != 1:
            raise MobilesegError(
                f"{self.name}: joins two or more blocks of one height and width, not {list(inputs)}"
            )
        return (sum(size[0] for size in inputs), *inputs[0][1:])


@dataclass(frozen=True)
class Upsample(Block):
    """Bilinear resize to (height, width), corners not aligned."""

    kind: ClassVar[str] = "upsample"
    size: tuple[Side, Side] = field(default=(1, 1))

    def shape(self, inputs: Sequence[Size]) -> Size:
        return (self._one(inputs)[0], *self.size)


BLOCKS: dict[str, type[Block]] = {
    cls.kind: cls for cls in (Conv, Separable, Deconv, Sum, Join, Upsample)
}
