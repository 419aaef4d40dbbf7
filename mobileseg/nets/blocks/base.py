"""What every block of a network has: a name, inputs, and answers about sizes, costs and roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
Act: TypeAlias = Literal["none", "relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid"]
# The axes of a parameter by role: "out" channels that the block hands on, "in" channels that it
# gets, "filters" that a CReLU doubles into "out", "hidden" between a block's two convolutions where
# they are not those of "in"; None for the kernel's own axes.
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

    def carriers(self) -> tuple[str, ...]:
        """Return the inputs whose channels the block hands on, where it makes none itself."""
        return self.inputs

    def _one(self, inputs: Sequence[Size]) -> Size:
        if len(inputs) != 1:
            raise MobilesegError(f"{self.name}: reads one block, not {len(inputs)}")
        return inputs[0]

    def _number(self, channels: Channels) -> int:
        if isinstance(channels, str):
            raise MobilesegError(f"{self.name}: channels {channels!r} is not yet a number")
        return channels


def norm_axes(name: str, role: Role) -> dict[str, tuple[Role, ...]]:
    return {f"{name}.{part}": (role,) for part in _BATCH_NORM}
